#include "aggregation/core/columns.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/testing_updates.h"
#include "aggregation/reference/columns.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

using Values = std::vector<std::vector<float>>;

ColumnRule Median() { return {}; }
ColumnRule TrimmedMean(size_t trim) {
  ColumnRule rule;
  rule.kind = ColumnRule::kTrimmedMean;
  rule.trim = trim;
  return rule;
}
ColumnRule MeanAround(size_t keep) {
  ColumnRule rule;
  rule.kind = ColumnRule::kMeanAround;
  rule.keep = keep;
  return rule;
}
ColumnRule WeightedMedian(std::vector<double> weights) {
  ColumnRule rule;
  rule.kind = ColumnRule::kWeightedMedian;
  rule.weights = std::move(weights);
  return rule;
}

std::vector<double> Counts(size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<double> weights(n);
  for (double& w : weights) w = static_cast<double>(random.NextBelow(50));
  weights[random.NextBelow(n)] = 7;
  return weights;
}

std::vector<ColumnRule> AllRules(size_t m) {
  std::vector<ColumnRule> rules = {
      Median(), TrimmedMean(m / 5), TrimmedMean((m - 1) / 2),
      MeanAround((m + 1) / 2), WeightedMedian(Counts(m, m))};
  return rules;
}

std::string Describe(const ColumnRule& rule, size_t m) {
  return absl::StrCat("kind=", static_cast<int>(rule.kind), " trim=", rule.trim,
                      " keep=", rule.keep, " m=", m);
}

ReferenceColumns Reference(const ColumnRule& rule, const Values& rows) {
  switch (rule.kind) {
    case ColumnRule::kMedian:
      return MedianReference(rows);
    case ColumnRule::kTrimmedMean:
      return TrimmedMeanReference(rows, rule.trim);
    case ColumnRule::kMeanAround:
      return MeanAroundReference(rows, rule.keep);
    case ColumnRule::kWeightedMedian:
      return WeightedMedianReference(rows, rule.weights);
  }
  return {};
}

// Rows of memory, each of worker "w<index>".
struct TestRows {
  explicit TestRows(const Values& values) {
    for (const std::vector<float>& row : values) {
      sources.push_back(std::make_unique<VectorSource>(row));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      workers.push_back(absl::StrCat("w", i));
    }
  }
  ColumnInput Input() const {
    ColumnInput input;
    for (size_t i = 0; i < sources.size(); ++i) {
      input.rows.push_back({sources[i].get(), &workers[i]});
    }
    return input;
  }

  std::vector<std::unique_ptr<UpdateSource>> sources;
  std::vector<WorkerId> workers;
};

struct How {
  InstructionSet set = InstructionSet::kBest;
  int threads = 1;
  OutsideShares* shares = nullptr;
};

std::vector<float> Reduce(const ColumnInput& input, size_t elements,
                          const ColumnRule& rule, const How& how = {}) {
  ThreadPool pool(how.threads);
  CheckingSink sink(elements);
  EXPECT_OK(ReduceColumns(TestLayout(elements), input, rule, how.set, &pool,
                          &sink, how.shares));
  EXPECT_EQ(sink.committed, elements);
  return sink.values;
}

std::vector<float> Reduce(const Values& values, const ColumnRule& rule,
                          const How& how = {}) {
  return Reduce(TestRows(values).Input(), values[0].size(), rule, how);
}

// Against the reference, in every instruction set.
void ExpectRight(const Values& values, const ColumnRule& rule) {
  const ReferenceColumns reference = Reference(rule, values);
  for (InstructionSet set : SupportedInstructionSets()) {
    const std::vector<float> result = Reduce(values, rule, {.set = set});
    for (size_t j = 0; j < result.size(); ++j) {
      ASSERT_NEAR(result[j], reference.value[j], ColumnTolerance(reference, j))
          << Describe(rule, values.size()) << " column " << j << " "
          << InstructionSetName(set);
    }
  }
}

