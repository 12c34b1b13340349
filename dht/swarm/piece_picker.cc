#include "dht/swarm/piece_picker.h"

#include <algorithm>
#include <deque>
#include <map>
#include <utility>

#include "base/check.h"
#include "dht/swarm/origin_patience.h"
#include "dht/swarm/piece_rarity.h"

namespace koinon::dht {
namespace {

// A request is late after so many times what pieces take, if that is sooner
// than the patience that was configured; and never sooner than a fraction of
// it: what takes milliseconds is not measured well.
constexpr double kLateFactor = 4;
constexpr double kLeastPatience = 1.0 / 16;
// Weight of the newest piece in what pieces take.
constexpr double kNewest = 0.2;
// What has been under way for so many times what pieces take may be asked of a
// source that has nothing else to give.
constexpr double kSlowFactor = 2;
// In flight from each source.
constexpr int64_t kInFlightBytes = 2 << 20;
constexpr int64_t kLeastInFlight = 2;
constexpr int64_t kMostInFlight = 32;

PiecePicker::Options Complete(PiecePicker::Options options) {
  KOINON_CHECK(options.piece_bytes > 0);
  if (options.in_flight_per_source == 0) {
    options.in_flight_per_source = std::clamp(
        kInFlightBytes / options.piece_bytes, kLeastInFlight, kMostInFlight);
  }
  return options;
}

}  // namespace

struct PiecePicker::State {
  struct Request {
    uint32_t piece = 0;
    absl::Time since;  // when it was asked for first
    absl::Time asked;  // what its patience counts from
    bool last_resort = false;
    bool late = false;  // others may be asked
  };

  struct SourceState {
    bool origin = false;
    PieceWords has;  // not of an origin: it has all
    std::vector<Request> requests;
    std::vector<uint32_t> cancel;
    size_t window = 0;  // requests that it may have

    // Of an origin.
    uint32_t any = 0;  // asked for and not begun
    OriginPatience patience{absl::ZeroDuration()};
  };

  // The requests for a piece that are not late.
  struct Flight {
    uint32_t on_time = 0;
    absl::Time asked;  // the last one
  };

  // What is known of a source whether or not it is there.
  struct Record {
    int strikes = 0;
    absl::Time until;
  };

  // A request that may become late; in the order of `asked`.
  struct Watch {
    Source source;
    uint32_t piece;
    absl::Time asked;
  };

  State(Options given, Bitmap given_have, absl::Time now)
      : options(Complete(given)),
        have(std::move(given_have)),
        rarity(have, options.seed),
        flights(options.pieces),
        last_progress(now) {
    KOINON_CHECK(have.size() == options.pieces);
  }

  size_t Missing() const { return options.pieces - have.count(); }

  // ---- Requests ----

  // A piece came, so long after it was asked for.
  void Learn(absl::Duration took) {
    typical = typical == absl::ZeroDuration()
                  ? took
                  : (1 - kNewest) * typical + kNewest * took;
    late_after = std::clamp(kLateFactor * typical,
                            kLeastPatience * options.piece_patience,
                            options.piece_patience);
    slow_after = std::min(kSlowFactor * typical, late_after);
  }

  void Ask(Source id, SourceState* source, uint32_t piece, absl::Time now,
           bool last_resort) {
    Ask(id, source,
        {.piece = piece,
         .since = now,
         .asked = now,
         .last_resort = last_resort});
  }

  void Ask(Source id, SourceState* source, const Request& request) {
    source->requests.push_back(request);
    watches.push_back({id, request.piece, request.asked});
    Flight& flight = flights[request.piece];
    if (flight.on_time++ == 0) rarity.SetAsked(request.piece, true);
    flight.asked = request.asked;
    ++on_time;
  }

  // One request fewer that is on its way and not late.
  void NoLongerOnTime(uint32_t piece) {
    if (--flights[piece].on_time == 0) rarity.SetAsked(piece, false);
    --on_time;
  }

  Request* FindRequest(SourceState* source, uint32_t piece) {
    for (Request& request : source->requests) {
      if (request.piece == piece) return &request;
    }
    return nullptr;
  }

