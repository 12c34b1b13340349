#include "aggregation/core/fold.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "aggregation/core/instruction_set.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

// A weight with at most kWeightBits significant bits.
double ShortWeight(Random* random) {
  const auto mantissa =
      static_cast<double>(random->NextBelow(uint64_t{1} << kWeightBits));
  return std::ldexp(mantissa, -static_cast<int>(random->NextBelow(60)));
}

// Any finite fp32, subnormals and zeros of both signs included.
float AnyFinite(Random* random) {
  while (true) {
    const auto bits = static_cast<uint32_t>(random->NextUint64());
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    if (random->NextBelow(8) == 0) value *= 0;
    if (std::isfinite(value)) return value;
  }
}

struct Case {
  size_t n, count, misaligned;
  bool first, last;
};

// Rows, sums and weights drawn from a seed, and one fold over them.
class Folding {
 public:
  Folding(const Case& c, uint64_t seed) : case_(c), random_(seed) {
    for (size_t i = 0; i < c.n; ++i) {
      std::vector<float> row(c.count + c.misaligned);
      for (float& x : row) x = AnyFinite(&random_);
      rows_.push_back(std::move(row));
      weights_.push_back(ShortWeight(&random_));
    }
    for (size_t j = 0; j < c.count; ++j) {
      sums_.push_back(random_.NextNormal() * 1e10);
    }
  }

  void Poison(size_t row, size_t j, float value) {
    rows_[row][case_.misaligned + j] = value;
  }

  // Returns what the path returned; `sum` and `out` hold what it left.
  bool Run(Fold fold) {
    std::vector<const float*> rows;
    for (const auto& row : rows_) rows.push_back(row.data() + case_.misaligned);
    sum = sums_;
    out.assign(case_.count + case_.misaligned, 7.0f);
    FoldBlock block;
    block.rows = rows.data();
    block.ahead = rows.data();
    block.weights = weights_.data();
    block.n = case_.n;
    block.count = case_.count;
    block.first = case_.first;
    block.sum = case_.first && case_.last ? nullptr : sum.data();
    block.out = case_.last ? out.data() + case_.misaligned : nullptr;
    block.scale = 0x1p-40 / 3;
    const bool finite = fold(block);
    FinishFolds();
    return finite;
  }

  const std::vector<double>& weights() const { return weights_; }
  float x(size_t row, size_t j) const {
    return rows_[row][case_.misaligned + j];
  }

  std::vector<double> sum;
  std::vector<float> out;

 private:
  const Case case_;
  Random random_;
  std::vector<std::vector<float>> rows_;
  std::vector<double> weights_;
  std::vector<double> sums_;
};

template <typename T>
bool SameBytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() ||
          std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (size_t n = 1; n <= kMaxFoldRows; ++n) {
    for (size_t count : {0, 1, 15, 16, 31, 32, 33, 257, 1000}) {
      for (size_t misaligned : {0, 1, 3}) {
        for (bool first : {false, true}) {
          for (bool last : {false, true}) {
            cases.push_back({n, count, misaligned, first, last});
          }
        }
      }
    }
  }
  return cases;
}

TEST(FoldTest, EveryPath_LeavesTheSameBytes) {
  uint64_t seed = 0;
  for (const Case& c : Cases()) {
    Folding expected(c, ++seed);
    Folding got(c, seed);
    const bool finite = expected.Run(FoldOf(InstructionSet::kPortable));
    for (InstructionSet set : SupportedInstructionSets()) {
      EXPECT_EQ(got.Run(FoldOf(set)), finite) << InstructionSetName(set);
      EXPECT_TRUE(SameBytes(got.sum, expected.sum)) << InstructionSetName(set);
      EXPECT_TRUE(SameBytes(got.out, expected.out))
          << InstructionSetName(set) << " n=" << c.n << " count=" << c.count;
    }
  }
}

// The order of operations in fold.h, spelled out.
TEST(FoldTest, EveryPath_FollowsTheDefinition) {
  const Case c = {5, 100, 0, true, true};
  Folding folding(c, 77);
  for (InstructionSet set : SupportedInstructionSets()) {
    ASSERT_TRUE(folding.Run(FoldOf(set)));
    for (size_t j = 0; j < c.count; ++j) {
      double sum = folding.weights()[0] * folding.x(0, j);
      for (size_t i = 1; i < c.n; ++i) {
        sum = std::fma(folding.weights()[i], folding.x(i, j), sum);
      }
      EXPECT_EQ(folding.out[j], static_cast<float>(sum * (0x1p-40 / 3)))
          << InstructionSetName(set) << " column " << j;
    }
  }
}

TEST(FoldTest, NonFiniteValueAnywhere_IsReported) {
  const Case c = {3, 70, 1, true, true};
  for (InstructionSet set : SupportedInstructionSets()) {
    for (size_t j = 0; j < c.count; ++j) {
      for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                        std::numeric_limits<float>::infinity(),
                        -std::numeric_limits<float>::infinity()}) {
        Folding folding(c, 5);
        ASSERT_TRUE(folding.Run(FoldOf(set)));
        folding.Poison(j % c.n, j, bad);
        EXPECT_FALSE(folding.Run(FoldOf(set)))
            << InstructionSetName(set) << " column " << j;
      }
    }
  }
}

}  // namespace
}  // namespace koinon::aggregation
