#include "base/check.h"

#include <gtest/gtest.h>

namespace koinon {
namespace {

TEST(CheckTest, True_GoesOn) { KOINON_CHECK(1 + 1 == 2); }

TEST(CheckDeathTest, False_DiesAndSaysWhere) {
  const int two = 2;
  EXPECT_DEATH(KOINON_CHECK(two == 3), "check_test.cc:.* two == 3");
}

}  // namespace
}  // namespace koinon
