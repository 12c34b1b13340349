#include "aggregation/core/gram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/reference/gram.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Values = std::vector<std::vector<float>>;

// gram.h promises 1e-6 as a rule: as much as a small P, over which roundings
// hardly average out, leaves of it.
constexpr double kRelativeError = 5e-6;

struct Options {
  InstructionSet instruction_set = InstructionSet::kBest;
  int threads = 1;
  const std::vector<float>* previous = nullptr;
};

Gram GramOf(const Values& values, const Options& options = {}) {
  const UpdateSet set = TestSet(values, std::vector<double>(values.size(), 1));
  ThreadPool pool(options.threads);
  std::unique_ptr<UpdateSource> previous;
  if (options.previous != nullptr) {
    previous = std::make_unique<CopyingSource>(*options.previous);
  }
  auto gram = ComputeGram(set.layout(), RowsOf(set), previous.get(),
                          options.instruction_set, &pool);
  EXPECT_OK(gram.status());
  return *std::move(gram);
}

bool SameProducts(const Gram& a, const Gram& b) {
  return a.points() == b.points() && a.products.size() == b.products.size() &&
         std::memcmp(a.products.data(), b.products.data(),
                     a.products.size() * sizeof(double)) == 0;
}

// All points' distances lie within `tolerance` of the reference's.
void ExpectDistances(const Gram& gram, Values points, double tolerance,
                     const std::string& what) {
  points.insert(points.begin() + static_cast<ptrdiff_t>(gram.n),
                std::vector<float>(points[0].size()));
  ASSERT_EQ(gram.points(), points.size()) << what;
  const std::vector<absl::Span<const float>> rows(points.begin(), points.end());
  const auto expected = SquaredDistancesReference(rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t k = 0; k < rows.size(); ++k) {
      EXPECT_TRUE(std::isfinite(gram.At(i, k)));
      EXPECT_EQ(gram.At(i, k), gram.At(k, i));
      EXPECT_NEAR(gram.SquaredDistance(i, k), expected[i][k],
                  tolerance * expected[i][k])
          << what << " points " << i << " and " << k;
    }
  }
}

