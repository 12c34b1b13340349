// The engine's side that keeps versions, and sends them on their way.

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "coordinator/engine/engine.h"

namespace koinon::coordinator {
namespace {

// How often it is looked whether a signature is to be renewed.
constexpr absl::Duration kRenewalCheck = absl::Hours(1);
// With many workers, who can be fetched from is not found out anew for each
// that comes or goes, but this often at most.
constexpr absl::Duration kPeersStand = absl::Seconds(1);
constexpr size_t kFewPeers = 100;

// A claim of a worker, added so that the sum stays a number.
void AddClaim(int64_t claimed, int64_t sum,
              void (v1::SwarmTraffic::*set)(int64_t),
              v1::SwarmTraffic* traffic) {
  const int64_t room = std::numeric_limits<int64_t>::max() - sum;
  (traffic->*set)(sum + std::min(room, std::max<int64_t>(0, claimed)));
}

}  // namespace

void Engine::Serve(const v1::ModelManifest& manifest) {
  if (options_.outlet != nullptr) options_.outlet->Serve(manifest);
}

void Engine::Withdraw(const v1::ModelManifest& manifest) {
  if (options_.outlet != nullptr) options_.outlet->Withdraw(manifest);
}

// What the last process had published: it may have died before anybody knew.
void Engine::AnnounceAll(const JournalContents& contents) {
  if (options_.outlet == nullptr) return;
  for (const auto& [name, versions] : contents.versions) {
    const auto job = contents.jobs.find(name);
    if (job == contents.jobs.end()) continue;
    for (auto it = versions.rbegin(); it != versions.rend(); ++it) {
      options_.outlet->Serve(it->second.manifest);
      options_.outlet->Announce(job->second, it->second.manifest,
                                it == versions.rbegin());
    }
  }
}

void Engine::AddVersion(Job* job, const v1::ModelManifest& manifest,
                        std::vector<StateFile> state) {
  job->head = manifest;
  job->version = manifest.version();
  job->state = std::move(state);
  job->versions.insert(job->version);
  Mutate(VersionRow{manifest, job->state});
  AfterCommit([this, row = job->row, manifest] {
    catalog_->Put(manifest);
    if (options_.outlet != nullptr) {
      options_.outlet->Announce(row, manifest, /*newest=*/true);
    }
  });
}

// The same version with another signature, or pinned.
void Engine::ReplaceManifest(Job* job, v1::ModelManifest manifest) {
  const bool newest = manifest.version() == job->version;
  Mutate(VersionRow{manifest, newest ? job->state : std::vector<StateFile>()});
  if (newest) job->head = manifest;
  AfterCommit([this, manifest = std::move(manifest)]() mutable {
    catalog_->Put(std::move(manifest));
  });
}

// A signature that has expired is nobody's proof of anything: while a version
// is kept, it has one that stands.
void Engine::RenewManifests(absl::Time now) {
  next_renewal_check_ = now + kRenewalCheck;
  for (const auto& [name, job] : jobs_) {
    for (const auto& kept : catalog_->List(name)) {
      if (!job->versions.contains(kept->version())) continue;
      if (!options_.publish.signer->IsDue(*kept)) continue;
      v1::ModelManifest manifest = *kept;
      // The catalogue may not have heard yet of a pin that is being committed.
      manifest.set_pinned(job->pinned.contains(kept->version()));
      const absl::Status renewed = options_.publish.signer->Renew(&manifest);
      if (!renewed.ok()) {
        LogError(
            "a manifest cannot be signed anew",
            {{"job", name}, {"version", kept->version()}, {"error", renewed}});
        continue;
      }
      LogInfo("manifest signed anew",
              {{"job", name}, {"version", kept->version()}});
      ReplaceManifest(job.get(), manifest);
      if (options_.outlet == nullptr) continue;
      AfterCommit([this, row = job->row, manifest,
                   newest = kept->version() == job->version] {
        options_.outlet->Announce(row, manifest, newest);
      });
    }
  }
}

void Engine::PinModel(v1::PinModelRequest request,
                      Reply<v1::ModelManifest> reply) {
  loop_.Post([this, request = std::move(request), reply = std::move(reply)] {
    auto pinned = Pin(request);
    AfterCommit([reply, pinned = std::move(pinned)] { reply(pinned); });
  });
}

absl::StatusOr<v1::ModelManifest> Engine::Pin(
    const v1::PinModelRequest& request) {
  ABSL_ASSIGN_OR_RETURN(Job * job, KnownJob(request.job()));
  const int64_t version = request.version();
  if (!job->versions.contains(version)) {
    return absl::NotFoundError(absl::StrCat(
        "job ", request.job(), " has no version ", version, " here"));
  }
  v1::ModelManifest manifest = job->head;
  if (version != job->version) {
    ABSL_ASSIGN_OR_RETURN(const auto found,
                          catalog_->Find(request.job(), version));
    manifest = *found;
  }
  if (request.pinned() != job->pinned.contains(version)) {
    manifest.set_pinned(request.pinned());
    ReplaceManifest(job, manifest);
    // The outlet keeps it longer.
    if (options_.outlet != nullptr) {
      AfterCommit(
          [this, row = job->row, manifest, newest = version == job->version] {
            options_.outlet->Announce(row, manifest, newest);
          });
    }
    if (request.pinned()) {
      job->pinned.insert(version);
    } else {
      job->pinned.erase(version);
      DropOldVersions(job);
    }
  }
  manifest.set_pinned(request.pinned());
  manifest.clear_chunk_digests();
  return manifest;
}

void Engine::DropOldVersions(Job* job) {
  const std::vector<int64_t> versions(job->versions.begin(),
                                      job->versions.end());
  // Who is at work may have to be told again what it started from.
  const std::optional<int64_t> oldest = job->row.spec.has_buffer()
                                            ? job->machine.OldestTaskRound()
                                            : std::nullopt;
  for (const int64_t version :
       dht::VersionsToDrop(options_.keep, versions, job->pinned)) {
    if (oldest.has_value() && version >= *oldest - 1) break;
    DropVersion(job, version);
  }
}

void Engine::DropVersion(Job* job, int64_t version) {
  const JobId& name = job->row.spec.name();
  job->versions.erase(version);
  Mutate(ForgetVersion{name, version});
  AfterCommit([this, name, version] {
    const auto manifest = catalog_->Find(name, version);
    if (manifest.ok()) Withdraw(**manifest);
    catalog_->Remove(name, version);
    const absl::Status removed = store_->Remove(name, version);
    if (!removed.ok() && !absl::IsNotFound(removed)) {
      LogWarning("cannot remove an old version", {{"error", removed}});
    }
  });
}

// The head's delta is of use to nobody any more: those who have the version
// before want the next one.
void Engine::DropDelta(const Job& job) {
  AfterCommit([this, head = job.head] {
    if (options_.outlet != nullptr) options_.outlet->WithdrawDelta(head);
    const absl::Status removed =
        store_->RemoveDelta(head.job(), head.version());
    if (!removed.ok()) {
      LogWarning("cannot remove an old delta", {{"error", removed}});
    }
  });
}

// The head's state is needed no more. Its files go once the journal has
// forgotten them.
void Engine::DropState(Job* job) {
  if (job->state.empty()) return;
  Mutate(VersionRow{job->head});
  AfterCommit([this, name = job->row.spec.name(), version = job->version,
               state = std::move(job->state)] {
    for (const StateFile& file : state) {
      const absl::Status removed =
          store_->RemoveState(name, version, file.name);
      if (!removed.ok() && !absl::IsNotFound(removed)) {
        LogWarning("cannot remove old state", {{"error", removed}});
      }
    }
  });
  job->state.clear();
}

void Engine::CountFetched(const WorkerId& worker, TaskId::Kind kind,
                          const v1::SwarmTraffic& fetched, Job* job) {
  if (!job->told_of_fetching.emplace(worker, kind).second) return;
  v1::SwarmTraffic* sum = &job->distribution;
  AddClaim(fetched.from_peers(), sum->from_peers(),
           &v1::SwarmTraffic::set_from_peers, sum);
  AddClaim(fetched.from_origin(), sum->from_origin(),
           &v1::SwarmTraffic::set_from_origin, sum);
  AddClaim(fetched.to_peers(), sum->to_peers(), &v1::SwarmTraffic::set_to_peers,
           sum);
  AddClaim(fetched.wasted(), sum->wasted(), &v1::SwarmTraffic::set_wasted, sum);
}

const FetchPeers& Engine::PeersOf(const Job& job) {
  const absl::Time now = clock_->Now();
  const JobId& name = job.row.spec.name();
  KnownPeers& known = peers_[name];
  const bool stale = known.generation != registry_.generation() ||
                     known.round != job.round.round;
  if (!stale ||
      (known.peers.size() >= kFewPeers && now - known.made < kPeersStand)) {
    return known.peers;
  }
  known.round = job.round.round;
  known.generation = registry_.generation();
  known.made = now;
  known.peers = FetchPeers(registry_.workers(), job.round.cohort);
  if (options_.outlet != nullptr) {
    options_.outlet->SetPeers(
        name, known.peers.Sample(kFewPeers,
                                 DeriveSeed(job.row.spec.seed(), "origin")));
  }
  return known.peers;
}

void Engine::TellOfGone() {
  for (const dht::Key& node : registry_.TakeGone()) {
    if (options_.outlet != nullptr) options_.outlet->OnGone(node);
  }
}

void Engine::AddFetchPeers(const Job& job, const WorkerId& worker,
                           v1::OfferTask* offer) {
  const Registry::Worker* self = registry_.Find(worker);
  if (self == nullptr || !self->peer.has_value()) return;
  const uint64_t seed = DeriveSeed(offer->seed(), "peers");
  for (const dht::Contact& peer : PeersOf(job).Choose(
           self->peer->id, self->peer->site, options_.fetch_peers, seed)) {
    *offer->add_peers() = dht::ContactToProto(peer);
  }
}

}  // namespace koinon::coordinator
