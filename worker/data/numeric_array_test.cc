#include "worker/data/numeric_array.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

TEST(CheckedElementCount, Shapes_MultiplyUpToTheBound) {
  EXPECT_THAT(CheckedElementCount("a", {2, 3, 4}, 96), IsOkAndHolds(24u));
  EXPECT_THAT(CheckedElementCount("a", {}, 4), IsOkAndHolds(1u));
  EXPECT_THAT(CheckedElementCount("a", {2, 3, 4}, 95),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("a: shape [2, 3, 4]")));
}

TEST(CheckedElementCount, OverflowingShape_IsRefused) {
  EXPECT_THAT(CheckedElementCount("a", {kHuge, kHuge, 16}, uint64_t{1} << 62),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(CheckedElementCount, ZeroExtent_IsNothingHoweverLargeTheRest) {
  EXPECT_THAT(CheckedElementCount("a", {kHuge, kHuge, 0}, 100),
              IsOkAndHolds(0u));
  EXPECT_THAT(CheckedElementCount("a", {0, kHuge, kHuge}, 100),
              IsOkAndHolds(0u));
}

TEST(CheckedElementCount, NegativeExtent_IsRefused) {
  EXPECT_THAT(
      CheckedElementCount("a", {2, -1}, 100),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("negative")));
}

TEST(ToLabels, WholeNumbers_BecomeClasses) {
  EXPECT_THAT(ToLabels("y", {0, 9, kMaxClasses - 1}),
              IsOkAndHolds(ElementsAre(0, 9, kMaxClasses - 1)));
}

TEST(ToLabels, AnythingElse_IsRefusedWithItsPlace) {
  for (float bad : {-1.0f, 0.5f, float{kMaxClasses}, std::nanf("")}) {
    EXPECT_THAT(ToLabels("y", {0, 1, bad}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("y: label of example 2")))
        << bad;
  }
}

TEST(CheckFinite, NonFiniteElement_IsRefusedWithItsPlace) {
  EXPECT_OK(CheckFinite("x", {1, -2}));
  EXPECT_THAT(
      CheckFinite("x", {1, std::numeric_limits<float>::infinity()}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("x: element 1")));
}

}  // namespace
}  // namespace koinon::worker
