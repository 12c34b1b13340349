#ifndef KOINON_WORKER_STORE_MODEL_CACHE_H_
#define KOINON_WORKER_STORE_MODEL_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/mutex.h"

namespace koinon::worker {

// Model versions on disk, named by the digests of their files: the base that is
// trained from, and the last few, because the same version is evaluated after
// it was trained from. DIR/DIGEST.safetensors, and DIR/DIGEST.partial while it
// is fetched.
//
// A cache: nothing in it is synced; what a power loss has torn is found by its
// digest, which is checked before the first use in each process. Thread-safe;
// one digest is fetched by one thread at a time.
class ModelCache {
 public:
  struct Options {
    // Beside those in use.
    size_t max_models = 4;
    uint64_t max_bytes = uint64_t{32} << 30;
  };

  // A model in use: it stays on disk while this lives. Must not outlive the
  // cache.
  class Lease {
   public:
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    const std::string& path() const { return path_; }

   private:
    friend class ModelCache;
    Lease(ModelCache* cache, const Digest& digest, std::string path)
        : cache_(cache), digest_(digest), path_(std::move(path)) {}
    ModelCache* const cache_;
    const Digest digest_;
    const std::string path_;
  };

  // Opens or creates `dir`, which belongs to this cache alone.
  static absl::StatusOr<std::unique_ptr<ModelCache>> Open(
      Env* env, const std::string& dir, Options options);

  // Null if it is not there; a file that is not what its name says is removed.
  std::unique_ptr<Lease> Find(const Digest& digest);

  // Where a fetch of the version keeps its bytes and its manifest. Both survive
  // a crash, so that the fetch goes on where it broke off.
  std::string PartialPath(const Digest& digest) const;
  std::string ManifestPath(const Digest& digest) const;

  // The partial file is whole and its digest has been checked: it enters the
  // cache, and others leave if a bound is passed.
  absl::StatusOr<std::unique_ptr<Lease>> Adopt(const Digest& digest);

 private:
  struct Entry {
    uint64_t size = 0;
    bool verified = false;
    int leases = 0;
    uint64_t last_use = 0;
  };

  ModelCache(Env* env, std::string dir, Options options)
      : env_(env), dir_(std::move(dir)), options_(options) {}

  std::string PathOf(const Digest& digest) const;
  absl::Status Recover();
  absl::Status Verify(const Digest& digest) const;
  std::unique_ptr<Lease> NewLease(const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EvictOverBounds() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OverBounds() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(const Digest& digest);

  Env* const env_;
  const std::string dir_;
  const Options options_;
  mutable Mutex mutex_;
  std::map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_STORE_MODEL_CACHE_H_
