#include "dht/node_upkeep.h"

#include <utility>

#include "dht/node_spread.h"

namespace koinon::dht {
namespace {

constexpr absl::Duration kSweepInterval = absl::Seconds(10);
constexpr size_t kRepublishPortion = 16;

}  // namespace

void Upkeep::Tick() {
  PingSilentNodes();
  const absl::Time now = core_->Now();
  if (now >= next_sweep_) {
    core_->store().Sweep(now);
    next_sweep_ = now + kSweepInterval;
  }
  Republish();
}

void Upkeep::PingSilentNodes() {
  const size_t at_once = core_->options().pings_at_once;
  if (core_->pings_waiting() >= at_once ||
      core_->Now() < core_->table().next_deadline()) {
    return;
  }
  for (const Contact& contact :
       core_->table().ToPing(core_->Now(), at_once - core_->pings_waiting())) {
    core_->Ping(contact);
  }
}

void Upkeep::Republish() {
  if (to_republish_.empty() && core_->table().size() > 0) {
    for (const Key& key :
         core_->store().ToRepublish(core_->Now(), kRepublishPortion)) {
      to_republish_.push_back(key);
    }
  }
  const size_t at_once =
      core_->is_awaited() ? 1 : core_->options().republish_at_once;
  while (republishing_ < at_once && !to_republish_.empty()) {
    const Key key = to_republish_.front();
    to_republish_.pop_front();
    auto stored = core_->store().Get(key, core_->Now());
    if (!stored.has_value()) continue;
    ++republishing_;
    PutRecord(core_, key, std::move(stored->record),
              core_->options().write_quorum,
              [this](const absl::StatusOr<Node::PutResult>& result) {
                --republishing_;
                core_->Count(result.ok() ? "republished" : "republish_failed");
              });
  }
}

}  // namespace koinon::dht
