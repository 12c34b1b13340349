#ifndef KOINON_WORKER_DATA_TOKENS_H_
#define KOINON_WORKER_DATA_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/data/dataset.pb.h"

namespace koinon::worker {

// The tokens of a text, in memory or in a mapped file. Immutable; thread-safe.
class Tokens {
 public:
  virtual ~Tokens() = default;

  virtual absl::Span<const uint16_t> values() const = 0;
  // DATA_LOSS if the tokens can no longer be read because their file was cut
  // short. Whoever reads a few asks first: to read what a file has lost is
  // fatal.
  virtual absl::Status Check() const = 0;
  // A hint that tokens [begin, begin + count) are read soon: the kernel fetches
  // those of a mapped file from the disk in the meantime. Requires that they
  // exist.
  virtual void WillRead(uint64_t begin, uint64_t count) const = 0;
};

// In memory.
std::shared_ptr<const Tokens> MakeTokens(std::vector<uint16_t> values);

// Maps the file of `source` from the machine's own file system. Takes no memory
// for the tokens but what the kernel keeps of the file. NOT_FOUND and the like
// for a file that cannot be opened; INVALID_ARGUMENT for one of an odd size or
// with another header than `source` says (says what was expected and found).
absl::StatusOr<std::shared_ptr<const Tokens>> MapTokens(
    const TokenSource& source);

// Where in a file of `file_bytes` bytes, of which `front` are the first (all,
// or at least kTokenHeaderBytes), its tokens lie. Errors as MapTokens.
struct TokenExtent {
  uint64_t offset_bytes = 0;
  uint64_t count = 0;
};
inline constexpr size_t kTokenHeaderBytes = 1024;
absl::StatusOr<TokenExtent> LocateTokens(const TokenSource& source,
                                         absl::Span<const uint8_t> front,
                                         uint64_t file_bytes);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_TOKENS_H_
