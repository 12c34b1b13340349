#include "coordinator/distribution/publish_schedule.h"

#include <algorithm>
#include <utility>

namespace koinon::coordinator {
namespace {

absl::Duration Pause(absl::Duration first, absl::Duration last, int times) {
  constexpr int kMostDoublings = 30;
  return std::min(last,
                  first * (int64_t{1} << std::min(times, kMostDoublings)));
}

}  // namespace

bool PublishSchedule::Add(absl::Time now,
                          std::shared_ptr<const v1::JobSpec> spec,
                          std::shared_ptr<const v1::ModelManifest> manifest,
                          bool newest, uint64_t least_epoch) {
  const JobId job = manifest->job();
  const int64_t version = manifest->version();
  const Key key = {job, version};
  Remove(job, version);
  if (newest) {
    for (auto it = entries_.lower_bound({job, 0});
         it != entries_.end() && it->first.first == job; ++it) {
      if (!it->second.entry.newest) continue;
      Leave(it->first, it->second);
      it->second.entry.newest = false;
      Enter(it->first, it->second);
    }
  }
  Scheduled scheduled;
  scheduled.due = now;
  scheduled.entry.spec = std::move(spec);
  scheduled.entry.manifest = std::move(manifest);
  scheduled.entry.newest = newest;
  scheduled.entry.least_epoch = least_epoch;
  scheduled.entry.number = next_number_++;
  Enter(key, scheduled);
  entries_.emplace(key, std::move(scheduled));
  if (again_.size() <= options_.max_versions) return true;
  MakeRoom();
  return false;
}

// A job that lives adds its newest again and again.
PublishSchedule::Worth PublishSchedule::WorthOf(const Key& key,
                                                const Scheduled& scheduled) {
  if (scheduled.entry.newest) {
    return {2, static_cast<int64_t>(scheduled.entry.number), key};
  }
  return {scheduled.entry.manifest->pinned() ? 1 : 0, key.second, key};
}

void PublishSchedule::MakeRoom() {
  const auto it = entries_.find(std::get<Key>(*again_.begin()));
  Leave(it->first, it->second);
  it->second.once = true;
  if (it->second.successes > 0) {
    entries_.erase(it);
  } else {
    Enter(it->first, it->second);
  }
}

void PublishSchedule::Remove(const JobId& job, int64_t version) {
  const auto it = entries_.find({job, version});
  if (it != entries_.end()) Erase(it);
}

void PublishSchedule::Erase(std::map<Key, Scheduled>::iterator it) {
  Leave(it->first, it->second);
  entries_.erase(it);
}

void PublishSchedule::Enter(const Key& key, const Scheduled& scheduled) {
  OrderOf(scheduled)->emplace(scheduled.due, -key.second, key.first);
  if (!scheduled.once) again_.insert(WorthOf(key, scheduled));
}

void PublishSchedule::Leave(const Key& key, const Scheduled& scheduled) {
  OrderOf(scheduled)->erase({scheduled.due, -key.second, key.first});
  again_.erase(WorthOf(key, scheduled));
}

std::optional<PublishSchedule::Entry> PublishSchedule::Next(
    absl::Time now) const {
  for (const Order* order : {&newest_, &others_, &once_}) {
    if (order->empty()) continue;
    const auto& [due, version, job] = *order->begin();
    if (due <= now) return entries_.at({job, -version}).entry;
  }
  return std::nullopt;
}

absl::Time PublishSchedule::next_due() const {
  absl::Time due = absl::InfiniteFuture();
  for (const Order* order : {&newest_, &others_, &once_}) {
    if (!order->empty()) due = std::min(due, std::get<0>(*order->begin()));
  }
  return due;
}

bool PublishSchedule::Contains(const Entry& entry) const {
  const auto it =
      entries_.find({entry.manifest->job(), entry.manifest->version()});
  return it != entries_.end() && it->second.entry.number == entry.number;
}

void PublishSchedule::Done(absl::Time now, const Entry& entry, bool ok) {
  if (!Contains(entry)) return;
  const Key key = {entry.manifest->job(), entry.manifest->version()};
  Scheduled& scheduled = entries_.at(key);
  // A head that is stored again is no new key to whoever holds it.
  const bool fills = !scheduled.entry.newest || scheduled.successes == 0;
  Leave(key, scheduled);
  if (ok) {
    scheduled.entry.failures = 0;
    scheduled.due = now + Pause(options_.first_refresh, options_.last_refresh,
                                scheduled.successes++);
  } else {
    scheduled.due = now + Pause(options_.first_retry, options_.last_retry,
                                scheduled.entry.failures++);
  }
  if (ok && fills && ++stored_since_heads_ >= options_.heads_every) {
    MakeHeadsDue(now);  // but for this one
  }
  if (ok && scheduled.once) {
    entries_.erase(key);
  } else {
    Enter(key, scheduled);
  }
}

void PublishSchedule::MakeHeadsDue(absl::Time now) {
  stored_since_heads_ = 0;
  Order newest;
  for (const auto& [due, version, job] : newest_) {
    Scheduled& scheduled = entries_.at({job, -version});
    // What failed keeps its pause.
    if (scheduled.entry.failures == 0) scheduled.due = std::min(due, now);
    newest.emplace(scheduled.due, version, job);
  }
  newest_ = std::move(newest);
}

}  // namespace koinon::coordinator
