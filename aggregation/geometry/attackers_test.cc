#include "aggregation/geometry/attackers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(AttackersTest, Fraction_IsOfTheUpdatesReceived) {
  ASSERT_OK_AND_ASSIGN(const Attackers part,
                       Attackers::Create("a.krum", 0, 0.29, 0.5));
  // In floating point 0.29 * 100 is below 29.
  EXPECT_EQ(part.Of(100), 29);
  EXPECT_EQ(part.Of(3), 0);
  EXPECT_EQ(part.Of(0), 0);
  EXPECT_TRUE(part.asked());
  EXPECT_EQ(part.Describe(10), "f_fraction = 0.29, f = 2");
}

TEST(AttackersTest, Count_IsWhatItIs) {
  ASSERT_OK_AND_ASSIGN(const Attackers three,
                       Attackers::Create("a.krum", 3, 0, 0.5));
  EXPECT_EQ(three.Of(1), 3);
  EXPECT_EQ(three.Describe(10), "f = 3");
  EXPECT_FALSE(Attackers().asked());
  EXPECT_EQ(Attackers().Of(10), 0);
}

TEST(AttackersTest, BadNumbers_AreRefusedWithTheField) {
  const auto refused = [](int64_t f, double fraction, const char* message) {
    EXPECT_THAT(Attackers::Create("a.krum", f, fraction, 0.25),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("a.krum.f"), HasSubstr(message))));
  };
  refused(-1, 0, "is -1, expected 0 to");
  refused(Attackers::kMost + 1, 0, "expected 0 to");
  refused(0, 0.25, "expected a number in [0, 0.25)");
  refused(0, -0.1, "expected a number in [0, 0.25)");
  refused(0, std::nan(""), "expected a number in [0, 0.25)");
  refused(1, 0.1, "set one of them");
}

}  // namespace
}  // namespace koinon::aggregation
