#include "worker/store/model_cache.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/store/file_digest.h"

namespace koinon::worker {
namespace {

constexpr char kModel[] = ".safetensors";
constexpr char kPartial[] = ".partial";
constexpr char kManifest[] = ".manifest";

absl::StatusOr<uint64_t> SizeOf(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  return file->Size();
}

}  // namespace

ModelCache::Lease::~Lease() { cache_->Release(digest_); }

absl::StatusOr<std::unique_ptr<ModelCache>> ModelCache::Open(
    Env* env, const std::string& dir, Options options) {
  ABSL_RETURN_IF_ERROR(env->MakeDirs(dir));
  std::unique_ptr<ModelCache> cache(new ModelCache(env, dir, options));
  ABSL_RETURN_IF_ERROR(cache->Recover());
  return cache;
}

absl::Status ModelCache::Recover() {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_->List(dir_));
  MutexLock lock(&mutex_);
  std::optional<std::string> kept_partial;
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(dir_, "/", name);
    if (absl::EndsWith(name, kModel)) {
      const auto digest = Digest::FromHex(absl::StripSuffix(name, kModel));
      if (!digest.ok()) continue;  // not ours
      ABSL_ASSIGN_OR_RETURN(entries_[*digest].size, SizeOf(env_, path));
    } else if (absl::EndsWith(name, kPartial)) {
      // One fetch was under way at most: any other has been given up.
      if (kept_partial.has_value()) {
        ABSL_RETURN_IF_ERROR(env_->Remove(path));
      } else {
        kept_partial = std::string(absl::StripSuffix(name, kPartial));
      }
    }
  }
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kManifest)) continue;
    if (kept_partial == absl::StripSuffix(name, kManifest)) continue;
    ABSL_RETURN_IF_ERROR(env_->Remove(absl::StrCat(dir_, "/", name)));
  }
  EvictOverBounds();
  return absl::OkStatus();
}

std::string ModelCache::PathOf(const Digest& digest) const {
  return absl::StrCat(dir_, "/", digest.ToHex(), kModel);
}
std::string ModelCache::PartialPath(const Digest& digest) const {
  return absl::StrCat(dir_, "/", digest.ToHex(), kPartial);
}
std::string ModelCache::ManifestPath(const Digest& digest) const {
  return absl::StrCat(dir_, "/", digest.ToHex(), kManifest);
}

std::unique_ptr<ModelCache::Lease> ModelCache::Find(const Digest& digest) {
  std::unique_ptr<Lease> lease;  // held while the file is read
  bool verified = false;
  {
    MutexLock lock(&mutex_);
    const auto it = entries_.find(digest);
    if (it == entries_.end()) return nullptr;
    lease = NewLease(digest);
    verified = it->second.verified;
  }
  if (verified) return lease;
  const absl::Status status = Verify(digest);
  MutexLock lock(&mutex_);
  if (status.ok()) {
    entries_[digest].verified = true;
    return lease;
  }
  LogWarning("a cached model is damaged and fetched anew",
             {{"model", digest.ToShortHex()}, {"reason", status}});
  (void)env_->Remove(PathOf(digest));  // the fetch replaces it in any case
  entries_.erase(digest);
  return nullptr;
}

absl::Status ModelCache::Verify(const Digest& digest) const {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env_->Open(PathOf(digest), Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  ABSL_ASSIGN_OR_RETURN(const Digest found, DigestOfFile(*file, size));
  if (found == digest) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(PathOf(digest), ": has digest ", found.ToShortHex()));
}

absl::StatusOr<std::unique_ptr<ModelCache::Lease>> ModelCache::Adopt(
    const Digest& digest) {
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(env_, PartialPath(digest)));
  ABSL_RETURN_IF_ERROR(env_->Rename(PartialPath(digest), PathOf(digest)));
  if (env_->Exists(ManifestPath(digest))) {
    ABSL_RETURN_IF_ERROR(env_->Remove(ManifestPath(digest)));
  }
  std::unique_ptr<Lease> lease;
  MutexLock lock(&mutex_);
  Entry& entry = entries_[digest];
  entry.size = size;
  entry.verified = true;
  lease = NewLease(digest);
  EvictOverBounds();
  return lease;
}

std::unique_ptr<ModelCache::Lease> ModelCache::NewLease(const Digest& digest) {
  Entry& entry = entries_[digest];
  ++entry.leases;
  entry.last_use = ++uses_;
  return std::unique_ptr<Lease>(new Lease(this, digest, PathOf(digest)));
}

bool ModelCache::OverBounds() const {
  size_t idle = 0;
  uint64_t bytes = 0;
  for (const auto& [digest, entry] : entries_) {
    if (entry.leases == 0) ++idle;
    bytes += entry.size;
  }
  return idle > options_.max_models || bytes > options_.max_bytes;
}

void ModelCache::EvictOverBounds() {
  while (OverBounds()) {
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->second.leases > 0) continue;
      if (oldest == entries_.end() ||
          it->second.last_use < oldest->second.last_use) {
        oldest = it;
      }
    }
    if (oldest == entries_.end()) return;  // all are in use
    const absl::Status status = env_->Remove(PathOf(oldest->first));
    if (!status.ok()) {
      LogWarning("cannot remove a cached model", {{"reason", status}});
    }
    entries_.erase(oldest);
  }
}

void ModelCache::Release(const Digest& digest) {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(digest);
  if (it == entries_.end()) return;
  --it->second.leases;
  EvictOverBounds();
}

}  // namespace koinon::worker
