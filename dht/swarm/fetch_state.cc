#include "dht/swarm/fetch_state.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

// More would only wait for the disk.
constexpr size_t kMaxThreads = 4;
// However few deadlines there are; whether it is cancelled is asked as often.
constexpr absl::Duration kLongestWait = absl::Milliseconds(100);
// For the last word to the sources, at the end.
constexpr absl::Duration kFarewell = absl::Seconds(1);

uint64_t FirstBytes(const Digest& digest) {
  uint64_t number = 0;
  std::memcpy(&number, digest.bytes().data(), sizeof(number));
  return number;
}

PiecePicker::Options PickerOptions(const SwarmHost& host,
                                   const SwarmFetch::Options& options) {
  PiecePicker::Options picker = options.picker;
  picker.pieces = options.file->map().pieces();
  picker.piece_bytes = options.file->map().piece_size_bytes;
  // Peers that draw alike would all want the same pieces.
  if (picker.seed == 0) {
    picker.seed = FirstBytes(host.self().id) ^
                  FirstBytes(*Digest::FromBytes(options.content.root()));
  }
  return picker;
}

FetchCandidates::Options CandidateOptions(const SwarmHost& host,
                                          const SwarmFetch::Options& options) {
  FetchCandidates::Options candidates;
  candidates.self = host.self().id;
  candidates.idle_retry = options.picker.last_resort_patience;
  candidates.ban = options.picker.ban;
  candidates.strikes = options.picker.strikes;
  candidates.max_unproven = (options.max_sources + 1) / 2;
  return candidates;
}

}  // namespace

SwarmFetch::State::State(SwarmHost* host, Options options)
    : host_(host),
      options_(std::move(options)),
      file_(options_.file),
      root_(*Digest::FromBytes(file_->content().root())),
      clock_(host->clock()),
      picker_(PickerOptions(*host, options_), file_->have(), clock_.Now()),
      candidates_(CandidateOptions(*host, options_)) {}

absl::Status SwarmFetch::State::Run() {
  if (file_->complete()) return file_->Sync();
  Begin();
  std::vector<std::thread> threads;
  const size_t count =
      std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxThreads);
  for (size_t i = 0; i < count; ++i) {
    threads.emplace_back([this] { Work(); });
  }
  absl::Status status = Drive();
  End(/*in_peace=*/status.ok());
  for (std::thread& thread : threads) thread.join();
  {
    MutexLock lock(&mutex_);
    sources_.clear();
    ready_.clear();
  }
  const absl::Status synced = file_->Sync();
  return status.ok() ? synced : status;
}

void SwarmFetch::State::Begin() {
  const absl::Time now = clock_.Now();
  MutexLock lock(&mutex_);
  if (options_.origin.has_value()) candidates_.SetOrigin(*options_.origin);
  for (const Contact& peer : options_.peers) {
    candidates_.Add(peer, FetchCandidates::Namer::kTask);
  }
  has_layer_ = !file_->piece_layer().empty();
  last_progress_ = now;
  next_discovery_ = options_.peers.empty() ? now : now + options_.rediscover;
  const Bitmap have = file_->have();
  for (uint32_t i = 0; i < have.size(); ++i) {
    if (have.Has(i)) have_bytes_ += file_->map().PieceBytes(i);
  }
}

absl::Status SwarmFetch::State::Drive() {
  while (true) {
    if (options_.cancelled && options_.cancelled()) Cancel();
    {
      MutexLock lock(&mutex_);
      has_news_ = false;
      const auto outcome = Outcome(clock_.Now());
      if (outcome.has_value()) return *outcome;
    }
    DropSilent();
    DropIdle();
    ConnectMore();
    Discover();
    AskAll();
    WaitForNews();
  }
}

std::optional<absl::Status> SwarmFetch::State::Outcome(absl::Time now) {
  if (!failure_.ok()) return failure_;
  if (picker_.done()) return absl::OkStatus();
  if (writing_ > 0) last_progress_ = now;  // it is our own disk
  if (now - last_progress_ >= options_.patience) {
    return absl::UnavailableError(absl::StrCat(
        "nothing has come for ", absl::FormatDuration(options_.patience), ": ",
        candidates_.Failures()));
  }
  if (!options_.wait_for_sources && discovered_ && !candidates_.hopeful()) {
    return absl::UnavailableError(
        absl::StrCat("nobody has it: ", candidates_.Failures()));
  }
  return std::nullopt;
}

// ---- Asking ----

void SwarmFetch::State::AskAll() {
  Requests requests;
  {
    MutexLock lock(&mutex_);
    const absl::Time now = clock_.Now();
    TellOrigin(now, /*at_once=*/false, &requests);
    picker_.SetAlone(discovered_ && candidates_.alone());
    for (const auto& [number, source] : sources_) {
      if (!source->opened) continue;
      has_layer_ ? Ask(source, now, &requests)
                 : AskForLayer(source, now, &requests);
    }
  }
  for (auto& [stream, request] : requests) stream->Send(std::move(request));
}