// Any finite bits: subnormal, huge, of either sign.
Values WildRows(size_t m, size_t elements, uint64_t seed) {
  Random random(seed);
  Values values(m, std::vector<float>(elements));
  for (auto& row : values) {
    for (float& x : row) {
      do {
        x = std::bit_cast<float>(static_cast<uint32_t>(random.NextUint64()));
      } while (!std::isfinite(x));
    }
  }
  return values;
}

// Few different values, zeros of both signs among them.
Values TiedRows(size_t m, size_t elements, uint64_t seed) {
  constexpr float kValues[] = {-1, -0.0f, 0.0f, 0.0f, 0.5f, 3};
  Random random(seed);
  Values values(m, std::vector<float>(elements));
  for (auto& row : values) {
    for (float& x : row) x = kValues[random.NextBelow(std::size(kValues))];
  }
  return values;
}

TEST(ReduceColumnsTest, FewRows_MatchTheReference) {
  for (size_t m = 1; m <= 40; ++m) {
    const Values values = RandomRows(m, 70 + m, m);
    for (const ColumnRule& rule : AllRules(m)) ExpectRight(values, rule);
  }
}

TEST(ReduceColumnsTest, ManyRows_MatchTheReference) {
  for (size_t m : {47, 64, 65, 100, 129, 200}) {
    const Values values = RandomRows(m, 33 + m, m);
    for (const ColumnRule& rule : AllRules(m)) ExpectRight(values, rule);
  }
}

TEST(ReduceColumnsTest, VeryManyRows_MatchTheReference) {
  for (size_t m : {256, 512, 513, 1001, 1536, 1537, 1600}) {
    const Values values = RandomRows(m, 50, m);
    for (const ColumnRule& rule : AllRules(m)) ExpectRight(values, rule);
  }
}

TEST(ReduceColumnsTest, AnyCountOfColumns_MatchTheReference) {
  for (size_t elements : {1, 2, 31, 32, 33, 63, 65, 4095, 4097, 9999}) {
    const Values values = RandomRows(7, elements, elements);
    for (const ColumnRule& rule : AllRules(7)) ExpectRight(values, rule);
  }
  const Values values = RandomRows(40, 8200, 3);
  ExpectRight(values, TrimmedMean(8));
}

TEST(ReduceColumnsTest, EveryTrimAndKeep_MatchTheReference) {
  for (size_t m : {1, 2, 9, 16, 23, 34}) {
    const Values values = RandomRows(m, 40, m);
    for (size_t trim = 0; 2 * trim < m; ++trim) {
      ExpectRight(values, TrimmedMean(trim));
    }
    for (size_t keep = 1; keep <= m; ++keep) {
      ExpectRight(values, MeanAround(keep));
    }
  }
}

TEST(ReduceColumnsTest, Ties_MatchTheReference) {
  for (size_t m : {2, 3, 5, 16, 17, 50, 101, 600, 1601}) {
    const Values values = TiedRows(m, 100, m);
    for (const ColumnRule& rule : AllRules(m)) ExpectRight(values, rule);
  }
}

TEST(ReduceColumnsTest, AllRowsEqual_GiveThatRow) {
  for (size_t m : {1, 2, 16, 100, 700, 1600}) {
    Values row = WildRows(1, 333, 5);
    row[0][0] = 0;
    row[0][1] = -0.0f;
    const Values values(m, row[0]);
    for (const ColumnRule& rule : AllRules(m)) {
      EXPECT_TRUE(SameBits(Reduce(values, rule), row[0])) << Describe(rule, m);
    }
  }
}

TEST(ReduceColumnsTest, AnyFiniteBits_MedianIsOneOfThem) {
  for (size_t m : {1, 3, 15, 33, 99, 601}) {
    const Values values = WildRows(m, 200, m);
    ExpectRight(values, Median());
    ExpectRight(values, WeightedMedian(Counts(m, m)));
    // Exact where means do not round: a median of an odd number.
    const ReferenceColumns reference = MedianReference(values);
    const std::vector<float> median = Reduce(values, Median());
    for (size_t j = 0; j < median.size(); ++j) {
      EXPECT_EQ(median[j], reference.value[j]);
    }
  }
}

