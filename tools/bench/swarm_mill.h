#ifndef KOINON_TOOLS_BENCH_SWARM_MILL_H_
#define KOINON_TOOLS_BENCH_SWARM_MILL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/env.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/service_type.h"

namespace koinon::bench {

// What a swarm is measured by: the same bytes over the same connections, but as
// one plain stream from each process to the next. There are no pieces to
// choose, no news of them and nobody to find.

// Answers Fetch with the blocks of a content of `size_bytes`, in order, for as
// long as the caller wants more: those of `file`, or without one from memory,
// always the same bytes. Thread-safe.
std::unique_ptr<grpc::Service> NewMillService(int64_t size_bytes,
                                              std::unique_ptr<File> file);

// Asks such a service for all of a content and gives its bytes to `take`, in
// order, whole leaves at a time. Returns the first error, of the stream or of
// `take`; UNAVAILABLE if the stream ends early.
absl::Status PullThroughMill(
    std::shared_ptr<grpc::Channel> channel, int64_t size_bytes,
    const std::function<absl::Status(absl::Span<const uint8_t>)>& take);

// A file that takes a content's bytes, in order, each leaf compared with its
// hash before it is written. Not thread-safe.
class VerifiedCopy {
 public:
  // `leaves`: the hashes of all of the content's.
  static absl::StatusOr<std::unique_ptr<VerifiedCopy>> Create(
      Env* env, const std::string& path, std::vector<Digest> leaves);

  // Whole leaves, but for the content's last. DATA_LOSS, naming the first leaf
  // that is not the content's: then nothing is written.
  absl::Status Append(absl::Span<const uint8_t> bytes);
  // After the last: durable. DATA_LOSS if leaves are missing.
  absl::Status Finish();

 private:
  VerifiedCopy(std::unique_ptr<File> file, std::vector<Digest> leaves)
      : file_(std::move(file)), leaves_(std::move(leaves)) {}

  const std::unique_ptr<File> file_;
  const std::vector<Digest> leaves_;
  size_t next_ = 0;  // leaf
  int64_t written_ = 0;
};

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_SWARM_MILL_H_
