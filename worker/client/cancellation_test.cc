#include "worker/client/cancellation.h"

#include <gtest/gtest.h>

namespace koinon::worker {
namespace {

TEST(Cancellation_Cancel, WithHook_RunsItOnce) {
  Cancellation cancellation;
  int runs = 0;
  Cancellation::Hook hook(&cancellation, [&] { ++runs; });
  EXPECT_FALSE(cancellation.cancelled());
  cancellation.Cancel();
  cancellation.Cancel();
  EXPECT_TRUE(cancellation.cancelled());
  EXPECT_EQ(runs, 1);
}

TEST(Cancellation_Hook, AfterCancel_RunsAtOnce) {
  Cancellation cancellation;
  cancellation.Cancel();
  int runs = 0;
  Cancellation::Hook hook(&cancellation, [&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

TEST(Cancellation_Hook, Gone_DoesNotRun) {
  Cancellation cancellation;
  int runs = 0;
  {
    Cancellation::Hook hook(&cancellation, [&] { ++runs; });
  }
  cancellation.Cancel();
  EXPECT_EQ(runs, 0);
}

}  // namespace
}  // namespace koinon::worker