TEST(ReduceColumnsTest, AnyFiniteBits_TrimmedMeanMatchesTheReference) {
  for (size_t m : {4, 30, 102, 602, 1602}) {
    ExpectRight(WildRows(m, 200, m), TrimmedMean(m / 4));
    ExpectRight(WildRows(m, 200, m), TrimmedMean(0));
  }
}

TEST(ReduceColumnsTest, LargestFloats_DoNotOverflow) {
  for (size_t m : {2, 4, 18, 600, 1600}) {
    const Values values(m, std::vector<float>(40, FLT_MAX));
    for (const ColumnRule& rule : AllRules(m)) {
      EXPECT_TRUE(SameBits(Reduce(values, rule), values[0]));
    }
  }
  EXPECT_EQ(Reduce({{FLT_MAX}, {-FLT_MAX}}, Median())[0], 0);
}

TEST(ReduceColumnsTest, Subnormals_AreKept) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(Reduce({{2 * tiny}, {-tiny}, {tiny}}, Median())[0], tiny);
  EXPECT_EQ(Reduce({{3 * tiny}, {tiny}}, Median())[0], 2 * tiny);
  EXPECT_EQ(Reduce({{9}, {tiny}, {3 * tiny}, {-9}}, TrimmedMean(1))[0],
            2 * tiny);
}

TEST(ReduceColumnsTest, Zeros_NegativeOneComesFirst) {
  const Values values = {{0.0f}, {-0.0f}, {-0.0f}};
  for (InstructionSet set : SupportedInstructionSets()) {
    EXPECT_TRUE(std::signbit(Reduce(values, Median(), {.set = set})[0]));
    EXPECT_TRUE(std::signbit(
        Reduce(values, WeightedMedian({1, 1, 1}), {.set = set})[0]));
    EXPECT_FALSE(std::signbit(
        Reduce(values, WeightedMedian({4, 1, 1}), {.set = set})[0]));
  }
}

TEST(ReduceColumnsTest, PermutedRows_SelectTheSame) {
  for (size_t m : {5, 16, 31, 100, 700, 1601}) {
    // Multiples of 1/1024, small enough that sums in double are exact.
    Values values = RandomRows(m, 130, m);
    for (auto& row : values) {
      for (float& x : row) x = std::nearbyint(x * 1024) / 1024;
    }
    std::vector<double> weights = Counts(m, 11);
    std::vector<std::vector<float>> expected;
    for (const ColumnRule& rule :
         {Median(), TrimmedMean(m / 3), MeanAround(m / 2 + 1)}) {
      expected.push_back(Reduce(values, rule));
    }
    expected.push_back(Reduce(values, WeightedMedian(weights)));
    for (uint64_t seed = 0; seed < 5; ++seed) {
      std::vector<size_t> order(m);
      for (size_t i = 0; i < m; ++i) order[i] = i;
      Random(seed).Shuffle(&order);
      Values permuted;
      std::vector<double> permuted_weights;
      for (size_t i : order) {
        permuted.push_back(values[i]);
        permuted_weights.push_back(weights[i]);
      }
      EXPECT_TRUE(SameBits(Reduce(permuted, Median()), expected[0]));
      EXPECT_TRUE(SameBits(Reduce(permuted, TrimmedMean(m / 3)), expected[1]));
      EXPECT_TRUE(
          SameBits(Reduce(permuted, MeanAround(m / 2 + 1)), expected[2]));
      EXPECT_TRUE(SameBits(Reduce(permuted, WeightedMedian(permuted_weights)),
                           expected[3]));
    }
  }
}

