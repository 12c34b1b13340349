// Which versions a cache keeps.
#include <algorithm>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "dht/swarm/version_cache_state.h"

namespace koinon::dht {

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

int64_t VersionCache::State::ImportanceOf(
    const v1::VersionManifest& manifest) const {
  const int64_t every = options.retention.every;
  const bool for_good =
      IsPinned(manifest) || (every > 0 && manifest.version() % every == 0);
  return for_good ? INT64_MAX : manifest.created_ms();
}

std::set<Digest> VersionCache::State::NotKept() const {
  std::map<std::pair<std::string, int64_t>, std::map<int64_t, Digest>> jobs;
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

uint64_t VersionCache::State::BytesOfPartial(
    const v1::VersionManifest& manifest) const {
  uint64_t bytes = manifest.content().size_bytes();
  for (const v1::Delta& delta : manifest.deltas()) {
    if (!env->Exists(PathOf(RootOf(delta.content()), kDeltaPartial))) continue;
    bytes += delta.content().size_bytes();
  }
  return bytes;
}

void VersionCache::State::EvictOldestPartial() {
  const auto oldest = std::min_element(
      partials.begin(), partials.end(), [](const auto& a, const auto& b) {
        return a.second.created_ms() < b.second.created_ms();
      });
  LogInfo(
      "what had come of a version gives way to another",
      {{"job", oldest->second.job()}, {"version", oldest->second.version()}});
  RemovePartial(oldest->first, oldest->second);
  partials.erase(oldest);
}

void VersionCache::State::EvictPartials() {
  while (!partials.empty()) {
    uint64_t bytes = TotalBytes();
    for (const auto& [digest, manifest] : partials) {
      bytes += BytesOfPartial(manifest);
    }
    if (bytes <= options.max_bytes && partials.size() <= options.max_models) {
      return;
    }
    EvictOldestPartial();
  }
}

bool VersionCache::State::GiveUpPartial() {
  MutexLock lock(&mutex);
  if (partials.empty()) return false;
  // It would be lost for nothing where descriptors are wanting: as many as a
  // fetch needs. A full disk can be read.
  std::vector<std::unique_ptr<File>> files;
  for (const char* suffix : {kManifest, kPartial, kPartial}) {
    auto file = env->Open(PathOf(partials.begin()->first, suffix),
                          Env::OpenMode::kRead);
    if (absl::IsResourceExhausted(file.status())) return false;
    if (file.ok()) files.push_back(*std::move(file));
  }
  EvictOldestPartial();
  return true;
}

void VersionCache::State::TakeOff(const Gone& gone) {
  for (const Digest& root : gone.roots) host->board()->Remove(root);
  for (const Digest& digest : gone.digests) host->StopProviding(digest);
}

}  // namespace koinon::dht
