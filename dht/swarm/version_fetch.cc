// How a version comes into the cache.
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/swarm/delta.h"
#include "dht/swarm/version_cache_state.h"

namespace koinon::dht {
namespace {

// For a delta that nobody seems to have: the whole version is to be had.
constexpr absl::Duration kDeltaPatience = absl::Seconds(10);

void Add(const v1::SwarmTraffic& more, v1::SwarmTraffic* traffic) {
  traffic->set_from_peers(traffic->from_peers() + more.from_peers());
  traffic->set_from_origin(traffic->from_origin() + more.from_origin());
  traffic->set_wasted(traffic->wasted() + more.wasted());
}

Digest DigestOf(const v1::VersionManifest& manifest) {
  return *Digest::FromBytes(manifest.digest());  // CheckWanted
}

}  // namespace

absl::Status VersionCache::State::CheckWanted(const Wanted& wanted) const {
  const v1::VersionManifest& manifest = wanted.manifest;
  ABSL_RETURN_IF_ERROR(Digest::FromBytes(manifest.digest()).status());
  ABSL_RETURN_IF_ERROR(CheckContent(manifest.content()));
  for (const v1::Delta& delta : manifest.deltas()) {
    ABSL_RETURN_IF_ERROR(CheckContent(delta.content()));
  }
  const int64_t size = manifest.content().size_bytes();
  if (size <= options.max_model_bytes &&
      static_cast<uint64_t>(size) <= options.max_bytes) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "version ", manifest.version(), " of job ", manifest.job(), " has ", size,
      " bytes; max_model_bytes is ", options.max_model_bytes,
      ", and of all together ", options.max_bytes));
}

absl::Status VersionCache::State::BeginFetch(const Wanted& wanted,
                                             const Cancelled& cancelled) {
  const Digest digest = DigestOf(wanted.manifest);
  while (true) {
    {
      MutexLock lock(&mutex);
      if (!fetching.contains(digest)) {
        fetching[digest] = wanted.manifest.content().size_bytes();
        partials.erase(digest);
        return absl::OkStatus();
      }
      changed.WaitWithTimeout(&mutex, absl::Milliseconds(100));
    }
    if (cancelled && cancelled()) {
      return absl::CancelledError("the fetch was cancelled");
    }
  }
}

void VersionCache::State::EndFetch(const v1::VersionManifest& manifest) {
  const Digest digest = DigestOf(manifest);
  Gone gone;
  {
    MutexLock lock(&mutex);
    fetching.erase(digest);
    if (env->Exists(PathOf(digest, kPartial))) partials[digest] = manifest;
    gone = Evict();
    changed.SignalAll();
  }
  TakeOff(gone);
}

absl::StatusOr<VersionCache::Fetched> VersionCache::State::Fetch(
    const Wanted& wanted, const Cancelled& cancelled) {
  ABSL_RETURN_IF_ERROR(CheckWanted(wanted));
  const Digest digest = DigestOf(wanted.manifest);
  Fetched fetched;
  if ((fetched.lease = FindVerified(digest)) != nullptr) return fetched;
  ABSL_RETURN_IF_ERROR(BeginFetch(wanted, cancelled));
  // Another may have brought it meanwhile.
  if ((fetched.lease = FindVerified(digest)) != nullptr) {
    EndFetch(wanted.manifest);
    return fetched;
  }
  RemoveStalePartials(wanted.manifest);
  Gone gone;
  {
    MutexLock lock(&mutex);
    gone = Evict();  // room for it
    EvictPartials();
  }
  TakeOff(gone);
  absl::Status status;
  do {  // a disk may also become full on the way
    auto file = OpenPartial(wanted, cancelled);
    status = file.status();
    if (!file.ok()) break;
    const Digest root = *Digest::FromBytes(wanted.manifest.content().root());
    host->board()->Add(*file, digest);
    host->Provide(digest, ImportanceOf(wanted.manifest));
    status = FetchInto(*file, wanted, cancelled, &fetched);
    if (status.ok()) {
      auto lease = Adopt(*file, wanted);
      status = lease.status();
      if (lease.ok()) fetched.lease = *std::move(lease);
    }
    if (!status.ok()) TakeOff({.roots = {root}, .digests = {digest}});
  } while (absl::IsResourceExhausted(status) && GiveUpPartial());
  EndFetch(wanted.manifest);
  if (!status.ok()) return status;
  return fetched;
}

