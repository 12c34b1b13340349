// Inputs and expected results from the unit tests of other projects (numbers
// only). Each test names its source.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "aggregation/core/testing_updates.h"
#include "aggregation/rules/testing_rules.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;

// Half a unit in the last place of the numbers at hand, which sources print
// with seven to ten digits.
constexpr float kPrinted = 1e-6f;

void ExpectResult(const std::string& spec, const TestRows& rows,
                  const std::vector<double>& weights,
                  const std::vector<float>& expected, float tolerance) {
  const Outcome outcome = AggregateBy(spec, TestSet(rows, weights));
  ASSERT_OK(outcome.status);
  EXPECT_THAT(outcome.values, Pointwise(FloatNear(tolerance), expected));
}

TestRows ByzFlRows() { return {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}; }

// adap/flower framework/py/flwr/server/strategy/krum_test.py
TEST(PublishedVectorsTest, FlowerKrum_IsTheMiddleUpdate) {
  const TestRows rows = {
      {0.2f, 0.2f, 0.2f, 0.2f}, {0.7f, 0.7f, 0.7f, 0.7f}, {1, 1, 1, 1}};
  ExpectResult("krum { f: 1 convention: FLOWER }", rows, {5, 5, 5},
               {0.7f, 0.7f, 0.7f, 0.7f}, 0);
  // n = 3 with f = 1 is less than the paper asks for.
  EXPECT_THAT(AggregateBy("krum { f: 1 }", rows).status,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("2f + 3 = 5 updates, got 3")));
}

// adap/flower framework/py/flwr/server/strategy/multikrum_test.py
TEST(PublishedVectorsTest, FlowerMultiKrum_IsTheMeanOfTwo) {
  ExpectResult(
      "multi_krum { f: 1 m: 2 convention: FLOWER }",
      {{0.2f, 0.2f, 0.2f, 0.2f}, {0.5f, 0.5f, 0.5f, 0.5f}, {1, 1, 1, 1}},
      {5, 5, 5}, {0.35f, 0.35f, 0.35f, 0.35f}, kPrinted);
}

// adap/flower framework/py/flwr/server/strategy/bulyan_test.py
TEST(PublishedVectorsTest, FlowerBulyanOfNobody_IsTheMean) {
  const TestRows rows = {{0.2f}, {0.5f}, {0.7f}, {12}, {0.1f}, {0.1f}};
  for (const char* spec : {"bulyan {}", "bulyan { selection: ONE_SHOT }"}) {
    ExpectResult(spec, rows, {5, 5, 5, 5, 5, 5}, {2.2666666667f}, kPrinted);
  }
}

// adap/flower framework/py/flwr/server/strategy/fedmedian_test.py
TEST(PublishedVectorsTest, FlowerMedian_IgnoresExamples) {
  ExpectResult(
      "median {}",
      {{1, 0.2f, 0.5f, 1}, {0.2f, 0.5f, 1, 0.2f}, {0.5f, 1, 0.2f, 0.5f}},
      {5, 2, 9}, {0.5f, 0.5f, 0.5f, 0.5f}, 0);
}

// adap/flower framework/py/flwr/server/strategy/fedtrimmedavg_test.py
TEST(PublishedVectorsTest, FlowerTrimmedMean_LeavesTheMiddleHalf) {
  ExpectResult("trimmed_mean { beta: 0.25 }", {{0.5f}, {1}, {2}, {100}},
               {5, 5, 5, 5}, {1.5f}, 0);
  ExpectResult("trimmed_mean { beta: 0.25 }",
               {{0.5f, 0.5f, 0.5f, 0.5f},
                {1, 0.2f, 0.5f, 1},
                {0.2f, 0.5f, 1, 0.2f},
                {0.5f, 1, 0.2f, 0.5f}},
               {5, 5, 5, 5}, {0.5f, 0.5f, 0.5f, 0.5f}, 0);
}

// LPD-EPFL/byzfl tests/unit_test_aggregators.py
TEST(PublishedVectorsTest, ByzFlAggregators_Match) {
  const struct {
    const char* spec;
    std::vector<float> expected;
    float tolerance;
  } cases[] = {
      {"fedavg { uniform: true }", {4, 5, 6}, 0},
      {"median {}", {4, 5, 6}, 0},
      {"trimmed_mean { f: 1 }", {4, 5, 6}, 0},
      {"krum { f: 1 convention: BYZFL }", {1, 2, 3}, 0},
      {"multi_krum { f: 1 convention: BYZFL }", {2.5f, 3.5f, 4.5f}, 0},
      // The source's own tolerance is 1e-6.
      {"geometric_median { fixed { iterations: 3 smoothing: 0.1 start: ZERO } "
       "}",
       {3.78788764f, 4.78788764f, 5.78788764f},
       1e-6f},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.spec);
    ExpectResult(c.spec, ByzFlRows(), {1, 1, 1}, c.expected, c.tolerance);
  }
}

// LPD-EPFL/byzfl tests/unit_test_preaggregators.py. The means of what came of
// the three updates; each by itself is in geometry/pre_aggregation_test.cc.
TEST(PublishedVectorsTest, ByzFlPreAggregators_Match) {
  ExpectResult("pre_aggregation { norm_clipping { norm: 2 } }", ByzFlRows(),
               {1, 1, 1},
               {(0.53452248f + 0.91168461f + 1.00514142f) / 3,
                (1.06904497f + 1.13960576f + 1.14873305f) / 3,
                (1.60356745f + 1.36752692f + 1.29232469f) / 3},
               kPrinted);
  ExpectResult("pre_aggregation { nearest_neighbour_mixing { f: 1 } }",
               ByzFlRows(), {1, 1, 1}, {3.5f, 4.5f, 5.5f}, kPrinted);
}

// google-parfait/tensorflow-federated
// cc/core/impl/aggregation/core/federated_mean_test.cc
TEST(PublishedVectorsTest, TffFederatedMean_Matches) {
  const TestRows rows = {{1, 3, 15, 27}, {10, 5, 1, 1}, {4, 13, 8, 20}};
  ExpectResult("fedavg {}", rows, {1, 1, 1}, {5, 7, 8, 16}, 0);
  ExpectResult("fedavg {}", rows, {1, 4, 5}, {6.1f, 8.8f, 5.9f, 13.1f},
               kPrinted);
}

// NVIDIA/NVFlare
// tests/unit_test/app_common/aggregators/weighted_aggregation_helper_test.py
TEST(PublishedVectorsTest, NvFlareWeightedMean_Matches) {
  ExpectResult("fedavg {}", {{2, 4, 6}, {3, 6, 9}}, {1, 2},
               {2.6666666667f, 5.3333333333f, 8}, kPrinted);
}

// NevronAI/metisfl federated_average_test.cc
TEST(PublishedVectorsTest, MetisFlAverage_Matches) {
  ExpectResult(
      "fedavg {}",
      {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {10, 9, 8, 7, 6, 5, 4, 3, 2, 1}}, {1, 1},
      std::vector<float>(10, 5), 0);
}

}  // namespace
}  // namespace koinon::aggregation
