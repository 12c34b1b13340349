#include "worker/session/connection.h"

#include <algorithm>

namespace koinon::worker {

absl::Duration Backoff::Delay(int failures, Random& random) const {
  // 2^40 times any base is over any max: no overflow, whatever `failures` is.
  const int doublings = std::clamp(failures - 1, 0, 40);
  const absl::Duration ceiling =
      std::min(max, base * static_cast<double>(int64_t{1} << doublings));
  return ceiling * random.NextDouble();
}

absl::Duration Backoff::LongDelay(Random& random) const {
  return max * (0.5 + 0.5 * random.NextDouble());
}

Connection::Due Connection::CheckDue(absl::Time now) const {
  switch (state_) {
    case State::kIdle:
      return now >= retry_at_ ? Due::kOpen : Due::kNothing;
    case State::kOpening:
      return now >= welcome_deadline_ ? Due::kWelcomeMissing : Due::kNothing;
    case State::kOpen:
      if (now >= confirmed_ + lease_) return Due::kLeaseMissing;
      return now >= renew_at_ ? Due::kRenew : Due::kNothing;
    case State::kStopped:
      break;
  }
  return Due::kNothing;
}

absl::Time Connection::next_deadline() const {
  switch (state_) {
    case State::kIdle:
      return retry_at_;
    case State::kOpening:
      return welcome_deadline_;
    case State::kOpen:
      return std::min(renew_at_, confirmed_ + lease_);
    case State::kStopped:
      break;
  }
  return absl::InfiniteFuture();
}

uint64_t Connection::BeginOpening(absl::Time now) {
  state_ = State::kOpening;
  welcome_deadline_ = now + welcome_timeout_;
  return ++session_;
}

void Connection::OnWelcome(absl::Time now, absl::Duration lease) {
  state_ = State::kOpen;
  failures_ = 0;
  lease_ = lease;
  confirmed_ = now;
  OnRenewalSent(now);
}

void Connection::OnLeaseRenewed(absl::Time now) { confirmed_ = now; }

void Connection::OnRenewalSent(absl::Time now) { renew_at_ = now + lease_ / 3; }

void Connection::OnBroken(absl::Time now, bool permanent) {
  state_ = State::kIdle;
  ++failures_;
  retry_at_ = now + (permanent ? backoff_.LongDelay(random_)
                               : backoff_.Delay(failures_, random_));
}

}  // namespace koinon::worker