  // False if there was none.
  bool Drop(SourceState* source, uint32_t piece) {
    Request* request = FindRequest(source, piece);
    if (request == nullptr) return false;
    if (!request->late) NoLongerOnTime(piece);
    source->requests.erase(source->requests.begin() +
                           (request - source->requests.data()));
    return true;
  }

  void DropAll(SourceState* source) {
    while (!source->requests.empty()) {
      Drop(source, source->requests.back().piece);
    }
    source->any = 0;
    source->cancel.clear();
  }

  // The request that is watched, if it is still under way and on time.
  Request* Watched(const Watch& watch) {
    const auto it = sources.find(watch.source);
    if (it == sources.end()) return nullptr;
    Request* request = FindRequest(&it->second, watch.piece);
    if (request == nullptr || request->late || request->asked != watch.asked) {
      return nullptr;
    }
    return request;
  }

  // Requests that have become late; forgets those that have ended.
  void Expire(absl::Time now) {
    while (!watches.empty()) {
      const Watch& watch = watches.front();
      if (Request* request = Watched(watch); request != nullptr) {
        if (now - watch.asked < late_after) return;
        request->late = true;
        NoLongerOnTime(watch.piece);
        sources.at(watch.source).window = 1;
      }
      watches.pop_front();
    }
  }

  // ---- Choices ----

  static bool Asked(const SourceState& source, uint32_t piece) {
    for (const Request& request : source.requests) {
      if (request.piece == piece) return true;
    }
    return false;
  }

  // Pieces that nobody has been asked for, or not lately; of all, or of those
  // that `has` names.
  std::vector<uint32_t> Rarest(const PieceWords* has, const SourceState& source,
                               size_t count) const {
    return rarity.Rarest(has, count,
                         [&](uint32_t piece) { return !Asked(source, piece); });
  }

  // Pieces that others have been asked for already: the last ones, and those
  // that come slowly.
  std::vector<uint32_t> Repeat(const SourceState& source, size_t count,
                               absl::Time now) const {
    const bool endgame = Missing() <= options.endgame_pieces;
    return rarity.Asked(source.has, count, [&](uint32_t piece) {
      const Flight& flight = flights[piece];
      return (endgame || now - flight.asked >= slow_after) &&
             flight.on_time < options.endgame_copies && !Asked(source, piece);
    });
  }

  void AskPeer(Source id, SourceState* source, absl::Time now, Wants* wants) {
    if (source->requests.size() >= source->window) return;
    const size_t room = source->window - source->requests.size();
    wants->pieces = Rarest(&source->has, *source, room);
    for (uint32_t piece : wants->pieces) Ask(id, source, piece, now, false);
    if (wants->pieces.size() == room) return;
    for (uint32_t piece : Repeat(*source, room - wants->pieces.size(), now)) {
      Ask(id, source, piece, now, false);
      wants->pieces.push_back(piece);
    }
  }

  void AskOrigin(Source id, SourceState* source, absl::Time now, Wants* wants) {
    const size_t under_way = source->any + source->requests.size();
    if (under_way >= source->window) return;
    if (!source->patience.dry()) {
      const size_t unasked = rarity.open();
      if (source->any >= unasked) return;
      wants->any = static_cast<uint32_t>(
          std::min(source->window - under_way, unasked - source->any));
      source->any += wants->any;
      return;
    }
    if (source->any > 0) return;
    switch (source->patience.Next(now, Starving(now), rarity.AnyUnavailable(),
                                  alone)) {
      case OriginPatience::Step::kWait:
        return;
      case OriginPatience::Step::kAny:
        wants->any = source->any = 1;
        return;
      case OriginPatience::Step::kCertain:
        break;
    }
    const size_t count = source->patience.certain();
    if (under_way >= count) return;
    wants->pieces = Rarest(nullptr, *source, count - under_way);
    wants->last_resort = !wants->pieces.empty();
    for (uint32_t piece : wants->pieces) Ask(id, source, piece, now, true);
  }

  // Nothing is on its way.
  bool Starving(absl::Time now) const {
    return on_time == 0 && now - last_progress >= LastResortPatience();
  }
  absl::Duration LastResortPatience() const {
    return alone ? OriginPatience::Alone(options.last_resort_patience)
                 : options.last_resort_patience;
  }

