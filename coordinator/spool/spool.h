#ifndef KOINON_COORDINATOR_SPOOL_SPOOL_H_
#define KOINON_COORDINATOR_SPOOL_SPOOL_H_

#include <cstdint>
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
#include "coordinator/spool/extents.h"

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
    uint64_t max_bytes;  // of the file; counted in whole blocks
  };
  // Extents start at multiples of it and are rounded up to it, so that no two
  // updates share a page.
  static constexpr uint64_t kBlockBytes = 4096;

  // Opens or creates `path`. `taken`: extents that the journal names.
  // DATA_LOSS if one of them lies outside the file or overlaps another. A file
  // over max_bytes is cut as far as `taken` allows.
  static absl::StatusOr<std::unique_ptr<Spool>> Open(
      Env* env, const std::string& path, Options options,
      absl::Span<const SpoolExtent> taken);

  // RESOURCE_EXHAUSTED, saying which bound, when max_bytes or the disk is full:
  // nothing is changed, and later calls may succeed. INVALID_ARGUMENT for a
  // size of 0.
  absl::StatusOr<SpoolExtent> Allocate(uint64_t size);
  // Requires an extent from Allocate or from `taken`, once.
  void Release(const SpoolExtent& extent);

  // Both at `offset` of the extent. INVALID_ARGUMENT beyond its end.
  absl::Status Write(const SpoolExtent& extent, uint64_t offset,
                     const void* data, size_t size);
  absl::Status Read(const SpoolExtent& extent, uint64_t offset, void* data,
                    size_t size) const;
  // Everything written before is durable on return. A failure is final: the
  // process must stop and start again from the journal; until it does, Write
  // and Sync return the same failure.
  absl::Status Sync();

  // The extent as fp32 parameters (size / 4 of them). Must not outlive the
  // spool.
  std::unique_ptr<aggregation::UpdateSource> Source(
      const SpoolExtent& extent) const;
  // SHA-256 of the extent, read back.
  absl::StatusOr<Digest> DigestOf(const SpoolExtent& extent) const;

  // In whole blocks.
  uint64_t allocated_bytes() const;
  uint64_t file_bytes() const;

 private:
  Spool(std::unique_ptr<File> file, std::string path, Options options);

  // Frees everything that `taken` leaves; called once.
  absl::Status Adopt(absl::Span<const SpoolExtent> taken);
  // Makes room for `size` more bytes at the file's end.
  absl::Status Grow(uint64_t size) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Full(uint64_t size) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status failure() const;

  const std::unique_ptr<File> file_;
  const std::string path_;
  const Options options_;
  Mutex sync_mutex_;  // held while syncing; taken before mutex_
  mutable Mutex mutex_;
  FreeExtents free_ ABSL_GUARDED_BY(mutex_);
  uint64_t file_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t allocated_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status sync_failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SPOOL_SPOOL_H_
