#include "dht/swarm/liar_book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace koinon::dht {

int LiarBook::Count(const Key& node, absl::Time now) {
  MutexLock lock(&mutex_);
  ++lies_;
  if (node.IsZero()) return 1;
  if (!records_.contains(node)) MakeRoom();
  Record& record = records_[node];
  if (now - record.last >= options_.clean) record.strikes = 0;
  ++record.strikes;
  ++record.lies;
  record.last = now;
  return record.lies;
}

absl::Duration LiarBook::BanOf(const Record& record) const {
  return record.strikes >= options_.strikes ? options_.clean : options_.ban;
}

void LiarBook::MakeRoom() {
  if (records_.empty() || records_.size() < options_.max_nodes) return;
  const auto end = [this](const auto& known) {
    return std::pair(known.second.last + BanOf(known.second), known.first);
  };
  records_.erase(std::min_element(
      records_.begin(), records_.end(),
      [&](const auto& a, const auto& b) { return end(a) < end(b); }));
}

absl::Status LiarBook::MayAsk(const Key& node, absl::Time now) const {
  MutexLock lock(&mutex_);
  const auto it = records_.find(node);
  if (it == records_.end()) return absl::OkStatus();
  const Record& record = it->second;
  const absl::Duration ban = BanOf(record);
  const absl::Duration left = record.last + ban - now;
  // More than a ban is left only if the clock was set back: then it is over.
  if (left <= absl::ZeroDuration() || left > ban) return absl::OkStatus();
  if (record.strikes >= options_.strikes) {
    return absl::PermissionDeniedError(
        absl::StrCat("banned until it has not lied for ",
                     absl::FormatDuration(options_.clean), ": ", record.strikes,
                     " times it has sent what is not the content's"));
  }
  return absl::UnavailableError(
      absl::StrCat("banned for ", absl::FormatDuration(left),
                   " more: it has sent what is not the content's"));
}

int64_t LiarBook::lies() const {
  MutexLock lock(&mutex_);
  return lies_;
}

std::vector<std::pair<Key, int>> LiarBook::Worst(size_t count) const {
  std::vector<std::pair<Key, int>> all;
  {
    MutexLock lock(&mutex_);
    for (const auto& [node, record] : records_) {
      all.emplace_back(node, record.lies);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(-a.second, a.first) < std::pair(-b.second, b.first);
  });
  if (all.size() > count) all.resize(count);
  return all;
}

}  // namespace koinon::dht