  // A piece came; from an origin, or from a peer.
  void TellOrigins(Source from, bool last_resort) {
    for (auto& [id, source] : sources) {
      if (!source.origin) continue;
      if (id != from) {
        source.patience.OnPeerGave();
      } else if (last_resort) {
        source.patience.OnLastResort(source.window);
      }
    }
  }

  // ---- Sources ----

  SourceState* Find(Source id) {
    const auto it = sources.find(id);
    return it == sources.end() ? nullptr : &it->second;
  }

  // Whether what it has is counted among what can be fetched.
  bool Counted(Source id) const {
    const auto it = records.find(id);
    return it == records.end() || it->second.strikes < options.strikes;
  }

  void Gains(Source id, SourceState* source, uint32_t piece) {
    if (source->origin || piece >= options.pieces) return;
    if (HasPiece(source->has, piece)) return;
    SetPiece(&source->has, piece);
    if (Counted(id)) rarity.Gain(piece);
  }

  void Loses(Source id, SourceState* source, uint32_t piece) {
    if (source->origin || piece >= options.pieces) return;
    if (!HasPiece(source->has, piece)) return;
    ClearPiece(&source->has, piece);
    if (Counted(id)) rarity.Lose(piece);
  }

  void LosesAll(Source id, SourceState* source) {
    if (source->origin) return;
    for (uint32_t i = 0; i < options.pieces; ++i) Loses(id, source, i);
  }

