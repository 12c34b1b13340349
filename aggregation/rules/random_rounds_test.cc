// Rounds of random sizes, scales and weights against the plain versions of
// aggregation/reference. Seeds are printed.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/reference/coordinate_rules.h"
#include "aggregation/reference/pre_aggregations.h"
#include "aggregation/reference/vector_rules.h"
#include "aggregation/rules/testing_rules.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

struct Round {
  TestRows rows;
  ReferenceRows wide;  // the same
  std::vector<double> weights;
  double radius = 0;  // mean distance to the mean

  size_t n() const { return rows.size(); }
  size_t elements() const { return rows[0].size(); }
  UpdateSet Set() const { return TestSet(rows, weights); }
};

// n in [least, 200], P up to 10,000, not both large; a common part, and noise
// that differs from update to update, so that scores differ.
Round RandomRound(uint64_t seed, size_t least) {
  Random random(seed);
  Round round;
  const bool wide = seed % 4 == 3;
  const size_t n = least + random.NextBelow(wide            ? 8
                                            : seed % 4 == 2 ? 190
                                                            : 30);
  const size_t elements = 1 + random.NextBelow(wide ? 10'000 : 300);
  const double scale =
      std::exp2(static_cast<double>(random.NextBelow(40)) - 20);
  const TestRows noise = RandomRows(n + 1, elements, seed);
  for (size_t i = 0; i < n; ++i) {
    const double spread = 0.5 + random.NextDouble();
    std::vector<float> row;
    for (size_t j = 0; j < elements; ++j) {
      row.push_back(
          static_cast<float>(scale * (noise[n][j] + spread * noise[i][j])));
    }
    round.wide.emplace_back(row.begin(), row.end());
    round.rows.push_back(std::move(row));
    round.weights.push_back(1 + static_cast<double>(random.NextBelow(500)));
  }
  const std::vector<float> mean = MeanOf(round.rows);
  for (const auto& row : round.rows) {
    round.radius += Distance(row, mean) / static_cast<double>(n);
  }
  return round;
}

void ForRandomRounds(size_t least,
                     const std::function<void(const Round&)>& test,
                     uint64_t rounds = 24) {
  for (uint64_t seed = 0; seed < rounds; ++seed) {
    SCOPED_TRACE(absl::StrFormat("seed %d", seed));
    test(RandomRound(seed, least));
    if (::testing::Test::HasFatalFailure()) return;
  }
}

// What the reference says of each column. Sums are in double, then rounded to
// fp32: half a unit in the last place and some of double's.
using Column = std::function<double(const std::vector<double>&)>;
void ExpectColumns(const Outcome& outcome, const ReferenceRows& rows,
                   const Column& reference, double tolerance = 0x1.01p-24) {
  ASSERT_OK(outcome.status);
  for (size_t j = 0; j < rows[0].size(); ++j) {
    std::vector<double> column;
    double largest = 0;
    for (const auto& row : rows) {
      column.push_back(row[j]);
      largest = std::max(largest, std::fabs(row[j]));
    }
    ASSERT_NEAR(outcome.values[j], reference(column), tolerance * largest)
        << "element " << j;
  }
}

// Within `part` of the rounds' radius, and of fp32's rounding of the values.
void ExpectVector(const Outcome& outcome, const Round& round,
                  const std::vector<double>& reference, double part = 1e-6) {
  ASSERT_OK(outcome.status);
  const std::vector<double> got(outcome.values.begin(), outcome.values.end());
  const double norm =
      ReferenceDistance(reference, std::vector<double>(reference.size()));
  EXPECT_LE(ReferenceDistance(got, reference),
            part * round.radius + 0x1p-23 * norm);
}

std::vector<size_t> Selected(const Outcome& outcome) {
  std::vector<size_t> selected;
  for (int i = 0; i < outcome.report.updates_size(); ++i) {
    if (outcome.report.updates(i).selected()) {
      selected.push_back(static_cast<size_t>(i));
    }
  }
  return selected;
}

std::vector<double> WeightedMean(const ReferenceRows& rows,
                                 const std::vector<size_t>& chosen,
                                 const std::vector<double>& weights) {
  std::vector<double> mean(rows[0].size());
  double total = 0;
  for (size_t i : chosen) total += weights[i];
  for (size_t i : chosen) {
    for (size_t j = 0; j < mean.size(); ++j) {
      mean[j] += rows[i][j] * weights[i] / total;
    }
  }
  return mean;
}

std::vector<double> Ones(const Round& round) {
  return std::vector<double>(round.n(), 1);
}

TEST(RandomRoundsTest, Median_MatchesTheReference) {
  ForRandomRounds(1, [](const Round& round) {
    ExpectColumns(AggregateBy("median {}", round.Set()), round.wide,
                  MedianReference);
  });
}

TEST(RandomRoundsTest, WeightedMedian_MatchesTheReference) {
  ForRandomRounds(1, [](const Round& round) {
    ExpectColumns(
        AggregateBy("median { weighted: true }", round.Set()), round.wide,
        [&](const std::vector<double>& column) {
          return LowerWeightedMedianReference(column, round.weights);
        },
        0);
  });
}

TEST(RandomRoundsTest, TrimmedMean_MatchesTheReference) {
  ForRandomRounds(10, [](const Round& round) {
    const size_t f = round.n() / 3;
    ExpectColumns(
        AggregateBy(absl::StrCat("trimmed_mean { f: ", f, " }"), round.Set()),
        round.wide, [&](const std::vector<double>& column) {
          return TrimmedMeanReference(column, f);
        });
    const Outcome tenth =
        AggregateBy("trimmed_mean { beta: 0.1 }", round.Set());
    ExpectColumns(tenth, round.wide, [&](const std::vector<double>& column) {
      return TrimmedMeanReference(column, column.size() / 10);
    });
    EXPECT_EQ(tenth.report.trimmed_per_side(), round.n() / 10);
  });
}

// The reference selects the same, whatever the Gram matrix's rounding.
TEST(RandomRoundsTest, KrumFamily_MatchesTheReference) {
  ForRandomRounds(7, [](const Round& round) {
    const size_t n = round.n();
    const size_t f = (n - 3) / 2;
    const struct {
      const char* convention;
      size_t neighbours;
      size_t m;
      bool weighted;
    } conventions[] = {{"BLANCHARD", n - f - 2, n - f - 2, false},
                       {"FLOWER", n - f - 2, n - f - 2, true},
                       {"BYZFL", n - f - 1, n - f, false}};
    for (const auto& c : conventions) {
      SCOPED_TRACE(c.convention);
      const std::vector<double> scores =
          KrumScoresReference(round.wide, c.neighbours);
      std::vector<size_t> order;
      for (size_t i = 0; i < n; ++i) order.push_back(i);
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return scores[a] < scores[b];
      });
      const std::string options =
          absl::StrFormat("{ f: %d convention: %s }", f, c.convention);
      const Outcome krum =
          AggregateBy(absl::StrCat("krum ", options), round.Set());
      ASSERT_OK(krum.status);
      EXPECT_TRUE(SameBits(krum.values, round.rows[order[0]]));
      for (size_t i = 0; i < n; ++i) {
        EXPECT_NEAR(krum.report.updates(static_cast<int>(i)).score(), scores[i],
                    1e-5 * scores[i]);
      }
      const Outcome multi =
          AggregateBy(absl::StrCat("multi_krum ", options), round.Set());
      order.resize(c.m);
      std::sort(order.begin(), order.end());
      EXPECT_EQ(Selected(multi), order);
      ExpectVector(multi, round,
                   WeightedMean(round.wide, order,
                                c.weighted ? round.weights : Ones(round)));
    }
  });
}

