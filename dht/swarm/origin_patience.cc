#include "dht/swarm/origin_patience.h"

#include <algorithm>

namespace koinon::dht {
namespace {

// The wait of one that gets pieces from others grows to so many patiences.
constexpr int kLongestWait = 8;

}  // namespace

OriginPatience::Step OriginPatience::Next(absl::Time now, bool starving,
                                          bool unavailable, bool alone) {
  if (lonely_ > 0) return Step::kCertain;
  if (now - stepped_ < Wait(alone) || !(starving || unavailable))
    return Step::kWait;
  stepped_ = now;
  if (probed_ && starving) return Step::kCertain;
  probed_ = true;
  return Step::kAny;
}

void OriginPatience::OnNone(absl::Time now, bool starving) {
  if (dry_ && !starving) wait_ = std::min(2 * wait_, kLongestWait * patience_);
  dry_ = true;
  stepped_ = now;
}

void OriginPatience::OnRefused(absl::Time now) {
  lonely_ = 0;
  stepped_ = now;
}

void OriginPatience::OnLastResort(size_t most) {
  // A peer may have given something since it was asked for.
  if (probed_) lonely_ = std::min(lonely_ + 1, most);
  wait_ = patience_;
}

void OriginPatience::OnPeerGave() {
  lonely_ = 0;
  probed_ = false;
  wait_ = patience_;
}

}  // namespace koinon::dht
