#include "dht/query/answer_times.h"

#include <algorithm>
#include <limits>

#include "base/check.h"

namespace koinon::dht {
namespace {

uint32_t ToMicroseconds(absl::Duration took) {
  const int64_t us =
      absl::ToInt64Microseconds(absl::Ceil(took, absl::Microseconds(1)));
  return static_cast<uint32_t>(
      std::clamp<int64_t>(us, 0, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

AnswerTimes::AnswerTimes(Options options) : options_(options) {
  KOINON_CHECK(options_.window > 0);
}

void AnswerTimes::Add(absl::Duration took) {
  const uint32_t us = ToMicroseconds(took);
  if (recent_.size() < options_.window) {
    recent_.push_back(us);
  } else {
    const auto oldest =
        std::lower_bound(sorted_.begin(), sorted_.end(), recent_[next_]);
    sorted_.erase(oldest);
    recent_[next_] = us;
    next_ = (next_ + 1) % options_.window;
  }
  sorted_.insert(std::upper_bound(sorted_.begin(), sorted_.end(), us), us);
}

absl::Duration AnswerTimes::Percentile(size_t percent) const {
  const size_t rank = (sorted_.size() * percent + 99) / 100;
  return absl::Microseconds(sorted_[rank - 1]);
}

absl::Duration AnswerTimes::timeout() const {
  if (sorted_.size() < std::max<size_t>(options_.enough, 1)) {
    return options_.max_timeout;
  }
  return std::max(options_.min_timeout,
                  std::min(options_.max_timeout, 3 * Percentile(99)));
}

absl::Duration AnswerTimes::hedge() const {
  if (sorted_.size() < std::max<size_t>(options_.enough, 1)) {
    return options_.max_hedge;
  }
  return std::min(options_.max_hedge, Percentile(95));
}

}  // namespace koinon::dht
