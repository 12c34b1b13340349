#include "dht/swarm/piece_picker.h"

#include <algorithm>
#include <utility>

#include "dht/swarm/piece_picker_state.h"

namespace koinon::dht {

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
