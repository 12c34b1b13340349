#include "dht/swarm/version_cache.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/swarm/version_cache_state.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

constexpr char kModel[] = ".safetensors";
constexpr char kManifest[] = ".manifest";
constexpr char kLeaves[] = ".leaves";
constexpr char kPartial[] = ".partial";
constexpr char kDelta[] = ".delta";
constexpr char kDeltaPartial[] = ".delta.partial";
constexpr char kTemporary[] = ".tmp";

constexpr size_t kMaxManifestBytes = 64 << 10;
constexpr size_t kReadBytes = 1 << 20;

std::optional<Digest> DigestOf(absl::string_view name,
                               absl::string_view suffix) {
  if (!absl::EndsWith(name, suffix)) return std::nullopt;
  const auto digest = Digest::FromHex(absl::StripSuffix(name, suffix));
  if (!digest.ok()) return std::nullopt;
  return *digest;
}

// Submissions of one name are jobs of their own.
using Job = std::pair<std::string, int64_t>;
Job JobOf(const v1::VersionManifest& manifest) {
  return {manifest.job(), manifest.job_submitted_ms()};
}

Digest RootOf(const v1::Content& content) {
  return *Digest::FromBytes(content.root());  // of what was checked
}

// Nothing is known of what could not be read for want of descriptors, or was
// not read to its end.
bool IsNoVerdict(const absl::Status& status) {
  return absl::IsCancelled(status) || absl::IsResourceExhausted(status);
}

absl::StatusOr<uint64_t> SizeOf(Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  return file->Size();
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

// ---- What is on disk ----

std::string VersionCache::State::PathOf(const Digest& digest,
                                        absl::string_view suffix) const {
  return absl::StrCat(dir, "/", digest.ToHex(), suffix);
}

absl::Status VersionCache::State::Recover() {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, env->List(dir));
  for (const std::string& name : names) {
    if (absl::EndsWith(name, kTemporary)) {
      RemoveIfThere(absl::StrCat(dir, "/", name));
    }
  }
  ABSL_RETURN_IF_ERROR(RecoverModels(names));
  const auto awaited = RecoverPartials(names);
  RecoverDeltas(names, awaited);
  OrderByAge();
  MutexLock lock(&mutex);
  for (const std::string& name : names) {  // of models that are not there
    for (const char* suffix : {kManifest, kLeaves}) {
      const auto digest = DigestOf(name, suffix);
      if (!digest.has_value() || entries.contains(*digest)) continue;
      if (env->Exists(PathOf(*digest, kPartial))) continue;
      RemoveIfThere(absl::StrCat(dir, "/", name));
    }
  }
  Evict();  // nothing is on the board yet
  return absl::OkStatus();
}

// As if the newest had been used last.
void VersionCache::State::OrderByAge() {
  MutexLock lock(&mutex);
  std::vector<std::pair<int64_t, Digest>> all;
  for (const auto& [digest, entry] : entries) {
    all.emplace_back(entry.manifest.created_ms(), digest);
  }
  std::sort(all.begin(), all.end());
  for (const auto& [created, digest] : all) {
    entries[digest].last_use = ++uses;
  }
}

absl::Status VersionCache::State::RecoverModels(
    const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto digest = DigestOf(name, kModel);
    if (!digest.has_value()) continue;  // not ours
    auto manifest = ReadManifest(*digest);
    // For want of descriptors: that says nothing about the model.
    if (absl::IsResourceExhausted(manifest.status())) return manifest.status();
    ABSL_ASSIGN_OR_RETURN(const uint64_t size,
                          SizeOf(env, PathOf(*digest, kModel)));
    MutexLock lock(&mutex);
    if (manifest.ok() &&
        size != static_cast<uint64_t>(manifest->content().size_bytes())) {
      manifest = absl::DataLossError(
          absl::StrCat(name, ": ", manifest->content().size_bytes(),
                       " bytes expected, found ", size));
    }
    if (manifest.ok()) {
      entries[*digest].manifest = *std::move(manifest);
      continue;
    }
    LogWarning(
        "a model without its manifest is removed",
        {{"model", digest->ToShortHex()}, {"reason", manifest.status()}});
    RemoveModel(*digest);
  }
  return absl::OkStatus();
}

