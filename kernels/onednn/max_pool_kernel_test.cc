#include "kernels/onednn/max_pool_kernel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"
#include "kernels/onednn/rounding.h"

namespace koinon::kernels::onednn {
namespace {

// What a window's largest value is, by the definition.
struct Largest {
  size_t place = 0;  // in x
  uint8_t index = 0;
};

size_t At(const MaxPoolShape& s, size_t n, size_t h, size_t w, size_t c) {
  return ((n * s.height + h) * s.width + w) * s.inner + c;
}

template <typename Visit>  // visit(output index, Largest)
void ForEachWindow(const MaxPoolShape& s, const std::vector<float>& x,
                   const Visit& visit) {
  size_t output = 0;
  for (size_t n = 0; n < s.outer; ++n) {
    for (size_t p = 0; p < s.output_height(); ++p) {
      for (size_t q = 0; q < s.output_width(); ++q) {
        for (size_t c = 0; c < s.inner; ++c, ++output) {
          Largest best{At(s, n, p * s.stride, q * s.stride, c), 0};
          for (size_t k = 1; k < s.kernel * s.kernel; ++k) {
            const size_t place = At(s, n, p * s.stride + k / s.kernel,
                                    q * s.stride + k % s.kernel, c);
            if (x[place] > x[best.place]) {
              best = {place, static_cast<uint8_t>(k)};
            }
          }
          visit(output, best);
        }
      }
    }
  }
}

size_t InputSize(const MaxPoolShape& s) {
  return s.outer * s.height * s.width * s.inner;
}
size_t OutputSize(const MaxPoolShape& s) {
  return s.outer * s.output_height() * s.output_width() * s.inner;
}

// Few different values, so that many are alike, and half of them 0 where a ReLU
// came before.
std::vector<float> Draw(size_t count, bool rectified, Random* random) {
  std::vector<float> values(count);
  for (float& value : values) {
    value = static_cast<float>(random->NextBelow(9)) - 4;
    if (rectified && value < 0) value = 0;
  }
  return values;
}

std::vector<uint16_t> UpperHalves(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    halves.push_back(static_cast<uint16_t>(bits >> 16));
  }
  return halves;
}

struct Case {
  MaxPoolShape shape;
  int threads = 1;
};

class MaxPoolKernel : public testing::TestWithParam<Case> {};

TEST_P(MaxPoolKernel, FollowsTheDefinition) {
  const MaxPoolShape shape = GetParam().shape;
  const int threads = GetParam().threads;
  Random random(7);
  const std::vector<float> x = Draw(InputSize(shape), shape.rectified, &random);
  const std::vector<float> dy = Draw(OutputSize(shape), false, &random);
  std::vector<float> y(OutputSize(shape)), dx(InputSize(shape), 99);
  std::vector<uint8_t> index(OutputSize(shape));
  ForwardMaxPool(shape, threads, x.data(), y.data(), index.data());
  BackwardMaxPool(shape, threads, dy.data(), index.data(), dx.data());
  std::vector<float> wanted_y(y.size()), wanted_dx(x.size());
  std::vector<uint8_t> wanted_index(y.size());
  ForEachWindow(shape, x, [&](size_t output, Largest best) {
    wanted_y[output] = x[best.place];
    const bool passes = !shape.rectified || x[best.place] > 0;
    wanted_index[output] = passes ? best.index : kNoMaximum;
    if (passes) wanted_dx[best.place] = dy[output];
  });
  EXPECT_EQ(y, wanted_y);
  EXPECT_EQ(index, wanted_index);
  EXPECT_EQ(dx, wanted_dx);

  // Small whole numbers are bfloat16 values too.
  const std::vector<uint16_t> x16 = UpperHalves(x), dy16 = UpperHalves(dy);
  std::vector<uint16_t> y16(y.size()), dx16(x.size(), 99);
  ForwardMaxPool<uint16_t>(shape, threads, x16.data(), y16.data(), nullptr);
  EXPECT_EQ(y16, UpperHalves(wanted_y));
  ForwardMaxPool(shape, threads, x16.data(), y16.data(), index.data());
  BackwardMaxPool(shape, threads, dy16.data(), index.data(), dx16.data());
  EXPECT_EQ(y16, UpperHalves(wanted_y));
  EXPECT_EQ(index, wanted_index);
  EXPECT_EQ(dx16, UpperHalves(wanted_dx));
}

std::vector<float> Rounded(std::vector<float> values) {
  RoundToBfloat16(1, values.size(), values.data(), values.data());
  return values;
}

// A pass that rounds puts out what a pass of its own would make of the plain
// result, and takes the same maxima.
TEST_P(MaxPoolKernel, Rounding_IsOfTheResultAlone) {
  MaxPoolShape shape = GetParam().shape;
  const int threads = GetParam().threads;
  Random random(8);
  std::vector<float> x(InputSize(shape)), dy(OutputSize(shape));
  for (float& value : x) value = static_cast<float>(random.NextNormal());
  for (float& value : dy) value = static_cast<float>(random.NextNormal());
  std::vector<float> y(dy.size()), dx(x.size()), found_y(y), found_dx(dx);
  std::vector<uint8_t> index(y.size()), found_index(y.size());
  ForwardMaxPool(shape, threads, x.data(), y.data(), index.data());
  BackwardMaxPool(shape, threads, dy.data(), index.data(), dx.data());
  shape.rounds_output = shape.rounds_gradient = true;
  ForwardMaxPool(shape, threads, x.data(), found_y.data(), found_index.data());
  BackwardMaxPool(shape, threads, dy.data(), index.data(), found_dx.data());
  EXPECT_EQ(found_y, Rounded(y));
  EXPECT_EQ(found_index, index);
  EXPECT_EQ(found_dx, Rounded(dx));
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, MaxPoolKernel,
    testing::Values(
        Case{{1, 2, 2, 16, 2, 2, false}}, Case{{3, 8, 6, 32, 2, 2, true}},
        Case{{2, 8, 6, 16, 2, 2, true}, 3},
        // A row and a column that no window sees.
        Case{{2, 7, 5, 16, 2, 2, true}, 2},
        // Gaps between the windows.
        Case{{2, 11, 9, 16, 2, 3, false}}, Case{{1, 9, 9, 48, 3, 3, true}},
        Case{{1, 12, 10, 16, 3, 5, false}, 2}, Case{{2, 5, 5, 16, 5, 5, true}},
        Case{{2, 3, 3, 16, 1, 1, true}}, Case{{1, 16, 15, 16, 15, 15, false}}));

}  // namespace
}  // namespace koinon::kernels::onednn