TEST(ComputeGramTest, RandomUpdates_HaveTheReferencesDistances) {
  for (size_t n : {1, 2, 3, 5, 6, 11, 16, 17, 33, 64}) {
    for (size_t elements : {1, 2, 15, 17, 1023, 1025, 4097, 20'000}) {
      if (n * n * elements > 10'000'000) continue;
      const uint64_t seed = n * 100'000 + elements;
      const Values values = RandomRows(n, elements, seed);
      ExpectDistances(GramOf(values), values, kRelativeError,
                      absl::StrCat("seed ", seed));
    }
  }
}

TEST(ComputeGramTest, AnyInstructionSet_SameBits) {
  for (size_t n : {1, 4, 7, 13, 18}) {
    for (size_t elements : {1, 9, 1030, 16'400}) {
      // Rows of very different sizes, so that some blocks are scaled.
      Values values = RandomRows(n, elements, n);
      for (size_t i = 0; i < n; i += 3) {
        for (float& x : values[i]) x *= i % 2 == 0 ? 1e25f : 1e-30f;
      }
      const Gram expected = GramOf(values);
      for (InstructionSet set : SupportedInstructionSets()) {
        EXPECT_TRUE(
            SameProducts(GramOf(values, {.instruction_set = set}), expected))
            << InstructionSetName(set) << " n=" << n << " P=" << elements;
      }
    }
  }
}

TEST(ComputeGramTest, AnyThreads_SameBits) {
  const Values values = RandomRows(12, 200'001, 5);
  const Gram expected = GramOf(values);
  for (int threads : {2, 3, 5}) {
    EXPECT_TRUE(SameProducts(GramOf(values, {.threads = threads}), expected));
  }
}

TEST(ComputeGramTest, ManyUpdates_HaveTheReferencesDistances) {
  // More than stay in the second-level cache, and more than are fetched ahead.
  const Values values = RandomRows(230, 1'100, 6);
  ExpectDistances(GramOf(values, {.threads = 2}), values, kRelativeError,
                  "230 updates");
}

TEST(ComputeGramTest, SourcesThatCopy_SameBits) {
  const Values values = RandomRows(9, 40'000, 7);
  UpdateSet::Expected expected = TestExpected(40'000);
  std::vector<Update> updates;
  for (size_t i = 0; i < values.size(); ++i) {
    updates.push_back(TestUpdate(absl::StrFormat("w%03d", i), values[i]));
    if (i % 3 == 0) continue;
    updates.back().values = std::make_unique<CopyingSource>(values[i]);
  }
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(std::move(expected), std::move(updates), &refusals);
  ThreadPool pool(2);
  ASSERT_OK_AND_ASSIGN(const Gram gram,
                       ComputeGram(set.layout(), RowsOf(set), nullptr,
                                   InstructionSet::kBest, &pool));
  EXPECT_TRUE(SameProducts(gram, GramOf(values)));
}

TEST(ComputeGramTest, PreviousAggregate_IsAPointLikeTheOthers) {
  Values points = RandomRows(6, 5'000, 8);
  const std::vector<float> previous = points.back();
  points.pop_back();
  const Gram gram = GramOf(points, {.previous = &previous});
  EXPECT_TRUE(gram.has_previous);
  EXPECT_EQ(gram.previous(), 6);
  points.push_back(previous);
  ExpectDistances(gram, points, kRelativeError, "previous");
}

TEST(ComputeGramTest, AnyMagnitude_NeitherOverflowsNorUnderflows) {
  const float largest = std::numeric_limits<float>::max();
  const float smallest = std::numeric_limits<float>::denorm_min();
  for (float scale : {1e38f, 1e19f, 1e13f, 1.0f, 1e-12f, 1e-20f, 1e-40f}) {
    Values values = RandomRows(7, 3'000, 9);
    for (auto& row : values) {
      for (float& x : row) x = std::clamp(x, -3.0f, 3.0f) * scale;
    }
    ExpectDistances(GramOf(values), values, kRelativeError,
                    absl::StrCat("scale ", scale));
  }
  // Differences of twice the largest number.
  const Values extreme = {
      std::vector<float>(100, largest), std::vector<float>(100, -largest),
      std::vector<float>(100, smallest), std::vector<float>(100, -smallest)};
  ExpectDistances(GramOf(extreme), extreme, kRelativeError, "extreme");
}

TEST(ComputeGramTest, MagnitudesOfAllKindsInOneRow_AreAccurate) {
  Random random(10);
  Values values(8, std::vector<float>(5'000));
  for (auto& row : values) {
    for (float& x : row) {
      x = static_cast<float>(std::ldexp(
          random.NextNormal(), static_cast<int>(random.NextBelow(200)) - 100));
    }
  }
  ExpectDistances(GramOf(values), values, kRelativeError, "mixed");
}

// ALGORITHMS, section 0.3: without centring, in fp32, the error is a quarter.
TEST(ComputeGramTest, ModelsThatDifferLittle_AreToldApart) {
  const std::vector<float> drift = RandomRows(1, 100'000, 11)[0];
  Values values = RandomRows(10, drift.size(), 12);
  for (auto& row : values) {
    for (size_t j = 0; j < row.size(); ++j) {
      row[j] = 0.05f * drift[j] + 1e-4f * row[j];
    }
  }
  ExpectDistances(GramOf(values), values, kRelativeError, "drift");
}

TEST(ComputeGramTest, EqualUpdates_AreExactlyEqual) {
  Values values = RandomRows(9, 30'000, 13);
  for (float& x : values[2]) x *= 1e22f;
  values[5] = values[1];
  values[8] = values[1];
  values[6] = values[2];
  for (InstructionSet set : SupportedInstructionSets()) {
    const Gram gram = GramOf(values, {.instruction_set = set});
    EXPECT_EQ(gram.SquaredDistance(1, 5), 0);
    EXPECT_EQ(gram.SquaredDistance(5, 8), 0);
    EXPECT_EQ(gram.SquaredDistance(2, 6), 0);
    EXPECT_GT(gram.SquaredDistance(1, 2), 0);
    for (size_t i = 0; i < gram.points(); ++i) {
      EXPECT_EQ(gram.SquaredDistance(i, 1), gram.SquaredDistance(i, 5));
    }
  }
}

TEST(ComputeGramTest, AllUpdatesEqual_AreExactlyEqual) {
  const Values values(6, RandomRows(1, 5'000, 14)[0]);
  const Gram gram = GramOf(values);
  for (size_t i = 0; i < 6; ++i) {
    for (size_t k = 0; k < 6; ++k) EXPECT_EQ(gram.SquaredDistance(i, k), 0);
  }
  ExpectDistances(gram, values, kRelativeError, "equal");
}

TEST(ComputeGramTest, AllZero_IsZero) {
  const Gram gram = GramOf(Values(3, std::vector<float>(70)));
  for (double product : gram.products) EXPECT_EQ(product, 0);
}

// An attacker who looks like the middle of the others wherever a sample might
// look, and is far away in one coordinate.
TEST(ComputeGramTest, AttackerAtTheCentre_DoesNotBlurTheOthers) {
  Values values = RandomRows(11, 50'000, 15);
  std::vector<float>& attacker = values[5];
  std::fill(attacker.begin(), attacker.end(), 0.0f);
  for (size_t j = 0; j < attacker.size(); ++j) {
    for (const auto& row : values) attacker[j] += row[j] / 11;
  }
  for (float far : {1e6f, 1e20f, 3e38f}) {
    for (size_t at : {17'777, 33'334}) {
      values[5][at] = far;
      ExpectDistances(GramOf(values), values, kRelativeError,
                      absl::StrCat("attacker at ", far));
      values[5][at] = 0;
    }
  }
}

// Points much closer to each other than to the centre.
TEST(ComputeGramTest, ColludersAndTheirCopies_AreToldApart) {
  Values values = RandomRows(12, 9'000, 16);
  const Values noise = RandomRows(12, 9'000, 17);
  for (size_t i = 8; i < 12; ++i) {
    for (size_t j = 0; j < values[i].size(); ++j) {
      values[i][j] = 3 * values[7][j] + (i < 10 ? 1e-2f : 1e-5f) * noise[i][j];
    }
  }
  ExpectDistances(GramOf(values), values, kRelativeError, "colluders");
}

// Attackers at ever greater distances, each of whom would blur all nearer
// points were it the centre.
TEST(ComputeGramTest, AttackersOnManyScales_DoNotBlurTheOthers) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Values values = RandomRows(13, 3'000, seed);
    float scale = 1;
    for (size_t i = 0; i < 5; ++i) {
      scale *= 1e7f;
      for (float& x : values[i]) x *= scale;
    }
    Random(seed).Shuffle(&values);
    const Gram gram = GramOf(values);
    const std::vector<absl::Span<const float>> rows(values.begin(),
                                                    values.end());
    const auto expected = SquaredDistancesReference(rows);
    for (size_t i = 0; i < rows.size(); ++i) {
      for (size_t k = 0; k < rows.size(); ++k) {
        EXPECT_NEAR(gram.SquaredDistance(i, k), expected[i][k],
                    kRelativeError * expected[i][k])
            << "seed " << seed;
      }
    }
  }
}

// Attackers who are nothing wherever the sample looks, and at ever smaller
// distances elsewhere, each of which blurs all that is nearer; with the lowest
// ids, so that ties are theirs.
TEST(ComputeGramTest, AttackersBehindAttackers_DoNotBlurTheOthers) {
  constexpr size_t kElements = 8192;
  for (size_t hidden : {1, 2, 3, 4, 5}) {
    Values values = RandomRows(12, kElements, hidden);
    float scale = 1e35f;
    for (size_t i = 0; i < hidden; ++i, scale *= 1e-6f) {
      for (float& x : values[i]) x *= scale;
      for (size_t run = 0; run < 16; ++run) {
        std::fill_n(values[i].begin() + run * (kElements - 64) / 15, 64, 0.0f);
      }
    }
    ExpectDistances(GramOf(values), values, kRelativeError,
                    absl::StrCat(hidden, " attackers"));
  }
}

// The worst that a chain of additions in fp32 can round: the same each time.
TEST(ComputeGramTest, ConstantUpdates_AreAccurate) {
  Values values;
  for (float x : {0.1f, 0.3f, -0.07f, 1.0f / 3, 0.0977f, 0.23f}) {
    values.emplace_back(100'000, x);
  }
  ExpectDistances(GramOf(values), values, 4e-5, "constant");
}

// One update of three, its source replaced.
absl::Status ErrorOf(std::unique_ptr<UpdateSource> source, size_t elements,
                     InstructionSet set) {
  Values values = RandomRows(3, elements, 18);
  std::vector<Update> updates;
  for (const char* worker : {"ann", "bob", "cid"}) {
    updates.push_back(TestUpdate(worker, values[updates.size()]));
  }
  updates[1].values = std::move(source);
  std::vector<Refusal> refusals;
  const UpdateSet updates_of_round =
      UpdateSet::Create(TestExpected(elements), std::move(updates), &refusals);
  ThreadPool pool(2);
  return ComputeGram(updates_of_round.layout(), RowsOf(updates_of_round),
                     nullptr, set, &pool)
      .status();
}

TEST(ComputeGramTest, NonFiniteValue_BlamesWorkerTensorAndIndex) {
  const size_t elements = 40'003;
  for (InstructionSet set : SupportedInstructionSets()) {
    for (size_t at : {size_t{0}, size_t{4'095}, size_t{25'000}, elements - 1}) {
      for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity()}) {
        std::vector<float> values(elements, 1.0f);
        values[at] = bad;
        const absl::Status status =
            ErrorOf(std::make_unique<VectorSource>(values), elements, set);
        EXPECT_THAT(
            status,
            StatusIs(
                absl::StatusCode::kDataLoss,
                AllOf(HasSubstr("worker bob"),
                      HasSubstr(TestLayout(elements).DescribeElement(at) +
                                (std::isnan(bad) ? " is NaN" : " is inf")))));
        EXPECT_EQ(BlamedWorker(status), "bob");
      }
    }
  }
}

TEST(ComputeGramTest, ReadError_BlamesTheWorker) {
  const size_t elements = 40'003;
  for (int64_t fails_at : {int64_t{0}, int64_t{30'000}, int64_t{40'002}}) {
    const absl::Status status =
        ErrorOf(std::make_unique<CopyingSource>(
                    std::vector<float>(elements, 1.0f), fails_at),
                elements, InstructionSet::kBest);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                 AllOf(HasSubstr("worker bob"),
                                       HasSubstr("the disk is gone"))));
    EXPECT_EQ(BlamedWorker(status), "bob");
  }
}

}  // namespace
}  // namespace koinon::aggregation