TEST(ReduceColumnsTest, AnyInstructionSetAndThreads_SameBytes) {
  for (size_t m : {1, 2, 6, 16, 29, 100, 531, 1600}) {
    const size_t elements = m > 1000 ? 100 : m > 32 ? 4500 : 17'001;
    for (const Values& values :
         {RandomRows(m, elements, m), WildRows(m, elements, m)}) {
      const TestRows rows(values);
      for (const ColumnRule& rule : AllRules(m)) {
        if (m > 16 && rule.kind == ColumnRule::kWeightedMedian) continue;
        OutsideShares shares;
        const std::vector<float> expected =
            Reduce(rows.Input(), elements, rule, {.shares = &shares});
        for (InstructionSet set : SupportedInstructionSets()) {
          OutsideShares other;
          EXPECT_TRUE(
              SameBits(Reduce(rows.Input(), elements, rule,
                              {.set = set, .threads = 3, .shares = &other}),
                       expected))
              << Describe(rule, m) << " " << InstructionSetName(set);
          EXPECT_EQ(other.shares, shares.shares);
        }
      }
    }
  }
}

TEST(ReduceColumnsTest, ManySlabs_SameBytesOnAnyThreads) {
  const size_t elements = (size_t{1} << 20) + 20'011;
  const TestRows rows(RandomRows(3, elements, 1));
  const std::vector<float> expected = Reduce(rows.Input(), elements, Median());
  EXPECT_TRUE(SameBits(Reduce(rows.Input(), elements, Median(), {.threads = 2}),
                       expected));
}

