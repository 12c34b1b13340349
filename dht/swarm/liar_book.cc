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
  ++record.strikes;
  record.until = record.strikes >= options_.strikes ? absl::InfiniteFuture()
                                                    : now + options_.ban;
  return record.strikes;
}

void LiarBook::MakeRoom() {
  if (records_.empty() || records_.size() < options_.max_nodes) return;
  records_.erase(std::min_element(records_.begin(), records_.end(),
                                  [](const auto& a, const auto& b) {
                                    return std::pair(a.second.until, a.first) <
                                           std::pair(b.second.until, b.first);
                                  }));
}

absl::Status LiarBook::MayAsk(const Key& node, absl::Time now) const {
  MutexLock lock(&mutex_);
  const auto it = records_.find(node);
  if (it == records_.end()) return absl::OkStatus();
  const Record& record = it->second;
  if (record.until == absl::InfiniteFuture()) {
    return absl::PermissionDeniedError(
        absl::StrCat("banned for good: ", record.strikes,
                     " times it has sent what is not the content's"));
  }
  const absl::Duration left = record.until - now;
  // More than a ban is left only if the clock was set back: then it is over.
  if (left <= absl::ZeroDuration() || left > options_.ban) {
    return absl::OkStatus();
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
      all.emplace_back(node, record.strikes);
    }
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
    return std::pair(-a.second, a.first) < std::pair(-b.second, b.first);
  });
  if (all.size() > count) all.resize(count);
  return all;
}

}  // namespace koinon::dht
