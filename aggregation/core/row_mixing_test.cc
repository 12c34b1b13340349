#include "aggregation/core/row_mixing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aggregation/core/testing_updates.h"
#include "base/random.h"

namespace koinon::aggregation {
namespace {

using Matrix = std::vector<std::vector<double>>;

struct Mixed {
  bool finite = false;
  std::vector<std::vector<float>> rows;
};

Mixed Mix(const Matrix& matrix, const std::vector<std::vector<float>>& rows,
          InstructionSet set = InstructionSet::kPortable) {
  const RowMixing mixing(matrix, rows.size(), set);
  const size_t count = rows[0].size(), stride = count + 3;
  std::vector<const float*> in,
      out(matrix.empty() ? rows.size() : matrix.size());
  for (const auto& row : rows) in.push_back(row.data());
  std::vector<float> mixed(mixing.mixed_rows() * stride);
  Mixed result;
  result.finite = mixing.Mix(in, count, stride, mixed.data(), &out);
  for (const float* row : out) result.rows.emplace_back(row, row + count);
  return result;
}

TEST(RowMixingTest, NoMatrixOrSingleOnes_PassRowsOn) {
  const auto rows = RandomRows(3, 10, 1);
  EXPECT_EQ(RowMixing({}, 3, InstructionSet::kPortable).mixed_rows(), 0);
  EXPECT_EQ(Mix({}, rows).rows, rows);
  const Matrix picks = {{0, 0, 1}, {0, 0, 1}, {1, 0, 0}};
  EXPECT_EQ(RowMixing(picks, 3, InstructionSet::kPortable).mixed_rows(), 0);
  const std::vector<std::vector<float>> expected = {rows[2], rows[2], rows[0]};
  EXPECT_EQ(Mix(picks, rows).rows, expected);
}

TEST(RowMixingTest, Means_AreExactSumsTimesTheCoefficient) {
  const auto rows = RandomRows(3, 1000, 2);
  const double third = 1.0 / 3;
  const Mixed mixed = Mix({{third, third, third}}, rows);
  EXPECT_TRUE(mixed.finite);
  for (size_t j = 0; j < 1000; ++j) {
    const double sum = double{rows[0][j]} + rows[1][j] + rows[2][j];
    EXPECT_EQ(mixed.rows[0][j], static_cast<float>(sum * third));
  }
}

TEST(RowMixingTest, AnyCoefficients_AreWithinTheirRounding) {
  const auto rows = RandomRows(20, 1300, 3);
  Random random(4);
  Matrix matrix(5, std::vector<double>(20));
  for (auto& row : matrix) {
    for (double& x : row) x = random.NextNormal();
  }
  const Mixed mixed = Mix(matrix, rows);
  for (InstructionSet set : SupportedInstructionSets()) {
    EXPECT_EQ(Mix(matrix, rows, set).rows, mixed.rows);
  }
  for (size_t i = 0; i < 5; ++i) {
    for (size_t j = 0; j < 1300; ++j) {
      long double sum = 0, magnitude = 0;
      for (size_t k = 0; k < 20; ++k) {
        const long double term =
            matrix[i][k] * static_cast<long double>(rows[k][j]);
        sum += term;
        magnitude += std::fabs(term);
      }
      // Half a unit of fp32, and 2^-30 of each term for coefficients of 29
      // bits.
      EXPECT_NEAR(mixed.rows[i][j], static_cast<double>(sum),
                  static_cast<double>(0x1p-24L * std::fabs(sum) +
                                      0x1p-29L * magnitude));
    }
  }
}

TEST(RowMixingTest, ExtremeCoefficients_NeitherOverflowNorVanish) {
  const double huge = 1e300, tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(Mix({{huge, tiny}}, {{0}, {1}}).rows[0][0], 0);
  EXPECT_EQ(Mix({{1e30, 0}}, {{1e-30f}, {1}}).rows[0][0],
            static_cast<float>(1e30 * 1e-30f));
  EXPECT_EQ(Mix({{0, 0}}, {{5}, {1}}).rows[0][0], 0);
}

TEST(RowMixingTest, NonFiniteResult_IsSaid) {
  const float inf = std::numeric_limits<float>::infinity();
  const float most = std::numeric_limits<float>::max();
  EXPECT_FALSE(Mix({{0.5, 0.5}}, {{inf}, {1}}).finite);
  EXPECT_FALSE(Mix({{1, 1}}, {{most}, {most}}).finite);
  EXPECT_TRUE(Mix({{0.5, 0.5}}, {{most}, {most}}).finite);
}

}  // namespace
}  // namespace koinon::aggregation
