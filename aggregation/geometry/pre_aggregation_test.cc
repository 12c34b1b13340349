#include "aggregation/geometry/pre_aggregation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "aggregation/geometry/testing_points.h"
#include "base/status_matchers.h"
#include "google/protobuf/text_format.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pointwise;
using ::testing::SizeIs;

PreAggregation Step(const std::string& text) {
  v1::PreAggregation spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  auto step = PreAggregation::Create(spec, "aggregation.pre_aggregation[0]");
  EXPECT_OK(step);
  return *std::move(step);
}

TracedPoints Apply(const std::string& text, const Coordinates& rows,
                   uint64_t seed = 1, std::vector<double> weights = {}) {
  TracedPoints traced(PointsAt(rows, std::move(weights)));
  EXPECT_OK(Step(text).Apply(seed, &traced));
  ExpectDistancesOf(traced.points, Locate(traced.points, rows), 1e-9);
  return traced;
}

void ExpectPlaces(const TracedPoints& traced, const Coordinates& rows,
                  const Coordinates& expected, double tolerance = 1e-12) {
  const Coordinates places = Locate(traced.points, rows);
  ASSERT_EQ(places.size(), expected.size());
  for (size_t i = 0; i < places.size(); ++i) {
    EXPECT_THAT(places[i],
                Pointwise(::testing::DoubleNear(tolerance), expected[i]))
        << i;
  }
}

const Coordinates& ByzFlRows() {
  static const auto* const rows =
      new Coordinates{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
  return *rows;
}

// LPD-EPFL/byzfl tests/unit_test_preaggregators.py, with its tolerance.
TEST(NormClippingTest, ByzFlsNumbers_Match) {
  const TracedPoints traced = Apply("norm_clipping { norm: 2 }", ByzFlRows());
  ExpectPlaces(traced, ByzFlRows(),
               {{0.53452248, 1.06904497, 1.60356745},
                {0.91168461, 1.13960576, 1.36752692},
                {1.00514142, 1.14873305, 1.29232469}},
               1e-6);
}

TEST(NormClippingTest, ShortAndZero_AreUnchanged) {
  const Coordinates rows = {{0, 0}, {3, 4}, {6, 8}};
  const TracedPoints traced = Apply("norm_clipping { norm: 5 }", rows);
  ExpectPlaces(traced, rows, {{0, 0}, {3, 4}, {3, 4}});
  EXPECT_THAT(traced.clip_factors, ElementsAre(1, 1, 0.5));
  EXPECT_THAT(Apply("norm_clipping { norm: 50 }", rows).points.Mixing(),
              IsEmpty());
}

TEST(NormBoundingTest, Outside_IsZeroOrDropped) {
  const Coordinates rows = {{3, 4}, {6, 8}, {0, 0}};
  const TracedPoints zeroed =
      Apply("norm_bounding { norm: 5 }", rows, 1, {1, 2, 3});
  ExpectPlaces(zeroed, rows, {{3, 4}, {0, 0}, {0, 0}});
  EXPECT_THAT(zeroed.points.weights(), ElementsAre(1, 2, 3));
  EXPECT_THAT(zeroed.clip_factors, ElementsAre(1, 0, 1));
  const TracedPoints dropped =
      Apply("norm_bounding { norm: 5 outside: DROPPED }", rows, 1, {1, 2, 3});
  ExpectPlaces(dropped, rows, {{3, 4}, {0, 0}});
  EXPECT_THAT(dropped.points.weights(), ElementsAre(1, 3));
  EXPECT_THAT(dropped.dropped,
              ElementsAre("", "norm_bounding: norm 10, at most 5", ""));
  EXPECT_THAT(dropped.members, ElementsAre(ElementsAre(0), ElementsAre(2)));
}

TEST(NormBoundingTest, NobodyLeft_IsRefused) {
  TracedPoints traced(PointsAt({{3, 4}, {6, 8}}));
  EXPECT_THAT(
      Step("norm_bounding { norm: 1 outside: DROPPED }").Apply(1, &traced),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("norm_bounding drops all of the 2 updates")));
}

// n = 6, f = 2: floor(2 * 2 * 4 / 6) = 2 are clipped to the third longest.
TEST(ArcTest, Longest_AreClippedToTheNext) {
  const Coordinates rows = {{1}, {-9}, {2}, {4}, {0}, {8}};
  const TracedPoints traced = Apply("arc { f: 2 }", rows);
  ExpectPlaces(traced, rows, {{1}, {-4}, {2}, {4}, {0}, {4}});
  ExpectPlaces(Apply("arc {}", rows), rows, rows);
}

TEST(CosineFilterTest, OtherDirections_AreDropped) {
  const Coordinates rows = {{1, 0.1}, {5, -0.3}, {0, 0},
                            {-1, 0},  {2, 0},    {0, 1}};
  const TracedPoints traced = Apply("cosine_filter { threshold: 0.5 }", rows);
  EXPECT_THAT(traced.members, ElementsAre(ElementsAre(0), ElementsAre(1),
                                          ElementsAre(2), ElementsAre(4)));
  EXPECT_THAT(traced.dropped[3], HasSubstr("cosine_filter: cosine -0.9"));
  EXPECT_THAT(traced.dropped[2], IsEmpty());
}