TEST(ReduceColumnsTest, SourcesThatCopy_SameBytes) {
  for (size_t m : {6, 40}) {
    const Values values = RandomRows(m, 20'003, m);
    TestRows rows(values);
    for (size_t i = 0; i < m; i += 2) {
      rows.sources[i] = std::make_unique<CopyingSource>(values[i]);
    }
    EXPECT_TRUE(
        SameBits(Reduce(rows.Input(), 20'003, TrimmedMean(2), {.threads = 2}),
                 Reduce(values, TrimmedMean(2))));
  }
}

TEST(ReduceColumnsTest, MisalignedOutput_SameBytes) {
  const Values values = RandomRows(5, 10'000, 8);
  const TestRows rows(values);
  const std::vector<float> expected = Reduce(values, Median());
  ThreadPool pool(1);
  for (size_t shift : {1, 2, 3, 5}) {
    std::vector<float> out(10'000 + shift);
    MemorySink sink(absl::MakeSpan(out).subspan(shift));
    ASSERT_OK(ReduceColumns(TestLayout(10'000), rows.Input(), Median(),
                            InstructionSet::kBest, &pool, &sink, nullptr));
    EXPECT_TRUE(SameBits(absl::MakeSpan(out).subspan(shift), expected));
  }
}

// ---- Mixed rows ----

TEST(ReduceColumnsTest, MixingThatPicksRows_IsThoseRowsBitForBit) {
  const Values values = WildRows(5, 5000, 9);
  const TestRows rows(values);
  ColumnInput input = rows.Input();
  input.mixing = {{0, 0, 1, 0, 0}, {1, 0, 0, 0, 0}, {0, 0, 1, 0, 0}};
  const Values picked = {values[2], values[0], values[2]};
  for (const ColumnRule& rule :
       {Median(), TrimmedMean(1), MeanAround(2), WeightedMedian({1, 2, 3})}) {
    EXPECT_TRUE(SameBits(Reduce(input, 5000, rule), Reduce(picked, rule)));
  }
}

TEST(ReduceColumnsTest, Mixing_IsReducedAfterRounding) {
  const size_t n = 20, m = 7;
  const Values values = RandomRows(n, 6000, 2);
  const TestRows rows(values);
  ColumnInput input = rows.Input();
  Random random(3);
  Values mixed(m, std::vector<float>(6000));
  for (size_t i = 0; i < m; ++i) {
    // Means of a few rows, as nearest-neighbour mixing and bucketing make.
    std::vector<double> row(n);
    for (int k = 0; k < 6; ++k) row[random.NextBelow(n)] = 1;
    const double count = std::count(row.begin(), row.end(), 1.0);
    for (double& x : row) x /= count;
    for (size_t j = 0; j < 6000; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k) sum += row[k] == 0 ? 0 : values[k][j];
      mixed[i][j] = static_cast<float>(
          sum * row[static_cast<size_t>(
                    std::max_element(row.begin(), row.end()) - row.begin())]);
    }
    input.mixing.push_back(row);
  }
  for (const ColumnRule& rule : AllRules(m)) {
    for (InstructionSet set : SupportedInstructionSets()) {
      EXPECT_TRUE(
          SameBits(Reduce(input, 6000, rule, {.set = set, .threads = 2}),
                   Reduce(mixed, rule)))
          << Describe(rule, m);
    }
  }
}

// ---- What was left out ----

TEST(ReduceColumnsTest, Shares_CountWhatLiesOutside) {
  for (size_t m : {1, 2, 7, 40, 530, 1600}) {
    const size_t elements = m > 1000 ? 40 : 300;  // all are sampled
    const Values values =
        m == 7 ? TiedRows(m, elements, 2) : RandomRows(m, elements, m);
    for (const ColumnRule& rule : AllRules(m)) {
      OutsideShares shares;
      Reduce(values, rule, {.shares = &shares});
      EXPECT_EQ(shares.coordinates, static_cast<int64_t>(elements));
      const ReferenceColumns reference = Reference(rule, values);
      ASSERT_EQ(shares.shares.size(), m);
      for (size_t i = 0; i < m; ++i) {
        double outside = 0;
        for (size_t j = 0; j < elements; ++j) {
          outside += values[i][j] < reference.low[j] ||
                     values[i][j] > reference.high[j];
        }
        EXPECT_DOUBLE_EQ(shares.shares[i],
                         outside / static_cast<double>(elements))
            << Describe(rule, m) << " row " << i;
      }
    }
  }
}

TEST(ReduceColumnsTest, SharesOfManyCoordinates_AreSampledEvenly) {
  const size_t elements = 700'001;
  Values values(3, std::vector<float>(elements));
  for (size_t j = 0; j < elements; ++j) {
    // The first row is an outlier in the second half, else the last one is.
    values[0][j] = j < elements / 2 ? 1.0f : 5.0f;
    values[1][j] = 1;
    values[2][j] = j < elements / 2 ? 7.0f : 1.0f;
  }
  OutsideShares shares;
  const std::vector<float> with = Reduce(values, Median(), {.shares = &shares});
  EXPECT_LE(shares.coordinates, kSampledCoordinates);
  EXPECT_GT(shares.coordinates, kSampledCoordinates / 2);
  // One run of the sample may fall on either side.
  EXPECT_NEAR(shares.shares[0], 0.5, 0.01);
  EXPECT_EQ(shares.shares[1], 0);
  EXPECT_NEAR(shares.shares[2], 0.5, 0.01);
  EXPECT_TRUE(SameBits(with, Reduce(values, Median())));
}

// ---- Errors ----

absl::Status TryReduce(const ColumnInput& input, size_t elements,
                       const ColumnRule& rule, CheckingSink* sink,
                       InstructionSet set = InstructionSet::kBest) {
  ThreadPool pool(2);
  return ReduceColumns(TestLayout(elements), input, rule, set, &pool, sink,
                       nullptr);
}

TEST(ReduceColumnsTest, NonFiniteValue_BlamesWorkerTensorAndIndex) {
  const size_t elements = 40'000;
  for (size_t m : {3, 16, 20, 100, 530, 1600}) {
    Values values = RandomRows(m, m > 200 ? 70 : elements, m);
    const size_t columns = values[0].size();
    for (size_t at : {size_t{0}, size_t{31},
                      std::min<size_t>(4'095, columns - 2), columns - 1}) {
      for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                        -std::numeric_limits<float>::infinity(),
                        std::numeric_limits<float>::signaling_NaN()}) {
        TestRows rows(values);
        std::vector<float> row = values[m - 2];
        row[at] = bad;
        rows.sources[m - 2] = std::make_unique<VectorSource>(row);
        for (InstructionSet set : SupportedInstructionSets()) {
          CheckingSink sink(columns);
          const absl::Status status =
              TryReduce(rows.Input(), columns, Median(), &sink, set);
          EXPECT_THAT(
              status,
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr(absl::StrCat(
                           TestLayout(columns).DescribeElement(at), " is ",
                           std::isnan(bad) ? "NaN" : "infinite"))));
          EXPECT_EQ(BlamedWorker(status), rows.workers[m - 2]);
          EXPECT_EQ(sink.committed, 0);
        }
      }
    }
  }
}

TEST(ReduceColumnsTest, NonFiniteValueInMixture_BlamesTheWorker) {
  Values values = RandomRows(3, 100, 1);
  values[1][50] = std::numeric_limits<float>::infinity();
  const TestRows rows(values);
  ColumnInput input = rows.Input();
  input.mixing = {{0.5, 0.5, 0}, {0, 0.5, 0.5}};
  CheckingSink sink(100);
  EXPECT_EQ(BlamedWorker(TryReduce(input, 100, Median(), &sink)), "w1");
}

TEST(ReduceColumnsTest, MixtureThatOverflows_BlamesNobody) {
  const TestRows rows(Values(2, std::vector<float>(10, FLT_MAX)));
  ColumnInput input = rows.Input();
  input.mixing = {{1, 1}};
  CheckingSink sink(10);
  const absl::Status status = TryReduce(input, 10, Median(), &sink);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal,
                               HasSubstr("not finite in fp32")));
  EXPECT_EQ(BlamedWorker(status), std::nullopt);
}

TEST(ReduceColumnsTest, ReadError_BlamesTheWorkerAndStopsCommitting) {
  const size_t elements = (size_t{1} << 20) + 5;
  const std::vector<float> ones(elements, 1.0f);
  for (int64_t fails_at : {int64_t{0}, static_cast<int64_t>(elements) - 1}) {
    TestRows rows(Values(3, ones));
    rows.sources[1] = std::make_unique<CopyingSource>(ones, fails_at);
    CheckingSink sink(elements);
    const absl::Status status =
        TryReduce(rows.Input(), elements, Median(), &sink);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss,
                                 AllOf(HasSubstr("worker w1"),
                                       HasSubstr("the disk is gone"))));
    EXPECT_EQ(BlamedWorker(status), "w1");
    EXPECT_LE(sink.committed, static_cast<size_t>(fails_at));
  }
}