// One fetch was under way at most: of several, the newest may go on.
std::optional<v1::VersionManifest> VersionCache::State::RecoverPartials(
    const std::vector<std::string>& names) {
  std::optional<std::pair<int64_t, Digest>> kept;
  std::optional<v1::VersionManifest> awaited;
  for (const std::string& name : names) {
    const auto digest = DigestOf(name, kPartial);
    if (!digest.has_value()) continue;
    const auto manifest = ReadManifest(*digest);
    if (!manifest.ok()) continue;
    const auto candidate = std::pair(manifest->created_ms(), *digest);
    if (kept.has_value() && candidate < *kept) continue;
    kept = candidate;
    awaited = *manifest;
  }
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kPartial)) continue;
    if (absl::EndsWith(name, kDeltaPartial)) continue;  // RecoverDeltas
    if (kept.has_value() && DigestOf(name, kPartial) == kept->second) continue;
    RemovePartial(absl::StrCat(dir, "/", name));
  }
  return awaited;
}

// Those of the newest versions are served; those of the one that was being
// fetched, whole or not, it goes on with.
void VersionCache::State::RecoverDeltas(
    const std::vector<std::string>& names,
    const std::optional<v1::VersionManifest>& awaited) {
  MutexLock lock(&mutex);
  std::map<Digest, DeltaFile> useful;
  const auto add = [&](const v1::VersionManifest& manifest) {
    for (const v1::Delta& delta : manifest.deltas()) {
      useful[RootOf(delta.content())] = {
          .version = *Digest::FromBytes(manifest.digest()),
          .size = delta.content().size_bytes()};
    }
  };
  for (const auto& [digest, entry] : entries) {
    if (IsNewest(entry.manifest)) add(entry.manifest);
  }
  if (awaited.has_value() && options.use_deltas) add(*awaited);
  for (const std::string& name : names) {
    if (const auto root = DigestOf(name, kDeltaPartial); root.has_value()) {
      const auto found = useful.find(*root);
      if (found != useful.end() && !entries.contains(found->second.version)) {
        continue;
      }
      RemovePartial(absl::StrCat(dir, "/", name));
    } else if (const auto root = DigestOf(name, kDelta); root.has_value()) {
      if (useful.contains(*root)) {
        deltas[*root] = useful[*root];
      } else {
        RemoveDelta(*root);
      }
    }
  }
}

// What this process, or an earlier one, has written: the signature was checked
// then, and may have expired since.
absl::StatusOr<v1::VersionManifest> VersionCache::State::ReadManifest(
    const Digest& digest) const {
  const std::string path = PathOf(digest, kManifest);
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(env, path, kMaxManifestBytes));
  v1::Signed envelope;
  v1::VersionManifest manifest;
  if (!envelope.ParseFromString(bytes) ||
      !manifest.ParseFromString(envelope.body()) ||
      manifest.digest() != digest.ToBytes()) {
    return absl::DataLossError(absl::StrCat(path, ": not its manifest"));
  }
  ABSL_RETURN_IF_ERROR(CheckContent(manifest.content()));
  for (const v1::Delta& delta : manifest.deltas()) {
    ABSL_RETURN_IF_ERROR(CheckContent(delta.content()));
  }
  return manifest;
}

void VersionCache::State::RemoveIfThere(const std::string& path) {
  const absl::Status status = env->Remove(path);
  if (status.ok() || absl::IsNotFound(status)) return;
  LogWarning("cannot remove a file of the cache", {{"reason", status}});
}

void VersionCache::State::RemoveModel(const Digest& digest) {
  for (const char* suffix : {kModel, kLeaves, kManifest}) {
    RemoveIfThere(PathOf(digest, suffix));
  }
}

void VersionCache::State::RemoveDelta(const Digest& root) {
  RemoveIfThere(PathOf(root, kDelta));
  RemoveIfThere(PathOf(root, absl::StrCat(kDelta, kLeaves)));
}