TEST(CosineFilterTest, EqualDirections_PassTheHighestThreshold) {
  const Coordinates rows = {{1, 1, 3}, {2, 2, 6}, {5, 5, 15}};
  EXPECT_EQ(Apply("cosine_filter { threshold: 1 }", rows).points.size(), 3);
}

TEST(CosineFilterTest, NoCommonDirection_DropsNobody) {
  const Coordinates rows = {{1, 0}, {-2, 0}};
  EXPECT_EQ(Apply("cosine_filter { threshold: 1 }", rows).points.size(), 2);
  const Coordinates zeros = {{0, 0}, {0, 0}};
  EXPECT_EQ(Apply("cosine_filter { threshold: 1 }", zeros).points.size(), 2);
}

// LPD-EPFL/byzfl tests/unit_test_preaggregators.py
TEST(NearestNeighbourMixingTest, ByzFlsNumbers_Match) {
  ExpectPlaces(Apply("nearest_neighbour_mixing { f: 1 }", ByzFlRows()),
               ByzFlRows(),
               {{2.5, 3.5, 4.5}, {2.5, 3.5, 4.5}, {5.5, 6.5, 7.5}});
}

TEST(NearestNeighbourMixingTest, ItselfIsAlwaysAmongThem) {
  // All are equally near: the lower index, but itself first.
  const Coordinates rows(5, {2});
  const TracedPoints traced = Apply("nearest_neighbour_mixing { f: 2 }", rows);
  EXPECT_THAT(
      traced.points.Mixing()[4],
      ElementsAre(DoubleNear(1.0 / 3, 1e-15), DoubleNear(1.0 / 3, 1e-15), 0, 0,
                  DoubleNear(1.0 / 3, 1e-15)));
  EXPECT_THAT(traced.members[4], ElementsAre(4));
}

TEST(BucketingTest, EveryUpdate_IsInOneBucketAndWeightsAddUp) {
  Coordinates rows;
  std::vector<double> weights;
  for (int i = 0; i < 11; ++i) {
    rows.push_back({static_cast<double>(i)});
    weights.push_back(1 << i);
  }
  const TracedPoints traced = Apply("bucketing { size: 4 }", rows, 9, weights);
  ASSERT_THAT(traced.members, SizeIs(3));
  EXPECT_THAT(traced.members[2], SizeIs(3));
  std::vector<size_t> all;
  const Coordinates places = Locate(traced.points, rows);
  for (size_t k = 0; k < 3; ++k) {
    double weight = 0, sum = 0;
    for (size_t i : traced.members[k]) {
      all.push_back(i);
      weight += weights[i];
      sum += rows[i][0];
    }
    EXPECT_EQ(traced.points.weight(k), weight);
    EXPECT_NEAR(places[k][0],
                sum / static_cast<double>(traced.members[k].size()), 1e-12);
  }
  std::sort(all.begin(), all.end());
  EXPECT_THAT(all, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  EXPECT_EQ(Apply("bucketing { size: 4 }", rows, 9).members, traced.members);
  EXPECT_THAT(Apply("bucketing { size: 4 }", rows, 10).members,
              Not(traced.members));
}

TEST(BucketingTest, BucketLargerThanAll_IsTheMean) {
  const Coordinates rows = {{1}, {2}, {6}};
  const TracedPoints traced = Apply("bucketing { size: 9 }", rows);
  ExpectPlaces(traced, rows, {{3}});
  EXPECT_EQ(Step("bucketing { size: 9 }").PointsAfter(10), 2);
  EXPECT_EQ(Step("arc {}").PointsAfter(10), 10);
}

TEST(PreAggregationTest, TooFew_AreRefusedWithBothNumbers) {
  for (const char* spec :
       {"arc { f: 2 }", "nearest_neighbour_mixing { f_fraction: 0.4 }"}) {
    EXPECT_OK(Step(spec).Check(5, 5));
    // Of the five, one was dropped before.
    EXPECT_THAT(Step(spec).Check(5, 4),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("f = 2"),
                               HasSubstr("needs at least 2f + 1 = 5"),
                               HasSubstr("got 4 after the pre-aggregations of "
                                         "5 updates"))));
  }
}

TEST(PreAggregationTest, ClippingOfBuckets_IsNotedForTheirUpdates) {
  const Coordinates rows = {{3, 4}, {3, 4}, {3, 4}};
  TracedPoints traced(PointsAt(rows));
  ASSERT_OK(Step("bucketing { size: 2 }").Apply(1, &traced));
  ASSERT_OK(Step("norm_clipping { norm: 2.5 }").Apply(1, &traced));
  EXPECT_THAT(traced.clip_factors,
              ElementsAre(DoubleNear(0.5, 1e-12), DoubleNear(0.5, 1e-12),
                          DoubleNear(0.5, 1e-12)));
}

}  // namespace
}  // namespace koinon::aggregation