TEST(ReduceColumnsTest, SinkError_EndsThePass) {
  const size_t elements = (size_t{1} << 20) + 5;
  const TestRows rows(Values(2, std::vector<float>(elements, 1.0f)));
  CheckingSink sink(elements, /*fails_at=*/10);
  EXPECT_THAT(
      TryReduce(rows.Input(), elements, Median(), &sink),
      StatusIs(absl::StatusCode::kResourceExhausted, "the sink is full"));
  EXPECT_LT(sink.committed, elements);
}

TEST(ReduceColumnsTest, WrongParameters_SayWhatWasExpected) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const TestRows rows(RandomRows(4, 10, 1));
  const std::pair<ColumnRule, const char*> kCases[] = {
      {TrimmedMean(2), "trim of 2 on each side, expected 2 trim < 4"},
      {TrimmedMean(std::numeric_limits<size_t>::max()), "2 trim < 4"},
      {MeanAround(0), "keep 0, expected 1 to 4"},
      {MeanAround(5), "keep 5, expected 1 to 4"},
      {WeightedMedian({1, 1, 1}), "3 weights, expected 4"},
      {WeightedMedian({1, -1, 1, 1}), "weight 1 is -1"},
      {WeightedMedian({1, 1, nan, 1}), "weight 2 is nan"},
      {WeightedMedian({0, 0, 0, 0}), "all 4 weights are 0"},
  };
  for (const auto& [rule, message] : kCases) {
    CheckingSink sink(10);
    EXPECT_THAT(
        TryReduce(rows.Input(), 10, rule, &sink),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
    EXPECT_EQ(sink.committed, 0);
  }
}