// Of everybody that may have it: it is small, and nothing can be verified
// before.
void SwarmFetch::State::AskForLayer(const SourcePtr& source, absl::Time now,
                                    Requests* requests) {
  if (!std::exchange(source->may_have_layer, false)) return;
  if (!source->owes()) source->heard = now;
  source->layer_wanted = true;
  v1::FetchRequest request;
  request.mutable_want_piece_layer();
  requests->emplace_back(source->stream, std::move(request));
}

void SwarmFetch::State::Ask(const SourcePtr& source, absl::Time now,
                            Requests* requests) {
  const PiecePicker::Wants wants = picker_.Next(source->candidate.number, now);
  if (!source->owes()) source->heard = now;
  if (!wants.cancel.empty()) {
    v1::FetchRequest request;
    for (const uint32_t piece : wants.cancel) {
      request.mutable_cancel()->add_pieces(piece);
    }
    requests->emplace_back(source->stream, std::move(request));
  }
  if (!wants.pieces.empty()) {
    v1::FetchRequest request;
    request.mutable_want()->set_last_resort(wants.last_resort);
    request.mutable_want()->set_caller_has(
        static_cast<uint32_t>(picker_.have().count()));
    for (const uint32_t piece : wants.pieces) {
      request.mutable_want()->add_pieces(piece);
      source->asked.insert(piece);
    }
    requests->emplace_back(source->stream, std::move(request));
  }
  if (wants.any > 0) {
    v1::FetchRequest request;
    request.mutable_want_any()->set_count(wants.any);
    source->any_owed += wants.any;
    source->any_may_come += wants.any;
    requests->emplace_back(source->stream, std::move(request));
  }
}

void SwarmFetch::State::TellOrigin(absl::Time now, bool at_once,
                                   Requests* requests) {
  if (to_tell_.empty()) return;
  if (!at_once && now - told_ < options_.tell_every) return;
  for (const auto& [number, source] : sources_) {
    if (!source->opened || !source->origin) continue;
    v1::FetchRequest request;
    for (const uint32_t piece : to_tell_) {
      request.mutable_have()->add_pieces(piece);
    }
    requests->emplace_back(source->stream, std::move(request));
    told_ = now;
    to_tell_.clear();
    return;
  }
}

void SwarmFetch::State::WaitForNews() {
  MutexLock lock(&mutex_);
  if (has_news_) return;
  const absl::Time now = clock_.Now();
  absl::Time until = std::min(now + kLongestWait, picker_.next_deadline(now));
  until = std::min(until, candidates_.next_attempt(!HasRoom()));
  if (!to_tell_.empty() && told_ + options_.tell_every > now) {
    until = std::min(until, told_ + options_.tell_every);
  }
  if (until <= now) return;
  news_.WaitWithTimeout(&mutex_, until - now);
}

// ---- The end ----

void SwarmFetch::State::Cancel() {
  Fail(absl::CancelledError("the fetch was cancelled"));
}

void SwarmFetch::State::Fail(const absl::Status& status) {
  MutexLock lock(&mutex_);
  if (failure_.ok()) failure_ = status;
  has_news_ = true;
  news_.Signal();
}

void SwarmFetch::State::End(bool in_peace) {
  Requests last;
  std::vector<SourcePtr> sources;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    work_.SignalAll();
    if (in_peace) TellOrigin(clock_.Now(), /*at_once=*/true, &last);
    for (const auto& [number, source] : sources_) sources.push_back(source);
  }
  for (auto& [stream, request] : last) stream->Send(std::move(request));
  for (const SourcePtr& source : sources) {
    in_peace ? source->stream->Close() : source->stream->Cancel();
  }
  if (in_peace && AwaitStreams(kFarewell)) return;
  for (const SourcePtr& source : sources) source->stream->Cancel();
  AwaitStreams(absl::InfiniteDuration());
}

bool SwarmFetch::State::AwaitStreams(absl::Duration patience) {
  const absl::Time until = clock_.Now() + patience;
  MutexLock lock(&mutex_);
  while (open_streams_ > 0) {
    const absl::Time now = clock_.Now();
    if (now >= until) return false;
    news_.WaitWithTimeout(&mutex_, until - now);
  }
  return true;
}

v1::SwarmTraffic SwarmFetch::State::traffic() const {
  MutexLock lock(&mutex_);
  return traffic_;
}

std::vector<std::string> SwarmFetch::State::liars() const {
  MutexLock lock(&mutex_);
  return {liars_.begin(), liars_.end()};
}

void SwarmFetch::State::CountWasted(int64_t bytes) {
  if (bytes == 0) return;
  v1::SwarmTraffic wasted;
  wasted.set_wasted(bytes);
  host_->board()->CountFetched(wasted);
  MutexLock lock(&mutex_);
  traffic_.set_wasted(traffic_.wasted() + bytes);
}

}  // namespace koinon::dht
