#include "aggregation/core/combine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "aggregation/core/fold.h"
#include "aggregation/core/testing_updates.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Longer than one window of the sink, and a multiple of nothing.
constexpr size_t kManySlabs = (size_t{1} << 20) + 4099;

std::vector<float> Combine(const UpdateSet& set, int threads = 1) {
  std::vector<double> weights;
  for (size_t i = 0; i < set.size(); ++i) weights.push_back(set.weight(i));
  ThreadPool pool(threads);
  CheckingSink sink(set.elements());
  EXPECT_OK(CombineUpdates(set, ExactWeights::Of(weights), &pool, &sink));
  EXPECT_EQ(sink.committed, set.elements());
  return sink.values;
}

std::vector<double> Counts(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<double> weights(n);
  for (double& w : weights) w = 1 + static_cast<double>(random.NextBelow(5000));
  return weights;
}

TEST(ExactWeightsTest, ExampleCounts_AreKeptExactly) {
  const std::vector<double> counts = {1, 3, 536870911, 77, 4096};
  const ExactWeights exact = ExactWeights::Of(counts);
  for (size_t i = 0; i < counts.size(); ++i) {
    EXPECT_EQ(exact.weights[i] / exact.weights[0], counts[i]);
  }
}

TEST(ExactWeightsTest, AnyWeights_AreShortAndClose) {
  Random random(1);
  std::vector<double> weights;
  for (int i = 0; i < 1000; ++i) {
    weights.push_back(std::ldexp(random.NextDouble() + 1e-9,
                                 static_cast<int>(random.NextBelow(200))));
  }
  const ExactWeights exact = ExactWeights::Of(weights);
  const double unit = exact.weights[0] / weights[0];
  double sum = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    int exponent;
    const double mantissa =
        std::ldexp(std::frexp(exact.weights[i], &exponent), kWeightBits);
    EXPECT_EQ(mantissa, std::floor(mantissa));
    // 2^-29 from the rounding of each of the two.
    EXPECT_NEAR(exact.weights[i] / unit / weights[i], 1, 0x1p-28);
    sum += exact.Normalised()[i];
  }
  // 1000 roundings of 2^-53.
  EXPECT_NEAR(sum, 1, 1000 * 0x1p-53);
}

