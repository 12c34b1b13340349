// Whom SwarmFetch fetches from: who is taken as a source, and who is given up.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "dht/swarm/fetch_state.h"
#include "dht/swarm/liar_book.h"

namespace koinon::dht {
namespace {

constexpr size_t kProvidersAsked = 20;

}  // namespace

bool SwarmFetch::State::HasRoom() const {
  return candidates_.connected() < options_.max_sources;
}

// Of one that the picker has as idle. It had time to say what it has, and for
// others to give it something: who came and went at once would be the same few
// again and again.
bool SwarmFetch::State::MayGiveWay(const Source& source, absl::Time now) const {
  const absl::Duration stay = options_.picker.last_resort_patience;
  if (now - source.opened_at < stay || source.layer_wanted) return false;
  // News that are not read yet may be of what is missing; endless ones are not.
  return !source.queued || now - last_progress_ >= 2 * stay;
}

// Some who are all each other's sources would wait for each other for good,
// where what they lack is with those whom they have no room for.
void SwarmFetch::State::DropIdle() {
  std::vector<SourcePtr> idle;
  {
    MutexLock lock(&mutex_);
    const absl::Time now = clock_.Now();
    const size_t others = HasRoom() ? 0 : candidates_.due(now);
    const size_t most = std::min(others, (options_.max_sources + 1) / 2);
    if (most == 0) return;
    for (const PiecePicker::Source number : picker_.Idle(now)) {
      if (idle.size() == most) break;
      const auto it = sources_.find(number);
      if (it == sources_.end() || !MayGiveWay(*it->second, now)) continue;
      idle.push_back(it->second);
    }
    for (const SourcePtr& source : idle) {
      Forget(source);
      picker_.RemoveSource(source->candidate.number);
      candidates_.OnIdle(source->candidate.number, now);
    }
  }
  for (const SourcePtr& source : idle) source->stream->Cancel();
}

void SwarmFetch::State::ConnectMore() {
  while (true) {
    std::optional<FetchCandidates::Candidate> next;
    {
      MutexLock lock(&mutex_);
      next = candidates_.Next(clock_.Now(), /*only_origin=*/!HasRoom());
    }
    if (!next.has_value()) return;
    Connect(*next);
  }
}

void SwarmFetch::State::Connect(const FetchCandidates::Candidate& candidate) {
  absl::Status may = host_->MayFetchFrom(candidate.contact);
  // A version may be nowhere but at its origin, whatever that has sent before.
  if (may.ok() && !candidate.origin) {
    may = host_->liars()->MayAsk(candidate.contact.id, clock_.Now());
  }
  if (!may.ok()) {
    MutexLock lock(&mutex_);
    return candidates_.OnFailed(candidate.number, may, clock_.Now());
  }
  const auto source = std::make_shared<Source>(candidate, file_.get());
  v1::FetchRequest request;
  v1::OpenContent* open = request.mutable_open();
  open->set_root(root_.ToBytes());
  *open->mutable_caller() = ContactToProto(host_->self());
  open->set_cross_site(host_->cross_site());
  {
    MutexLock lock(&mutex_);
    open->set_have(picker_.have().ToBytes());
    source->heard = clock_.Now();
    sources_[candidate.number] = source;
    ++open_streams_;
  }
  auto stream = FetchStream::Start(
      host_->ChannelTo(candidate.contact.address), std::move(request),
      [state = weak_from_this(), weak = std::weak_ptr<Source>(source)] {
        const auto alive = state.lock();
        const auto source = weak.lock();
        if (alive != nullptr && source != nullptr) alive->OnReady(source);
      },
      // Run waits for all of them: gRPC's threads must not be the last to hold
      // a channel (dht/transport/callback_threads.h).
      [state = shared_from_this()] { state->OnGone(); });
  MutexLock lock(&mutex_);
  source->stream = std::move(stream);
  source->queued = false;
  if (source->again) Enqueue(source);
}

void SwarmFetch::State::DropSilent() {
  std::vector<SourcePtr> silent;
  const absl::Time now = clock_.Now();
  {
    MutexLock lock(&mutex_);
    for (const auto& [number, source] : sources_) {
      if (!source->owes()) continue;
      if (source->queued && writing_ > 0) continue;  // it waits for our disk
      // What waits to be looked at may be what it owes, or may not.
      const absl::Duration bound = (source->queued ? 2 : 1) * options_.silence;
      if (now - source->heard >= bound) silent.push_back(source);
    }
  }
  for (const SourcePtr& source : silent) {
    Drop(source, absl::UnavailableError(absl::StrCat(
                     "silent for ", absl::FormatDuration(options_.silence))));
  }
}

void SwarmFetch::State::Discover() {
  {
    MutexLock lock(&mutex_);
    const absl::Time now = clock_.Now();
    // Not later than when all that were named have failed.
    const bool due =
        now >= next_discovery_ || (!discovered_ && candidates_.alone());
    if (discovering_ || !due) return;
    if (!HasRoom() && picker_.Idle(now).empty()) return;
    discovering_ = true;
    next_discovery_ = now + options_.rediscover;
  }
  host_->FindProviders(
      options_.file_digest, kProvidersAsked,
      [state = weak_from_this()](absl::StatusOr<std::vector<Contact>> found) {
        const auto alive = state.lock();
        if (alive == nullptr) return;
        MutexLock lock(&alive->mutex_);
        alive->discovering_ = false;
        alive->discovered_ = true;
        alive->has_news_ = true;
        alive->news_.Signal();
        if (!found.ok()) return;  // the next attempt may find somebody
        for (const Contact& contact : *found) {
          alive->candidates_.Add(contact, FetchCandidates::Namer::kDht);
        }
      });
}

bool SwarmFetch::State::Forget(const SourcePtr& source) {
  if (std::exchange(source->gone, true)) return false;
  sources_.erase(source->candidate.number);
  has_news_ = true;
  news_.Signal();
  return true;
}

void SwarmFetch::State::Drop(const SourcePtr& source, const absl::Status& why) {
  {
    MutexLock lock(&mutex_);
    if (!Forget(source)) return;
    picker_.RemoveSource(source->candidate.number);
    candidates_.OnFailed(source->candidate.number, why, clock_.Now());
  }
  source->stream->Cancel();
}

void SwarmFetch::State::OnLied(const SourcePtr& source,
                               const absl::Status& why) {
  const Contact& contact = source->candidate.contact;
  const absl::Time now = clock_.Now();
  {
    MutexLock lock(&mutex_);
    if (!Forget(source)) return;
    picker_.OnLied(source->candidate.number, now);
    picker_.RemoveSource(source->candidate.number);
    candidates_.OnLied(source->candidate.number, why, now);
    liars_.insert(contact.id.IsZero() ? contact.address : contact.id.ToHex());
  }
  source->stream->Cancel();
  // Of what opened the stream as who it is: nothing else is hashed. Another
  // breach of the rules may be a slip, and counts in this fetch alone.
  const bool lied = absl::IsDataLoss(why);
  const int lies = lied ? host_->liars()->Count(contact.id, now) : 0;
  LogWarning(
      lied ? "a peer sent what is not the content's, and is banned"
           : "a peer breaks the rules of a fetch, and is banned from this one",
      {{"node", contact.id.ToShortHex()},
       {"address", contact.address},
       {"site", contact.site},
       {"content", root_.ToShortHex()},
       {"lies", lies},
       {"reason", why}});
}

}  // namespace koinon::dht
