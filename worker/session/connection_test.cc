#include "worker/session/connection.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace koinon::worker {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

Connection NewConnection(uint64_t seed = 1) {
  return Connection(Backoff(), absl::Seconds(10), Random(seed));
}

TEST(Backoff_Delay, GrowsToItsBoundAndStaysUnderIt) {
  const Backoff backoff;
  Random random(7);
  for (int failures = 1; failures <= 200; ++failures) {
    const absl::Duration ceiling = std::min(
        backoff.max, backoff.base * (1LL << std::min(failures - 1, 20)));
    const absl::Duration delay = backoff.Delay(failures, random);
    EXPECT_GE(delay, absl::ZeroDuration());
    EXPECT_LT(delay, ceiling) << "after failure " << failures;
  }
}

TEST(Backoff_Delay, ManyWorkers_SpreadOverTheWholeInterval) {
  // Full jitter: of 1000 draws in ten equal bins none is empty (each is with
  // probability 0.9^1000 < 1e-45).
  const Backoff backoff;
  std::vector<int> bins(10);
  for (uint64_t worker = 0; worker < 1000; ++worker) {
    Random random(worker);
    const double share =
        absl::FDivDuration(backoff.Delay(20, random), backoff.max);
    ++bins[static_cast<size_t>(share * 10)];
  }
  EXPECT_GT(*std::min_element(bins.begin(), bins.end()), 0);
}

TEST(Backoff_LongDelay, IsInTheUpperHalf) {
  const Backoff backoff;
  Random random(7);
  for (int i = 0; i < 100; ++i) {
    const absl::Duration delay = backoff.LongDelay(random);
    EXPECT_GE(delay, backoff.max / 2);
    EXPECT_LE(delay, backoff.max);
  }
}

TEST(Connection_Tick, Fresh_OpensAtOnce) {
  EXPECT_EQ(NewConnection().CheckDue(kStart), Connection::Due::kOpen);
}

TEST(Connection_Welcome, Missing_IsDueAfterTheTimeout) {
  Connection connection = NewConnection();
  EXPECT_EQ(connection.BeginOpening(kStart), 1u);
  EXPECT_EQ(connection.next_deadline(), kStart + absl::Seconds(10));
  EXPECT_EQ(connection.CheckDue(kStart + absl::Seconds(9.9)),
            Connection::Due::kNothing);
  EXPECT_EQ(connection.CheckDue(kStart + absl::Seconds(10)),
            Connection::Due::kWelcomeMissing);
}

TEST(Connection_Lease, IsRenewedEveryThird) {
  Connection connection = NewConnection();
  connection.BeginOpening(kStart);
  connection.OnWelcome(kStart, absl::Seconds(15));
  EXPECT_EQ(connection.next_deadline(), kStart + absl::Seconds(5));
  EXPECT_EQ(connection.CheckDue(kStart + absl::Seconds(5)),
            Connection::Due::kRenew);
  connection.OnRenewalSent(kStart + absl::Seconds(5));
  EXPECT_EQ(connection.next_deadline(), kStart + absl::Seconds(10));
}

TEST(Connection_Lease, NotConfirmedForItsLength_IsMissing) {
  Connection connection = NewConnection();
  connection.BeginOpening(kStart);
  connection.OnWelcome(kStart, absl::Seconds(15));
  connection.OnLeaseRenewed(kStart + absl::Seconds(5));
  for (int s : {5, 10, 15}) connection.OnRenewalSent(kStart + absl::Seconds(s));
  EXPECT_EQ(connection.CheckDue(kStart + absl::Seconds(19)),
            Connection::Due::kNothing);
  EXPECT_EQ(connection.CheckDue(kStart + absl::Seconds(20)),
            Connection::Due::kLeaseMissing);
}

TEST(Connection_Broken, Permanently_WaitsLong) {
  Connection connection = NewConnection();
  connection.BeginOpening(kStart);
  connection.OnBroken(kStart, /*permanent=*/true);
  EXPECT_GE(connection.next_deadline(), kStart + absl::Seconds(15));
  EXPECT_LE(connection.next_deadline(), kStart + absl::Seconds(30));
}

TEST(Connection_Broken, AfterWelcome_StartsBackoffAnew) {
  Connection connection = NewConnection();
  for (int i = 0; i < 20; ++i) {
    connection.BeginOpening(kStart);
    connection.OnBroken(kStart, /*permanent=*/false);
  }
  connection.BeginOpening(kStart);
  connection.OnWelcome(kStart, absl::Seconds(15));
  connection.OnBroken(kStart, /*permanent=*/false);
  EXPECT_LE(connection.next_deadline(), kStart + absl::Milliseconds(200));
}

TEST(Connection_Stopped, NothingIsEverDue) {
  Connection connection = NewConnection();
  connection.Stop();
  EXPECT_EQ(connection.CheckDue(absl::InfiniteFuture()),
            Connection::Due::kNothing);
  EXPECT_EQ(connection.next_deadline(), absl::InfiniteFuture());
}

}  // namespace
}  // namespace koinon::worker
