#ifndef KOINON_COORDINATOR_SPOOL_SPOOL_H_
#define KOINON_COORDINATOR_SPOOL_SPOOL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/update_set.h"
#include "base/env.h"
#include "base/mutex.h"
#include "coordinator/journal/journal.h"

namespace koinon::coordinator {

// Received updates on disk until their round is published: one file, reused
// round after round (a fresh file's first write costs a virtual disk ten times
// a rewrite), in which each update has an extent. Which extents are taken is
// the journal's knowledge; the spool only keeps the free list. One Sync makes
// every write before it durable, so that updates that finish together share it.
// Thread-safe; the extents' contents are the callers' to keep apart.
class Spool {
 public:
  struct Options {
    uint64_t max_bytes;  // of the file
  };

  // Opens or creates `path`. `taken`: extents that the journal names.
  // DATA_LOSS if one of them lies outside the file or overlaps another.
  static absl::StatusOr<std::unique_ptr<Spool>> Open(
      Env* env, const std::string& path, Options options,
      absl::Span<const SpoolExtent> taken);

  // RESOURCE_EXHAUSTED, saying which bound, when max_bytes or the disk is full.
  absl::StatusOr<SpoolExtent> Allocate(uint64_t size);
  // Requires an extent from Allocate or from `taken`, once.
  void Release(const SpoolExtent& extent);

  absl::Status Write(const SpoolExtent& extent, uint64_t offset,
                     const void* data, size_t size);
  // Everything written before is durable on return. A failure is final: the
  // process must stop and start again from the journal.
  absl::Status Sync();

  // The extent as fp32 parameters. Must not outlive the spool.
  std::unique_ptr<aggregation::UpdateSource> Source(
      const SpoolExtent& extent) const;
  // SHA-256 of the extent's first `size` bytes, read back.
  absl::StatusOr<Digest> DigestOf(const SpoolExtent& extent) const;

  uint64_t allocated_bytes() const;
  uint64_t file_bytes() const;

 private:
  Spool(std::unique_ptr<File> file, Options options);

  const std::unique_ptr<File> file_;
  const Options options_;
  mutable Mutex mutex_;
  std::map<uint64_t, uint64_t> free_ ABSL_GUARDED_BY(mutex_);  // offset -> size
  uint64_t file_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t allocated_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SPOOL_SPOOL_H_