TEST(ReduceColumnsTest, WrongInput_SaysWhatWasExpected) {
  const TestRows rows(RandomRows(3, 10, 1));
  CheckingSink sink(10);
  EXPECT_THAT(TryReduce(ColumnInput{}, 10, Median(), &sink),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("0 rows, expected 1 or more")));
  ColumnInput input = rows.Input();
  input.mixing = {{1, 0, 0}, {1, 0}};
  EXPECT_THAT(TryReduce(input, 10, Median(), &sink),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("mixing row 1: 2 coefficients, expected 3")));
  input.mixing = {{1, 0, std::numeric_limits<double>::infinity()}};
  EXPECT_THAT(TryReduce(input, 10, Median(), &sink),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("mixing row 0 has inf")));
}

TEST(ReduceColumnsTest, ExtremeWeights_NeitherOverflowNorVanish) {
  const double huge = std::numeric_limits<double>::max();
  const double tiny = std::numeric_limits<double>::denorm_min();
  const Values values = {{3}, {1}, {2}};
  EXPECT_EQ(Reduce(values, WeightedMedian({huge, huge, huge}))[0], 2);
  EXPECT_EQ(Reduce(values, WeightedMedian({tiny, tiny, tiny}))[0], 2);
  EXPECT_EQ(Reduce(values, WeightedMedian({huge, tiny, tiny}))[0], 3);
}

// ---- Numbers published in other projects' tests ----

// adap/flower, framework/py/flwr/server/strategy/fedmedian_test.py
TEST(ReduceColumnsTest, FlowersMedian) {
  EXPECT_EQ(Reduce({{1.0f, 0.2f, 0.5f, 1.0f},
                    {0.2f, 0.5f, 1.0f, 0.2f},
                    {0.5f, 1.0f, 0.2f, 0.5f}},
                   Median()),
            (std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f}));
}

// adap/flower, framework/py/flwr/server/strategy/fedtrimmedavg_test.py, with
// beta 0.25 of 4 updates: 1 on each side.
TEST(ReduceColumnsTest, FlowersTrimmedMean) {
  EXPECT_EQ(Reduce({{0.5f}, {1.0f}, {2.0f}, {100.0f}}, TrimmedMean(1)),
            (std::vector<float>{1.5f}));
  EXPECT_EQ(Reduce({{0.5f, 0.5f, 0.5f, 0.5f},
                    {1.0f, 0.2f, 0.5f, 1.0f},
                    {0.2f, 0.5f, 1.0f, 0.2f},
                    {0.5f, 1.0f, 0.2f, 0.5f}},
                   TrimmedMean(1)),
            (std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f}));
}

// LPD-EPFL/byzfl, tests/unit_test_aggregators.py
TEST(ReduceColumnsTest, ByzflsMedianAndTrimmedMean) {
  const Values values = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
  EXPECT_EQ(Reduce(values, Median()), (std::vector<float>{4, 5, 6}));
  EXPECT_EQ(Reduce(values, TrimmedMean(1)), (std::vector<float>{4, 5, 6}));
}

// adap/flower, framework/py/flwr/server/strategy/bulyan_test.py: f = 0 selects
// all six, and the second stage keeps all. Its figure has ten decimals.
TEST(ReduceColumnsTest, FlowersBulyan) {
  EXPECT_NEAR(Reduce({{0.2f}, {0.5f}, {0.7f}, {12.0f}, {0.1f}, {0.1f}},
                     MeanAround(6))[0],
              2.2666666667, 0x1p-22);
}

}  // namespace
}  // namespace koinon::aggregation
