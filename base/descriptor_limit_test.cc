#include "base/descriptor_limit.h"

#include <sys/resource.h>

#include "gtest/gtest.h"

namespace koinon {
namespace {

TEST(DescriptorLimitTest, LowSoftLimit_IsTheHardOneAfterwards) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(RaiseDescriptorLimit(), before.rlim_max);
  rlimit after;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &after), 0);
  EXPECT_EQ(after.rlim_cur, before.rlim_max);
  EXPECT_EQ(after.rlim_max, before.rlim_max);
  EXPECT_EQ(RaiseDescriptorLimit(), before.rlim_max);  // again: the same
  setrlimit(RLIMIT_NOFILE, &before);
}

}  // namespace
}  // namespace koinon