absl::StatusOr<std::shared_ptr<ContentFile>> VersionCache::State::OpenPartial(
    const Wanted& wanted, const Cancelled& cancelled) {
  const Digest digest = DigestOf(wanted.manifest);
  const auto open = [&]() -> absl::StatusOr<std::shared_ptr<ContentFile>> {
    ABSL_RETURN_IF_ERROR(WriteFileAtomically(env, PathOf(digest, kManifest),
                                             wanted.signed_manifest));
    return ContentFile::Resume(env, PathOf(digest, kPartial),
                               wanted.manifest.content(), cancelled);
  };
  auto file = open();
  while (absl::IsResourceExhausted(file.status()) && GiveUpPartial()) {
    file = open();
  }
  return file;
}

void VersionCache::State::RemoveStalePartials(
    const v1::VersionManifest& wanted) {
  MutexLock lock(&mutex);
  for (auto it = partials.begin(); it != partials.end();) {
    const auto& [digest, manifest] = *it;
    if (JobOf(manifest) != JobOf(wanted) ||
        manifest.version() > wanted.version()) {
      ++it;
      continue;
    }
    RemovePartial(digest, manifest);
    it = partials.erase(it);
  }
  // Of the version itself, which may have other deltas by now. Nothing goes of
  // what others are fetching.
  const auto names = env->List(dir);
  if (!names.ok() || fetching.size() > 1) return;
  std::set<std::string> kept;
  const auto keep = [&](const v1::VersionManifest& manifest) {
    for (const v1::Delta& delta : manifest.deltas()) {
      kept.insert(RootOf(delta.content()).ToHex() + kDeltaPartial);
    }
  };
  keep(wanted);
  for (const auto& [digest, manifest] : partials) keep(manifest);
  for (const std::string& name : *names) {
    if (!absl::EndsWith(name, kDeltaPartial) || kept.contains(name)) continue;
    RemovePartial(absl::StrCat(dir, "/", name));
  }
}

SwarmFetch::Options VersionCache::State::OptionsFor(
    const Wanted& wanted, std::shared_ptr<ContentFile> file,
    const Cancelled& cancelled) const {
  SwarmFetch::Options fetch;
  fetch.content = file->content();
  fetch.file_digest = DigestOf(wanted.manifest);
  fetch.file = std::move(file);
  fetch.peers = wanted.peers;
  fetch.origin = wanted.origin;
  fetch.cancelled = cancelled;
  return fetch;
}

absl::Status VersionCache::State::FetchInto(
    const std::shared_ptr<ContentFile>& file, const Wanted& wanted,
    const Cancelled& cancelled, Fetched* fetched) {
  if (auto delta = ChooseDelta(*file, wanted.manifest); delta.has_value()) {
    const absl::Status status =
        FetchByDelta(*delta, file, wanted, cancelled, fetched);
    MutexLock lock(&mutex);
    if (status.ok()) {
      ++counts.deltas_applied;
      fetched->by_delta = true;
      return status;
    }
    if (absl::IsCancelled(status)) return status;
    ++counts.deltas_failed;
    LogWarning("a delta was of no use; the whole version is fetched",
               {{"job", wanted.manifest.job()},
                {"version", wanted.manifest.version()},
                {"reason", status}});
  }
  absl::Status status;
  do {  // once more for what the disk has lost meanwhile
    SwarmFetch fetch(host, OptionsFor(wanted, file, cancelled));
    status = fetch.Run();
    Add(fetch.traffic(), &fetched->traffic);
  } while (status.ok() && !file->complete());
  return status;
}

absl::StatusOr<std::unique_ptr<VersionCache::Lease>> VersionCache::State::Adopt(
    const std::shared_ptr<ContentFile>& file, const Wanted& wanted) {
  const Digest digest = DigestOf(wanted.manifest);
  ABSL_RETURN_IF_ERROR(
      file->MoveWhole(PathOf(digest, kModel), PathOf(digest, kLeaves)));
  MutexLock lock(&mutex);
  Entry& entry = entries[digest];
  entry.manifest = wanted.manifest;
  entry.verified = true;
  return NewLease(digest);
}

// ---- By a delta ----