TEST(ExactWeightsTest, ExtremeWeights_NeitherOverflowNorVanish) {
  const double huge = std::numeric_limits<double>::max();
  const double tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(ExactWeights::Of({huge, huge}).Normalised(),
            (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(ExactWeights::Of({tiny, tiny}).Normalised(),
            (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(ExactWeights::Of({huge, tiny}).Normalised(),
            (std::vector<double>{1, 0}));
}

TEST(ExactWeightsTest, LinearCoefficients_KeepTheirSum) {
  const ExactWeights exact = ExactWeights::Linear({0.25, 0, 0.125});
  EXPECT_EQ(exact.Normalised(), (std::vector<double>{0.25, 0, 0.125}));
  EXPECT_EQ(ExactWeights::Linear({0, 0}).Normalised(),
            (std::vector<double>{0, 0}));
  Random random(2);
  for (int i = 0; i < 1000; ++i) {
    const double coefficient =
        std::ldexp(random.NextDouble(), -static_cast<int>(i % 200));
    EXPECT_NEAR(ExactWeights::Linear({1, coefficient}).Normalised()[1],
                coefficient, 0x1p-29 * coefficient);
  }
}

TEST(CombineUpdatesTest, AnyThreads_SameBytes) {
  for (size_t n : {1, 5, 16, 17, 40}) {
    const size_t elements = n == 5 ? kManySlabs : 40'000 + n;
    const UpdateSet set =
        TestSet(RandomRows(n, elements, n), Counts(n, 100 + n));
    const std::vector<float> expected = Combine(set, 1);
    for (int threads : {2, 3, 5}) {
      EXPECT_TRUE(SameBits(Combine(set, threads), expected))
          << "n=" << n << " threads=" << threads;
    }
  }
}

TEST(CombineUpdatesTest, AnyOrderOfArrival_SameBytes) {
  const size_t n = 21;
  const auto rows = RandomRows(n, 9001, 3);
  const auto weights = Counts(n, 4);
  const std::vector<float> expected = Combine(TestSet(rows, weights));
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<size_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = i;
    Random(seed).Shuffle(&order);
    std::vector<Update> updates;
    for (size_t i : order) {
      updates.push_back(
          TestUpdate(absl::StrFormat("w%03d", i), rows[i], weights[i]));
    }
    std::vector<Refusal> refusals;
    const UpdateSet set =
        UpdateSet::Create(TestExpected(9001), std::move(updates), &refusals);
    EXPECT_TRUE(SameBits(Combine(set), expected)) << "seed " << seed;
  }
}

TEST(CombineUpdatesTest, SourcesThatCopy_SameBytes) {
  for (size_t n : {3, 35}) {
    const size_t elements = 70'001;
    const auto rows = RandomRows(n, elements, n);
    const auto weights = Counts(n, 5);
    std::vector<Update> updates;
    for (size_t i = 0; i < n; ++i) {
      updates.push_back(
          TestUpdate(absl::StrFormat("w%03d", i), rows[i], weights[i]));
      // Some copy and some do not: a round may mix them.
      if (i % 3 == 0) continue;
      updates.back().values = std::make_unique<CopyingSource>(rows[i]);
    }
    std::vector<Refusal> refusals;
    const UpdateSet set = UpdateSet::Create(TestExpected(elements),
                                            std::move(updates), &refusals);
    const std::vector<float> expected = Combine(TestSet(rows, weights));
    EXPECT_TRUE(SameBits(Combine(set, 1), expected));
    EXPECT_TRUE(SameBits(Combine(set, 3), expected));
  }
}

TEST(CombineUpdatesTest, EveryPath_SameBytes) {
  const size_t n = 37;
  const auto weights = Counts(n, 7);
  const UpdateSet set = TestSet(RandomRows(n, 9'999, 6), weights);
  const std::vector<float> expected = Combine(set);
  ThreadPool pool(2);
  for (InstructionSet isa : SupportedInstructionSets()) {
    CheckingSink sink(set.elements());
    ASSERT_OK(CombineRows(set.layout(), RowsOf(set), ExactWeights::Of(weights),
                          isa, &pool, &sink));
    EXPECT_TRUE(SameBits(sink.values, expected)) << InstructionSetName(isa);
  }
}

// One update of three, its source replaced, in a round on two threads.
absl::Status CombineWith(std::unique_ptr<UpdateSource> source, size_t elements,
                         CheckingSink* sink) {
  const std::vector<float> values(elements, 1.0f);
  std::vector<Update> updates;
  for (const char* worker : {"ann", "bob", "cid"}) {
    updates.push_back(TestUpdate(worker, values));
  }
  updates[1].values = std::move(source);
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(elements), std::move(updates), &refusals);
  ThreadPool pool(2);
  return CombineUpdates(set, ExactWeights::Of({1, 1, 1}), &pool, sink);
}

TEST(CombineUpdatesTest, ReadError_BlamesTheWorkerAndStopsCommitting) {
  for (int64_t fails_at : {int64_t{0}, int64_t{kManySlabs - 1}}) {
    CheckingSink sink(kManySlabs);
    const absl::Status status =
        CombineWith(std::make_unique<CopyingSource>(
                        std::vector<float>(kManySlabs, 1.0f), fails_at),
                    kManySlabs, &sink);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                 AllOf(HasSubstr("worker bob"),
                                       HasSubstr("the disk is gone"))));
    EXPECT_EQ(BlamedWorker(status), "bob");
    EXPECT_LE(sink.committed, static_cast<size_t>(fails_at));
  }
}

TEST(CombineUpdatesTest, NonFiniteValue_BlamesWorkerTensorAndIndex) {
  const size_t elements = 50'000;
  for (size_t at : {size_t{0}, size_t{4'095}, size_t{25'000}, elements - 1}) {
    std::vector<float> values(elements, 1.0f);
    values[at] = std::numeric_limits<float>::infinity();
    CheckingSink sink(elements);
    const absl::Status status =
        CombineWith(std::make_unique<VectorSource>(values), elements, &sink);
    EXPECT_THAT(
        status,
        StatusIs(absl::StatusCode::kDataLoss,
                 AllOf(HasSubstr("worker bob"),
                       HasSubstr(TestLayout(elements).DescribeElement(at) +
                                 " is infinite"))));
    EXPECT_EQ(BlamedWorker(status), "bob");
    EXPECT_EQ(sink.committed, 0);
  }
}

TEST(CombineUpdatesTest, SinkError_EndsThePass) {
  CheckingSink sink(kManySlabs, /*fails_at=*/10);
  EXPECT_THAT(
      CombineWith(
          std::make_unique<VectorSource>(std::vector<float>(kManySlabs, 1.0f)),
          kManySlabs, &sink),
      StatusIs(absl::StatusCode::kResourceExhausted, "the sink is full"));
  EXPECT_LT(sink.committed, kManySlabs);
}

// The rows of `set`, and a row of nobody's behind them.
absl::Status CombineWithState(const UpdateSet& set, const UpdateSource& state,
                              const std::vector<double>& coefficients,
                              CheckingSink* sink) {
  Rows rows = RowsOf(set);
  rows.push_back({&state, nullptr});
  ThreadPool pool(2);
  return CombineRows(set.layout(), rows, ExactWeights::Linear(coefficients),
                     InstructionSet::kBest, &pool, sink);
}

TEST(CombineRowsTest, Coefficients_NeedNotSumToOne) {
  const size_t elements = 40'001;
  const auto values = RandomRows(3, elements, 9);
  const UpdateSet set = TestSet({values[0], values[1]}, {1, 1});
  CheckingSink sink(elements);
  ASSERT_OK(CombineWithState(set, VectorSource(values[2]), {0.25, 0.125, 0.5},
                             &sink));
  EXPECT_EQ(sink.committed, elements);
  for (size_t j = 0; j < elements; ++j) {
    EXPECT_EQ(sink.values[j],
              static_cast<float>(0.25 * values[0][j] + 0.125 * values[1][j] +
                                 0.5 * values[2][j]));
  }
}

TEST(CombineRowsTest, RowsOfWeightZero_AreNotRead) {
  const size_t elements = 5'000;
  const auto values = RandomRows(1, elements, 10)[0];
  std::vector<Update> updates;
  for (const char* worker : {"ann", "bob", "cid"}) {
    updates.push_back(TestUpdate(worker, values));
  }
  // Fail wherever they are asked for anything.
  for (size_t i : {0, 2}) {
    updates[i].values = std::make_unique<CopyingSource>(values, 0);
  }
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(elements), std::move(updates), &refusals);
  ThreadPool pool(1);
  CheckingSink sink(elements);
  ASSERT_OK(CombineRows(set.layout(), RowsOf(set),
                        ExactWeights::Linear({0, 1, 0}), InstructionSet::kBest,
                        &pool, &sink));
  EXPECT_TRUE(SameBits(sink.values, values));
  CheckingSink unused(elements);
  EXPECT_THAT(
      CombineRows(set.layout(), RowsOf(set), ExactWeights::Linear({1, 1, 0}),
                  InstructionSet::kBest, &pool, &unused),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("worker ann")));
}

