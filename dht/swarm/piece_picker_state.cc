#include "dht/swarm/piece_picker_state.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

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

PiecePicker::State::State(Options given, Bitmap given_have, absl::Time now)
    : options(Complete(given)),
      have(std::move(given_have)),
      rarity(have, options.seed),
      flights(options.pieces),
      last_progress(now) {
  KOINON_CHECK(have.size() == options.pieces);
}

void PiecePicker::State::Learn(absl::Duration took) {
  typical = typical == absl::ZeroDuration()
                ? took
                : (1 - kNewest) * typical + kNewest * took;
  late_after =
      std::clamp(kLateFactor * typical, kLeastPatience * options.piece_patience,
                 options.piece_patience);
  slow_after = std::min(kSlowFactor * typical, late_after);
}

void PiecePicker::State::Ask(Source id, SourceState* source, uint32_t piece,
                             absl::Time now, bool last_resort) {
  Ask(id, source,
      {.piece = piece, .since = now, .asked = now, .last_resort = last_resort});
}

void PiecePicker::State::Ask(Source id, SourceState* source,
                             const Request& request) {
  source->requests.push_back(request);
  watches.push_back({id, request.piece, request.asked});
  Flight& flight = flights[request.piece];
  if (flight.on_time++ == 0) rarity.SetAsked(request.piece, true);
  flight.asked = request.asked;
  ++on_time;
}

void PiecePicker::State::NoLongerOnTime(uint32_t piece) {
  if (--flights[piece].on_time == 0) rarity.SetAsked(piece, false);
  --on_time;
}

PiecePicker::State::Request* PiecePicker::State::FindRequest(
    SourceState* source, uint32_t piece) {
  for (Request& request : source->requests) {
    if (request.piece == piece) return &request;
  }
  return nullptr;
}

bool PiecePicker::State::Drop(SourceState* source, uint32_t piece) {
  Request* request = FindRequest(source, piece);
  if (request == nullptr) return false;
  if (!request->late) NoLongerOnTime(piece);
  source->requests.erase(source->requests.begin() +
                         (request - source->requests.data()));
  return true;
}

void PiecePicker::State::DropAll(SourceState* source) {
  while (!source->requests.empty()) {
    Drop(source, source->requests.back().piece);
  }
  source->any = 0;
  source->cancel.clear();
}

PiecePicker::State::Request* PiecePicker::State::Watched(const Watch& watch) {
  const auto it = sources.find(watch.source);
  if (it == sources.end()) return nullptr;
  Request* request = FindRequest(&it->second, watch.piece);
  if (request == nullptr || request->late || request->asked != watch.asked) {
    return nullptr;
  }
  return request;
}

void PiecePicker::State::Expire(absl::Time now) {
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

bool PiecePicker::State::Asked(const SourceState& source, uint32_t piece) {
  for (const Request& request : source.requests) {
    if (request.piece == piece) return true;
  }
  return false;
}

std::vector<uint32_t> PiecePicker::State::Rarest(const PieceWords* has,
                                                 const SourceState& source,
                                                 size_t count) const {
  return rarity.Rarest(has, count,
                       [&](uint32_t piece) { return !Asked(source, piece); });
}

std::vector<uint32_t> PiecePicker::State::Repeat(const SourceState& source,
                                                 size_t count,
                                                 absl::Time now) const {
  const bool endgame = Missing() <= options.endgame_pieces;
  return rarity.Asked(source.has, count, [&](uint32_t piece) {
    const Flight& flight = flights[piece];
    return (endgame || now - flight.asked >= slow_after) &&
           flight.on_time < options.endgame_copies && !Asked(source, piece);
  });
}

void PiecePicker::State::AskPeer(Source id, SourceState* source, absl::Time now,
                                 Wants* wants) {
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

void PiecePicker::State::AskOrigin(Source id, SourceState* source,
                                   absl::Time now, Wants* wants) {
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

bool PiecePicker::State::Starving(absl::Time now) const {
  return on_time == 0 && now - last_progress >= LastResortPatience();
}
absl::Duration PiecePicker::State::LastResortPatience() const {
  return alone ? OriginPatience::Alone(options.last_resort_patience)
               : options.last_resort_patience;
}

void PiecePicker::State::TellOrigins(Source from, bool last_resort) {
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

PiecePicker::State::SourceState* PiecePicker::State::Find(Source id) {
  const auto it = sources.find(id);
  return it == sources.end() ? nullptr : &it->second;
}

bool PiecePicker::State::Counted(Source id) const {
  const auto it = records.find(id);
  return it == records.end() || it->second.strikes < options.strikes;
}

void PiecePicker::State::Gains(Source id, SourceState* source, uint32_t piece) {
  if (source->origin || piece >= options.pieces) return;
  if (HasPiece(source->has, piece)) return;
  SetPiece(&source->has, piece);
  if (Counted(id)) rarity.Gain(piece);
}

void PiecePicker::State::Loses(Source id, SourceState* source, uint32_t piece) {
  if (source->origin || piece >= options.pieces) return;
  if (!HasPiece(source->has, piece)) return;
  ClearPiece(&source->has, piece);
  if (Counted(id)) rarity.Lose(piece);
}

void PiecePicker::State::LosesAll(Source id, SourceState* source) {
  if (source->origin) return;
  for (uint32_t i = 0; i < options.pieces; ++i) Loses(id, source, i);
}

}  // namespace koinon::dht
