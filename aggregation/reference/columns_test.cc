#include "aggregation/reference/columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace koinon::aggregation {
namespace {

using Rows = std::vector<std::vector<float>>;

TEST(MedianReferenceTest, OddAndEven_TakeMiddleOrMeanOfMiddles) {
  EXPECT_EQ(MedianReference(Rows{{3, 1}, {1, 1}, {2, 9}}).value,
            (std::vector<double>{2, 1}));
  EXPECT_EQ(MedianReference(Rows{{4}, {1}, {2}, {100}}).value,
            (std::vector<double>{3}));
  EXPECT_EQ(MedianReference(Rows{{7}}).value, (std::vector<double>{7}));
}

TEST(MedianReferenceTest, Zeros_NegativeOneFirst) {
  const ReferenceColumns reference =
      MedianReference(Rows{{0.0f}, {-0.0f}, {-0.0f}});
  EXPECT_TRUE(std::signbit(reference.value[0]));
}

TEST(TrimmedMeanReferenceTest, FourRows_LeaveOutTheExtremes) {
  const ReferenceColumns reference =
      TrimmedMeanReference(Rows{{-500}, {1}, {-2}, {100}}, 1);
  EXPECT_EQ(reference.value[0], -0.5);
  EXPECT_EQ(reference.magnitude[0], 1.5);
  EXPECT_EQ(reference.low[0], -2);
  EXPECT_EQ(reference.high[0], 1);
}

TEST(MeanAroundReferenceTest, EquallyNear_TakesTheSmaller) {
  const Rows rows = {{1}, {3}, {5}, {100}, {-90}};
  EXPECT_EQ(MeanAroundReference(rows, 1).value[0], 3);
  EXPECT_EQ(MeanAroundReference(rows, 2).value[0], 2);
  EXPECT_EQ(MeanAroundReference(rows, 3).value[0], 3);
  EXPECT_EQ(MeanAroundReference(rows, 4).high[0], 5);
  EXPECT_EQ(MeanAroundReference(rows, 4).low[0], -90);
}

TEST(WeightedMedianReferenceTest, HalfOfTheWeight_IsEnough) {
  const Rows rows = {{3}, {1}, {2}};
  EXPECT_EQ(WeightedMedianReference(rows, {1, 1, 1}).value[0], 2);
  EXPECT_EQ(WeightedMedianReference(rows, {2, 1, 1}).value[0], 2);
  EXPECT_EQ(WeightedMedianReference(rows, {3, 1, 1}).value[0], 3);
  EXPECT_EQ(WeightedMedianReference(rows, {0, 1, 1}).value[0], 1);
}

TEST(ColumnToleranceTest, CancellingValues_AreAllowedTheirMagnitude) {
  const ReferenceColumns reference =
      TrimmedMeanReference(Rows{{1e6f}, {-1e6f}}, 0);
  EXPECT_EQ(reference.value[0], 0);
  EXPECT_GT(ColumnTolerance(reference, 0), 1e6 * 0x1p-41);
  EXPECT_LT(ColumnTolerance(reference, 0), 1e6 * 0x1p-39);
}

}  // namespace
}  // namespace koinon::aggregation
