#ifndef KOINON_DHT_QUERY_ANSWER_TIMES_H_
#define KOINON_DHT_QUERY_ANSWER_TIMES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace koinon::dht {

// How long answers take, from the last few hundred of them: a question's
// time-out follows from it, and when to ask somebody else meanwhile (Dean and
// Barroso 2013, "The tail at scale"). A value. Not thread-safe.
//
// Answers that come after their time-out must be added too: only by them does
// the time-out grow again once it has become too short.
class AnswerTimes {
 public:
  struct Options {
    size_t window = 256;
    // Before so many answers were heard, nothing is concluded from them.
    size_t enough = 8;
    absl::Duration min_timeout = absl::Milliseconds(50);
    absl::Duration max_timeout = absl::Seconds(1);
    absl::Duration max_hedge = absl::Milliseconds(500);
  };
  // Requires window > 0.
  explicit AnswerTimes(Options options);

  // Below zero counts as zero.
  void Add(absl::Duration took);
  // 3 x the 99th percentile, within the bounds; the upper bound before there is
  // anything to go by.
  absl::Duration timeout() const;
  // The 95th percentile; at most max_hedge, which it is before there is
  // anything to go by.
  absl::Duration hedge() const;

 private:
  // The smallest time that `percent` of the answers did not exceed.
  absl::Duration Percentile(size_t percent) const;

  Options options_;
  // Microseconds, rounded up; thousands of simulated nodes have one of these.
  std::vector<uint32_t> recent_;  // a ring, once it is full
  std::vector<uint32_t> sorted_;  // the same, ascending
  size_t next_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_QUERY_ANSWER_TIMES_H_
