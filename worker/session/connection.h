#ifndef KOINON_WORKER_SESSION_CONNECTION_H_
#define KOINON_WORKER_SESSION_CONNECTION_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/random.h"

namespace koinon::worker {

// Waiting times after failures: uniform in [0, ceiling), the ceiling doubling
// from `base` to `max` ("full jitter": a thousand workers that lost the same
// coordinator do not come back in step). A value.
struct Backoff {
  absl::Duration base = absl::Milliseconds(200);
  absl::Duration max = absl::Seconds(30);

  // After the `failures`-th failure in a row, counted from 1.
  absl::Duration Delay(int failures, Random& random) const;
  // After a failure that only an operator can mend: in [max / 2, max).
  absl::Duration LongDelay(Random& random) const;
};

// When to connect, when to renew the lease, when to give a connection up. Pure:
// `now` and the generator come from outside. Not thread-safe.
//
//   idle --(back-off over)--> opening --(Welcome)--> open
//   opening, open --(broken, silent)--> idle;  any --(Stop)--> stopped
class Connection {
 public:
  enum class State { kIdle, kOpening, kOpen, kStopped };
  // What is due.
  enum class Due { kNothing, kOpen, kRenew, kWelcomeMissing, kLeaseMissing };

  Connection(Backoff backoff, absl::Duration welcome_timeout, Random random)
      : backoff_(backoff), welcome_timeout_(welcome_timeout), random_(random) {}

  Due CheckDue(absl::Time now) const;
  // When CheckDue has to be asked again.
  absl::Time next_deadline() const;

  // Requires kIdle. The number of the new session, from 1.
  uint64_t BeginOpening(absl::Time now);
  // Requires kOpening and lease > 0.
  void OnWelcome(absl::Time now, absl::Duration lease);
  void OnLeaseRenewed(absl::Time now);
  void OnRenewalSent(absl::Time now);
  // Requires kOpening or kOpen. `permanent`: only an operator can mend it.
  void OnBroken(absl::Time now, bool permanent);
  void Stop() { state_ = State::kStopped; }

  State state() const { return state_; }
  uint64_t session() const { return session_; }
  // The session, if Welcome has come.
  std::optional<uint64_t> open_session() const {
    if (state_ != State::kOpen) return std::nullopt;
    return session_;
  }
  absl::Duration lease() const { return lease_; }

 private:
  const Backoff backoff_;
  const absl::Duration welcome_timeout_;
  Random random_;
  State state_ = State::kIdle;
  uint64_t session_ = 0;
  int failures_ = 0;
  absl::Time retry_at_ = absl::InfinitePast();          // kIdle
  absl::Time welcome_deadline_ = absl::InfinitePast();  // kOpening
  absl::Duration lease_;                                // kOpen
  absl::Time renew_at_ = absl::InfinitePast();          // kOpen
  // The last time that the coordinator confirmed the lease.
  absl::Time confirmed_ = absl::InfinitePast();  // kOpen
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SESSION_CONNECTION_H_