TEST(CombineRowsTest, OnlyZeros_GiveZero) {
  const size_t elements = kManySlabs;
  const UpdateSet set =
      TestSet(RandomRows(2, elements, 11), std::vector<double>(2, 1));
  ThreadPool pool(2);
  CheckingSink sink(elements);
  ASSERT_OK(CombineRows(set.layout(), RowsOf(set), ExactWeights::Linear({0, 0}),
                        InstructionSet::kBest, &pool, &sink));
  EXPECT_EQ(sink.committed, elements);
  EXPECT_TRUE(SameBits(sink.values, std::vector<float>(elements, 0.0f)));
}

TEST(CombineRowsTest, NobodysRow_IsBlamedOnNobody) {
  const std::vector<float> values(100, 1.0f);
  const UpdateSet set = TestSet({values}, {1});
  CheckingSink sink(values.size());
  const absl::Status status =
      CombineWithState(set, CopyingSource(values, 50), {0.5, 0.5}, &sink);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                               HasSubstr("the disk is gone")));
  EXPECT_EQ(BlamedWorker(status), std::nullopt);
}

TEST(CombineUpdatesTest, MisalignedOutput_SameBytes) {
  const size_t elements = 10'000;
  const auto weights = Counts(6, 8);
  const UpdateSet set = TestSet(RandomRows(6, elements, 8), weights);
  const std::vector<float> expected = Combine(set);
  ThreadPool pool(1);
  for (size_t shift : {1, 2, 3, 5}) {
    std::vector<float> out(elements + shift);
    MemorySink sink(absl::MakeSpan(out).subspan(shift));
    ASSERT_OK(CombineUpdates(set, ExactWeights::Of(weights), &pool, &sink));
    EXPECT_TRUE(SameBits(absl::MakeSpan(out).subspan(shift), expected));
  }
}

}  // namespace
}  // namespace koinon::aggregation
