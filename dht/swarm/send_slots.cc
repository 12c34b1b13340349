#include "dht/swarm/send_slots.h"

#include <algorithm>
#include <utility>

namespace koinon::dht {

void SendSlots::Ask(Stream stream, double has) {
  if (holders_.contains(stream)) return;
  const auto [it, is_new] = waiting_.try_emplace(stream);
  it->second.has = has;
  if (is_new) it->second.turn = turns_++;
}

bool SendSlots::GoesBefore(const Waiting& a, const Waiting& b) const {
  const bool a_long = a.waited >= options_.patience;
  const bool b_long = b.waited >= options_.patience;
  if (a_long != b_long) return a_long;
  if (!a_long && a.has != b.has) return a.has < b.has;
  return a.turn < b.turn;
}

std::optional<SendSlots::Stream> SendSlots::Next() {
  if (holders_.size() >= options_.slots || waiting_.empty()) {
    return std::nullopt;
  }
  const auto best = std::min_element(waiting_.begin(), waiting_.end(),
                                     [this](const auto& a, const auto& b) {
                                       return GoesBefore(a.second, b.second);
                                     });
  const Stream stream = best->first;
  waiting_.erase(best);
  holders_[stream] = Holder();
  return stream;
}

void SendSlots::OnMoved(Stream stream) {
  const auto it = holders_.find(stream);
  if (it != holders_.end()) it->second.moved = true;
}

void SendSlots::Release(Stream stream) {
  holders_.erase(stream);
  waiting_.erase(stream);
}

void SendSlots::Pass(absl::Duration passed) {
  for (auto& [stream, waiting] : waiting_) waiting.waited += passed;
  for (auto& [stream, holder] : holders_) {
    holder.idle = std::exchange(holder.moved, false) ? absl::ZeroDuration()
                                                     : holder.idle + passed;
  }
  std::erase_if(holders_, [&](const auto& entry) {
    return entry.second.idle >= options_.patience;
  });
}

}  // namespace koinon::dht