TEST(RandomRoundsTest, Bulyan_MatchesTheReference) {
  ForRandomRounds(
      7,
      [](const Round& round) {
        if (round.n() > 60) return;  // the reference takes n^4
        const size_t f = (round.n() - 3) / 4;
        const Outcome outcome =
            AggregateBy(absl::StrCat("bulyan { f: ", f, " }"), round.Set());
        std::vector<size_t> chosen = BulyanSelectionReference(round.wide, f);
        std::sort(chosen.begin(), chosen.end());
        EXPECT_EQ(Selected(outcome), chosen);
        ReferenceRows rows;
        for (size_t i : chosen) rows.push_back(round.wide[i]);
        ExpectColumns(outcome, rows, [&](const std::vector<double>& column) {
          return MeanAroundMedianReference(column, round.n() - 4 * f);
        });
      },
      20);
}

// No place is better by more than the rounding of the result to fp32; and the
// place is the reference's, where there is one place.
TEST(RandomRoundsTest, GeometricMedian_IsTheBestPlace) {
  ForRandomRounds(1, [](const Round& round) {
    for (bool weighted : {false, true}) {
      const Outcome outcome = AggregateBy(
          absl::StrFormat("geometric_median { weighted: %d }", weighted),
          round.Set());
      ASSERT_OK(outcome.status);
      EXPECT_TRUE(outcome.report.converged());
      const std::vector<double> weights =
          weighted ? round.weights : Ones(round);
      const std::vector<double> got(outcome.values.begin(),
                                    outcome.values.end());
      const double best = SumOfDistancesReference(
          round.wide, weights,
          WeiszfeldReference(round.wide, weights,
                             std::max(1e-12 * round.radius, 1e-100), 400,
                             false));
      double total = 0, norm = 0;
      for (double weight : weights) total += weight;
      for (double x : got) norm += x * x;
      EXPECT_LE(SumOfDistancesReference(round.wide, weights, got),
                best * (1 + 1e-9) + total * 0x1p-24 * std::sqrt(norm));
    }
  });
}

