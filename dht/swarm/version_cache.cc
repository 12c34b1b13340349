#include "dht/swarm/version_cache.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/swarm/version_cache_state.h"

namespace koinon::dht {
namespace {

constexpr size_t kReadBytes = 1 << 20;

// Nothing is known of what could not be read for want of descriptors, or was
// not read to its end.
bool IsNoVerdict(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsResourceExhausted(status);
}

}  // namespace

VersionCache::Lease::~Lease() { cache_->Release(digest_); }

VersionCache::VersionCache(Env* env, std::string dir, Options options,
                           SwarmHost* peer)
    : state_(std::make_unique<State>(env, std::move(dir), std::move(options),
                                     peer, this)) {}

absl::StatusOr<std::unique_ptr<VersionCache>> VersionCache::Open(
    Env* env, const std::string& dir, Options options, SwarmHost* peer) {
  ABSL_RETURN_IF_ERROR(env->MakeDirs(dir));
  ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(dir)));
  std::unique_ptr<VersionCache> cache(
      new VersionCache(env, dir, std::move(options), peer));
  State* const state = cache->state_.get();
  ABSL_RETURN_IF_ERROR(state->Recover());
  state->checker = std::thread([state] { state->CheckAll(); });
  return cache;
}

VersionCache::~VersionCache() {
  State::Gone all;
  {
    MutexLock lock(&state_->mutex);
    state_->stopping = true;
    for (const auto& [digest, entry] : state_->entries) {
      all.digests.push_back(digest);
      all.roots.push_back(RootOf(entry.manifest.content()));
    }
    for (const auto& [root, delta] : state_->deltas) all.roots.push_back(root);
  }
  if (state_->checker.joinable()) state_->checker.join();
  state_->TakeOff(all);
}

std::unique_ptr<VersionCache::Lease> VersionCache::Find(const Digest& digest) {
  return state_->FindVerified(digest);
}

absl::StatusOr<VersionCache::Fetched> VersionCache::Fetch(
    const Wanted& wanted, const std::function<bool()>& cancelled) {
  return state_->Fetch(wanted, cancelled);
}

std::vector<v1::VersionManifest> VersionCache::List() const {
  MutexLock lock(&state_->mutex);
  std::vector<v1::VersionManifest> manifests;
  for (const auto& [digest, entry] : state_->entries) {
    manifests.push_back(entry.manifest);
  }
  return manifests;
}

VersionCache::Counts VersionCache::counts() const {
  MutexLock lock(&state_->mutex);
  return state_->counts;
}

void VersionCache::Release(const Digest& digest) {
  State::Gone gone;
  {
    MutexLock lock(&state_->mutex);
    const auto it = state_->entries.find(digest);
    if (it == state_->entries.end()) return;
    --it->second.leases;
    gone = state_->Evict();
  }
  state_->TakeOff(gone);
}

// ---- Checked before it is used or served ----

absl::StatusOr<std::shared_ptr<ContentFile>> VersionCache::State::Check(
    const std::string& path, const v1::Content& content) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  const uint64_t size = content.size_bytes();
  MerkleBuilder builder;
  std::vector<uint8_t> buffer(kReadBytes);
  for (uint64_t at = 0; at < size; at += buffer.size()) {
    const size_t part = std::min<uint64_t>(buffer.size(), size - at);
    ABSL_RETURN_IF_ERROR(file->ReadAt(at, part, buffer.data()));
    builder.Append(buffer.data(), part);
    MutexLock lock(&mutex);
    if (stopping) return absl::CancelledError("the cache is closed");
  }
  return ContentFile::OpenWhole(env, path, content, builder.Finish());
}

std::unique_ptr<VersionCache::Lease> VersionCache::State::FindVerified(
    const Digest& digest) {
  std::unique_ptr<Lease> lease;  // held while the file is read
  v1::VersionManifest manifest;
  {
    MutexLock lock(&mutex);
    while (entries.contains(digest) && entries[digest].verifying) {
      changed.Wait(&mutex);
    }
    if (!entries.contains(digest)) return nullptr;
    Entry& entry = entries[digest];
    // While others use it, it can neither go nor be brought anew.
    const bool checked =
        entry.verified && (entry.leases > 0 || !HasLost(entry));
    lease = NewLease(digest);
    if (checked) return lease;
    entry.verifying = true;
    manifest = entry.manifest;
  }
  const auto file = Check(PathOf(digest, kModel), manifest.content());
  if (file.ok()) {  // whoever finds it here finds it served
    host->board()->Add(*file, digest);
    host->Provide(digest, ImportanceOf(manifest));
    ServeDeltasOf(manifest);
  } else {
    TakeOff({.roots = {RootOf(manifest.content())}, .digests = {digest}});
  }
  {
    MutexLock lock(&mutex);
    Entry& entry = entries[digest];
    entry.verifying = false;
    entry.verified = file.ok();
    changed.SignalAll();
    if (IsNoVerdict(file.status())) return nullptr;
    if (!file.ok()) {
      LogWarning("a kept model is damaged and removed",
                 {{"model", digest.ToShortHex()}, {"reason", file.status()}});
      RemoveModel(digest);
      entries.erase(digest);
      return nullptr;
    }
  }
  return lease;
}

bool VersionCache::State::HasLost(const Entry& entry) const {
  const auto served = host->board()->Find(RootOf(entry.manifest.content()));
  return served != nullptr && !served->complete();
}

void VersionCache::State::ServeDeltasOf(const v1::VersionManifest& manifest) {
  for (const v1::Delta& delta : manifest.deltas()) {
    const Digest root = RootOf(delta.content());
    {
      MutexLock lock(&mutex);
      if (!deltas.contains(root)) continue;
    }
    const auto file = Check(PathOf(root, kDelta), delta.content());
    if (file.ok()) {
      host->board()->Add(*file, *Digest::FromBytes(manifest.digest()));
      continue;
    }
    if (IsNoVerdict(file.status())) continue;
    LogWarning("a kept delta is damaged and removed",
               {{"reason", file.status()}});
    MutexLock lock(&mutex);
    RemoveDelta(root);
    deltas.erase(root);
  }
}

void VersionCache::State::CheckAll() {
  std::vector<std::pair<uint64_t, Digest>> all;
  {
    MutexLock lock(&mutex);
    for (const auto& [digest, entry] : entries) {
      all.emplace_back(entry.last_use, digest);
    }
  }
  std::sort(all.rbegin(), all.rend());
  for (const auto& [used, digest] : all) {
    {
      MutexLock lock(&mutex);
      if (stopping) return;
    }
    FindVerified(digest);
    // To look at a version is not to use it.
    MutexLock lock(&mutex);
    const auto it = entries.find(digest);
    if (it != entries.end() && it->second.last_use == uses) {
      it->second.last_use = used;
    }
  }
}

}  // namespace koinon::dht