std::optional<VersionCache::State::ChosenDelta>
VersionCache::State::ChooseDelta(const ContentFile& file,
                                 const v1::VersionManifest& manifest) {
  if (!options.use_deltas) return std::nullopt;
  int64_t left = 0;  // of the whole version
  const Bitmap have = file.have();
  for (uint32_t i = 0; i < have.size(); ++i) {
    if (!have.Has(i)) left += file.map().PieceBytes(i);
  }
  std::optional<ChosenDelta> best;
  for (const v1::Delta& delta : manifest.deltas()) {
    if (delta.content().size_bytes() >= left) continue;
    const auto digest = Digest::FromBytes(delta.from_digest());
    if (!digest.ok()) continue;
    std::unique_ptr<Lease> from = FindVerified(*digest);
    if (from == nullptr) continue;
    left = delta.content().size_bytes();  // only a smaller one is better
    best = ChosenDelta{.delta = delta, .from = std::move(from)};
  }
  return best;
}

absl::Status VersionCache::State::FetchByDelta(
    const ChosenDelta& chosen, const std::shared_ptr<ContentFile>& file,
    const Wanted& wanted, const Cancelled& cancelled, Fetched* fetched) {
  const v1::Content& content = chosen.delta.content();
  ABSL_RETURN_IF_ERROR(FetchDelta(content, wanted, cancelled, fetched));
  const Bitmap before = file->have();
  const absl::Status applied =
      ApplyTo(file.get(), chosen.from->path(), content);
  const Digest root = *Digest::FromBytes(content.root());
  if (!applied.ok()) {  // what is of no use to us is none to others
    TakeOff({.roots = {root}, .digests = {}});
    MutexLock lock(&mutex);
    RemoveDelta(root);
    deltas.erase(root);
    return applied;
  }
  const Digest whole = *Digest::FromBytes(wanted.manifest.content().root());
  for (uint32_t i = 0; i < before.size(); ++i) {
    if (!before.Has(i)) host->board()->OnPiece(whole, i);
  }
  return absl::OkStatus();
}

absl::Status VersionCache::State::FetchDelta(const v1::Content& content,
                                             const Wanted& wanted,
                                             const Cancelled& cancelled,
                                             Fetched* fetched) {
  const Digest root = *Digest::FromBytes(content.root());
  const Digest version = DigestOf(wanted.manifest);
  // It may be whole since before a restart.
  if (host->board()->Find(root) == nullptr) ServeDeltasOf(wanted.manifest);
  {
    MutexLock lock(&mutex);
    if (deltas.contains(root)) return absl::OkStatus();
  }
  ABSL_ASSIGN_OR_RETURN(const std::shared_ptr<ContentFile> file,
                        ContentFile::Resume(env, PathOf(root, kDeltaPartial),
                                            content, cancelled));
  host->board()->Add(file, version);
  SwarmFetch::Options fetch_options = OptionsFor(wanted, file, cancelled);
  fetch_options.patience = kDeltaPatience;
  fetch_options.wait_for_sources = false;
  SwarmFetch fetch(host, std::move(fetch_options));
  absl::Status status = fetch.Run();
  Add(fetch.traffic(), &fetched->traffic);
  if (status.ok()) {
    status =
        file->MoveWhole(PathOf(root, kDelta), PathOf(root, ".delta.leaves"));
  }
  if (!status.ok()) {
    TakeOff({.roots = {root}, .digests = {}});
    return status;
  }
  MutexLock lock(&mutex);
  deltas[root] = {.version = version, .size = content.size_bytes()};
  return absl::OkStatus();
}

absl::Status VersionCache::State::ApplyTo(ContentFile* file,
                                          const std::string& from,
                                          const v1::Content& delta) {
  const Digest root = *Digest::FromBytes(delta.root());
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> from_file,
                        env->Open(from, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> delta_file,
                        env->Open(PathOf(root, kDelta), Env::OpenMode::kRead));
  const absl::Status applied =
      ApplyDelta(*from_file, *delta_file, delta.size_bytes(),
                 file->map().size_bytes, [&](absl::Span<const uint8_t> bytes) {
                   return file->AppendWhole(bytes);
                 });
  const absl::Status finished = file->FinishWhole();
  return applied.ok() ? finished : applied;
}

}  // namespace koinon::dht