void VersionCache::State::RemovePartial(const std::string& path) {
  RemoveIfThere(path + ".pieces");  // first: nothing else is believed without
  RemoveIfThere(path + kLeaves);
  RemoveIfThere(path);
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
    lease = NewLease(digest);
    Entry& entry = entries[digest];
    if (entry.verified) return lease;
    entry.verifying = true;
    manifest = entry.manifest;
  }
  const auto file = Check(PathOf(digest, kModel), manifest.content());
  if (file.ok()) {  // whoever finds it here finds it served
    host->board()->Add(*file, digest);
    host->Provide(digest);
    ServeDeltasOf(manifest);
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

// ---- Bounds ----

std::unique_ptr<VersionCache::Lease> VersionCache::State::NewLease(
    const Digest& digest) {
  Entry& entry = entries[digest];
  ++entry.leases;
  entry.last_use = ++uses;
  return std::unique_ptr<Lease>(
      new Lease(cache, digest, PathOf(digest, kModel)));
}

uint64_t VersionCache::State::TotalBytes() const {
  uint64_t bytes = 0;
  for (const auto& [digest, entry] : entries) {
    bytes += entry.manifest.content().size_bytes();
  }
  for (const auto& [root, delta] : deltas) bytes += delta.size;
  for (const auto& [digest, size] : fetching) bytes += size;
  return bytes;
}

bool VersionCache::State::IsPinned(const v1::VersionManifest& manifest) const {
  return options.pinned.contains({manifest.job(), manifest.version()});
}

std::set<Digest> VersionCache::State::NotKept() const {
  std::map<Job, std::map<int64_t, Digest>> jobs;
  for (const auto& [digest, entry] : entries) {
    jobs[JobOf(entry.manifest)][entry.manifest.version()] = digest;
  }
  std::set<Digest> not_kept;
  for (const auto& [job, versions] : jobs) {
    std::vector<int64_t> numbers;
    std::set<int64_t> pinned;
    for (const auto& [version, digest] : versions) {
      numbers.push_back(version);
      if (options.pinned.contains({job.first, version})) pinned.insert(version);
    }
    for (const int64_t version :
         VersionsToDrop(options.retention, numbers, pinned)) {
      not_kept.insert(versions.at(version));
    }
  }
  return not_kept;
}

// While a bound is passed, what nobody uses or wants kept goes first, and of
// that what was used longest ago; then, if it is the bytes, what only the
// policy wants kept.
std::optional<Digest> VersionCache::State::NextToEvict() const {
  const std::set<Digest> not_kept = NotKept();
  const bool too_large = TotalBytes() > options.max_bytes;
  std::optional<std::tuple<bool, uint64_t, Digest>> best;
  size_t idle = 0;
  for (const auto& [digest, entry] : entries) {
    if (entry.leases > 0 || IsPinned(entry.manifest)) continue;
    const bool kept = !not_kept.contains(digest);
    if (!kept) ++idle;
    const auto rank = std::tuple(kept, entry.last_use, digest);
    if (!best.has_value() || rank < *best) best = rank;
  }
  if (!best.has_value()) return std::nullopt;
  if (too_large) return std::get<2>(*best);
  if (idle > options.max_models) return std::get<2>(*best);
  return std::nullopt;
}

VersionCache::State::Gone VersionCache::State::Evict() {
  Gone gone;
  while (const auto digest = NextToEvict()) {
    gone.digests.push_back(*digest);
    gone.roots.push_back(RootOf(entries[*digest].manifest.content()));
    RemoveModel(*digest);
    entries.erase(*digest);
  }
  EvictDeltas(&gone);
  return gone;
}

bool VersionCache::State::IsNewest(const v1::VersionManifest& manifest) const {
  return std::none_of(entries.begin(), entries.end(), [&](const auto& item) {
    const v1::VersionManifest& other = item.second.manifest;
    return JobOf(other) == JobOf(manifest) &&
           other.version() > manifest.version();
  });
}

void VersionCache::State::EvictDeltas(Gone* gone) {
  for (auto it = deltas.begin(); it != deltas.end();) {
    const Digest& version = it->second.version;
    const auto entry = entries.find(version);
    const bool useful = entry != entries.end()
                            ? IsNewest(entry->second.manifest)
                            : fetching.contains(version) ||
                                  env->Exists(PathOf(version, kPartial));
    if (useful) {
      ++it;
      continue;
    }
    gone->roots.push_back(it->first);
    RemoveDelta(it->first);
    it = deltas.erase(it);
  }
}

void VersionCache::State::TakeOff(const Gone& gone) {
  for (const Digest& root : gone.roots) host->board()->Remove(root);
  for (const Digest& digest : gone.digests) host->StopProviding(digest);
}

}  // namespace koinon::dht