TEST(RandomRoundsTest, FixedGeometricMedian_MatchesTheReference) {
  ForRandomRounds(1, [](const Round& round) {
    ExpectVector(AggregateBy("geometric_median { weighted: true fixed {} }",
                             round.Set()),
                 round,
                 WeiszfeldReference(round.wide, round.weights, 1e-5, 4, false));
    ExpectVector(
        AggregateBy("geometric_median { fixed { iterations: 3 smoothing: 0.1 "
                    "start: ZERO } }",
                    round.Set()),
        round, WeiszfeldReference(round.wide, Ones(round), 0.1, 3, true));
  });
}

TEST(RandomRoundsTest, CenteredClipping_MatchesTheReference) {
  ForRandomRounds(1, [](const Round& round) {
    const size_t n = round.n();
    const double tau = std::max(0.7 * round.radius, 1e-3);
    const std::string spec =
        absl::StrFormat("centered_clipping { tau: %.17g iterations: 3 }", tau);
    ExpectVector(
        AggregateBy(spec, round.Set()), round,
        CenteredClippingReference(
            round.wide, std::vector<double>(round.elements()), tau, 3));
    // From an update, which thus has no distance.
    const MemorySource previous(round.rows[n / 2]);
    ExpectVector(
        AggregateBy(spec, round.Set(), {.previous = &previous}), round,
        CenteredClippingReference(round.wide, round.wide[n / 2], tau, 3));
  });
}

TEST(RandomRoundsTest, ClippedMeans_MatchTheReference) {
  ForRandomRounds(3, [](const Round& round) {
    std::vector<size_t> all;
    for (size_t i = 0; i < round.n(); ++i) all.push_back(i);
    std::vector<double> lengths;
    for (const auto& row : round.wide) {
      lengths.push_back(
          ReferenceDistance(row, std::vector<double>(row.size())));
    }
    std::sort(lengths.begin(), lengths.end());
    const double norm = lengths[round.n() / 2];
    ExpectVector(
        AggregateBy(
            absl::StrFormat("pre_aggregation { norm_clipping { norm: %.17g } }",
                            norm),
            round.Set()),
        round,
        WeightedMean(NormClippingReference(round.wide, norm), all,
                     round.weights));
    const size_t f = (round.n() - 1) / 2;
    ExpectVector(
        AggregateBy(absl::StrFormat("pre_aggregation { arc { f: %d } }", f),
                    round.Set()),
        round, WeightedMean(ArcReference(round.wide, f), all, round.weights));
  });
}

// Mixed values are rounded to fp32 before they are compared.
TEST(RandomRoundsTest, MixedRules_MatchTheReference) {
  ForRandomRounds(5, [](const Round& round) {
    const size_t f = (round.n() - 1) / 3;
    const std::string mixing = absl::StrFormat(
        " pre_aggregation { nearest_neighbour_mixing { f: %d } }", f);
    const ReferenceRows mixed = NearestNeighbourMixingReference(round.wide, f);
    ExpectColumns(AggregateBy("median {}" + mixing, round.Set()), mixed,
                  MedianReference, 0x1p-22);
    ExpectColumns(
        AggregateBy(absl::StrCat("trimmed_mean { f: ", f, " }", mixing),
                    round.Set()),
        mixed,
        [&](const std::vector<double>& column) {
          return TrimmedMeanReference(column, f);
        },
        0x1p-22);
    ExpectVector(
        AggregateBy("geometric_median { fixed { iterations: 9 } }" + mixing,
                    round.Set()),
        round, WeiszfeldReference(mixed, Ones(round), 1e-5, 9, false), 1e-5);
  });
}

TEST(RandomRoundsTest, CosineFilter_DropsWhatTheReferenceWould) {
  ForRandomRounds(3, [](const Round& round) {
    const std::vector<double> cosines = CosinesReference(round.wide);
    std::vector<double> sorted = cosines;
    std::sort(sorted.begin(), sorted.end());
    const double threshold =
        (sorted[round.n() / 3] + sorted[round.n() / 3 + 1]) / 2;
    if (sorted[round.n() / 3 + 1] - sorted[round.n() / 3] < 1e-3) return;
    const Outcome outcome = AggregateBy(
        absl::StrFormat(
            "pre_aggregation { cosine_filter { threshold: %.17g } }",
            threshold),
        round.Set());
    ASSERT_OK(outcome.status);
    for (size_t i = 0; i < round.n(); ++i) {
      const auto& decision = outcome.report.updates(static_cast<int>(i));
      EXPECT_EQ(decision.dropped().empty(), cosines[i] >= threshold) << i;
      EXPECT_EQ(decision.coefficient() > 0, cosines[i] >= threshold) << i;
    }
  });
}

}  // namespace
}  // namespace koinon::aggregation
