#ifndef KOINON_DHT_QUERY_ANSWER_TIMES_H_
#define KOINON_DHT_QUERY_ANSWER_TIMES_H_

#include <cstddef>
#include <vector>

#include "absl/time/time.h"

namespace koinon::dht {

// How long answers take, from the last few hundred of them: a question's
// time-out follows from it, and when to ask somebody else meanwhile (Dean and
// Barroso 2013, "The tail at scale"). A value. Not thread-safe.
class AnswerTimes {
 public:
  struct Options {
    size_t window = 256;
    absl::Duration min_timeout = absl::Milliseconds(50);
    absl::Duration max_timeout = absl::Seconds(1);
    absl::Duration max_hedge = absl::Milliseconds(500);
  };
  explicit AnswerTimes(Options options);

  void Add(absl::Duration took);
  // 3 x the 99th percentile, within the bounds; the upper bound before there is
  // anything to go by.
  absl::Duration timeout() const;
  // The 95th percentile; at most max_hedge.
  absl::Duration hedge() const;

 private:
  const Options options_;
  std::vector<absl::Duration> recent_;  // a ring
  size_t next_ = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_QUERY_ANSWER_TIMES_H_