  const Options options;
  Bitmap have;
  PieceRarity rarity;  // asked: on its way, and not late; sources but origins
  std::vector<Flight> flights;  // of each piece
  size_t on_time = 0;           // requests that are not late
  std::map<Source, SourceState> sources;
  std::map<Source, Record> records;  // of liars
  std::deque<Watch> watches;
  absl::Duration typical;  // from request, or beginning, to arrival
  absl::Duration late_after = options.piece_patience;
  absl::Duration slow_after = options.piece_patience;
  absl::Time last_progress;
  bool alone = false;
};

PiecePicker::PiecePicker(Options options, Bitmap have, absl::Time now)
    : state_(std::make_unique<State>(options, std::move(have), now)) {}
PiecePicker::PiecePicker(PiecePicker&&) noexcept = default;
PiecePicker::~PiecePicker() = default;

void PiecePicker::AddSource(Source id, bool origin) {
  RemoveSource(id);
  State::SourceState& source = state_->sources[id];
  source.origin = origin;
  if (!origin) source.has.resize(state_->rarity.words());
  source.window = state_->options.in_flight_per_source;
  source.patience = OriginPatience(state_->options.last_resort_patience);
}

void PiecePicker::RemoveSource(Source id) {
  State::SourceState* source = state_->Find(id);
  if (source == nullptr) return;
  state_->DropAll(source);
  state_->LosesAll(id, source);
  state_->sources.erase(id);
}

void PiecePicker::OnHave(Source id, const Bitmap& have) {
  State::SourceState* source = state_->Find(id);
  if (source == nullptr) return;
  for (uint32_t i = 0; i < have.size(); ++i) {
    if (have.Has(i)) state_->Gains(id, source, i);
  }
}

void PiecePicker::OnHave(Source id, uint32_t piece) {
  State::SourceState* source = state_->Find(id);
  if (source != nullptr) state_->Gains(id, source, piece);
}

std::vector<PiecePicker::Source> PiecePicker::Idle(absl::Time now) const {
  const State& s = *state_;
  const absl::Duration enough =
      OriginPatience::Alone(s.options.last_resort_patience);
  if (done() || s.on_time > 0 || now - s.last_progress < enough) return {};
  std::vector<Source> idle;
  for (const auto& [id, source] : s.sources) {
    if (source.origin || !source.requests.empty()) continue;
    if (s.Rarest(&source.has, source, 1).empty()) idle.push_back(id);
  }
  return idle;
}

void PiecePicker::SetAlone(bool alone) { state_->alone = alone; }

PiecePicker::Wants PiecePicker::Next(Source id, absl::Time now) {
  Wants wants;
  State::SourceState* source = state_->Find(id);
  if (source == nullptr) return wants;
  state_->Expire(now);
  std::swap(wants.cancel, source->cancel);
  if (done() || banned(id, now)) return wants;
  if (source->origin) {
    state_->AskOrigin(id, source, now, &wants);
  } else {
    state_->AskPeer(id, source, now, &wants);
  }
  return wants;
}

bool PiecePicker::OnPiece(Source id, uint32_t piece, absl::Time now) {
  State& s = *state_;
  if (piece >= s.options.pieces) return false;
  State::SourceState* source = s.Find(id);
  bool last_resort = false;
  if (source != nullptr) {
    if (State::Request* request = s.FindRequest(source, piece);
        request != nullptr) {
      last_resort = request->last_resort;
      s.Learn(now - request->since);
      s.Drop(source, piece);
    } else if (source->any > 0) {
      --source->any;  // it has not said that it began
    }
    source->window =
        std::min(source->window + 1, s.options.in_flight_per_source);
  }
  if (s.have.Has(piece)) return false;
  s.have.Set(piece);
  s.rarity.Arrived(piece);
  s.last_progress = now;
  s.TellOrigins(id, last_resort);
  for (auto& [other_id, other] : s.sources) {
    if (s.Drop(&other, piece)) other.cancel.push_back(piece);
  }
  return true;
}

void PiecePicker::OnStarted(Source id, uint32_t piece, absl::Time now) {
  State& s = *state_;
  State::SourceState* source = s.Find(id);
  if (source == nullptr || piece >= s.options.pieces) return;
  if (const State::Request* found = s.FindRequest(source, piece);
      found != nullptr) {
    State::Request request = *found;
    s.Drop(source, piece);
    request.asked = now;
    request.late = false;
    s.Ask(id, source, request);
    return;
  }
  if (source->any == 0) return;  // cancelled, or never asked for
  --source->any;
  source->patience.OnStarted();
  if (!s.have.Has(piece)) s.Ask(id, source, piece, now, false);
}

void PiecePicker::OnRefused(Source id, uint32_t piece, absl::Time now) {
  State::SourceState* source = state_->Find(id);
  if (source == nullptr) return;
  const bool asked = state_->Drop(source, piece);
  if (!source->origin) {
    state_->Loses(id, source, piece);
  } else if (asked) {
    source->patience.OnRefused(now);
  }
}

void PiecePicker::OnNoneForYou(Source id, absl::Time now) {
  State::SourceState* source = state_->Find(id);
  if (source == nullptr || !source->origin) return;
  source->any = 0;
  source->patience.OnNone(now, state_->Starving(now));
}

void PiecePicker::OnLied(Source id, absl::Time now) {
  State& s = *state_;
  State::SourceState* source = s.Find(id);
  State::Record& record = s.records[id];
  if (source != nullptr) s.DropAll(source);
  ++record.strikes;
  record.until = now + s.options.ban;
  // What only it has counts as what nobody has from now on.
  if (source == nullptr || source->origin) return;
  if (record.strikes != s.options.strikes) return;
  for (uint32_t i = 0; i < s.options.pieces; ++i) {
    if (HasPiece(source->has, i)) s.rarity.Lose(i);
  }
}

bool PiecePicker::banned(Source id, absl::Time now) const {
  const auto it = state_->records.find(id);
  return it != state_->records.end() &&
         (now < it->second.until || banned_for_good(id));
}

bool PiecePicker::banned_for_good(Source id) const {
  const auto it = state_->records.find(id);
  return it != state_->records.end() &&
         it->second.strikes >= state_->options.strikes;
}

const Bitmap& PiecePicker::have() const { return state_->have; }

absl::Time PiecePicker::next_deadline(absl::Time now) const {
  const State& s = *state_;
  absl::Time next = absl::InfiniteFuture();
  const auto at = [&](absl::Time time) {
    if (time > now) next = std::min(next, time);
  };
  if (!s.watches.empty()) at(s.watches.front().asked + s.late_after);
  for (const auto& [id, source] : s.sources) {
    if (!source.origin || !source.patience.dry()) continue;
    at(source.patience.deadline(s.alone));
    at(s.last_progress + s.LastResortPatience());
  }
  for (const auto& [id, record] : s.records) at(record.until);
  return next;
}

}  // namespace koinon::dht
