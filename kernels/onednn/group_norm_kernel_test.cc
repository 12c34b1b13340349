#include "kernels/onednn/group_norm_kernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.h"

namespace koinon::kernels::onednn {
namespace {

// A bfloat16 as the float that it is.
float Wide(float value) { return value; }
float Wide(uint16_t value) {
  const uint32_t bits = uint32_t{value} << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}

template <typename Value>
Value Drawn(Random* random) {
  const float value = static_cast<float>(random->NextNormal() + 0.5);
  if constexpr (std::is_same_v<Value, float>) {
    return value;
  } else {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return static_cast<uint16_t>(bits >> 16);
  }
}

// Group norm by its definition, in double, on the kernel's layout.
struct Truth {
  std::vector<double> y, dx, dscale, dshift;
};

size_t Place(const GroupNormShape& s, size_t b, size_t c, size_t position) {
  return ((b * s.outer + c / s.inner) * s.spatial + position) * s.inner +
         c % s.inner;
}

template <typename Value>
Truth Define(const GroupNormShape& s, const std::vector<Value>& x,
             const std::vector<float>& scale, const std::vector<float>& shift,
             const std::vector<Value>& dy) {
  Truth truth;
  truth.y.resize(x.size());
  truth.dx.resize(x.size());
  truth.dscale.resize(s.channels);
  truth.dshift.resize(s.channels);
  const size_t width = s.channels / s.groups;
  const double count = static_cast<double>(width * s.spatial);
  for (size_t b = 0; b < s.batch; ++b) {
    for (size_t g = 0; g < s.groups; ++g) {
      const auto for_each = [&](const auto& visit) {
        for (size_t c = g * width; c < (g + 1) * width; ++c) {
          for (size_t p = 0; p < s.spatial; ++p) visit(c, Place(s, b, c, p));
        }
      };
      double mean = 0, variance = 0, mean_g = 0, mean_gz = 0;
      for_each([&](size_t, size_t i) { mean += Wide(x[i]) / count; });
      for_each([&](size_t, size_t i) {
        variance += (Wide(x[i]) - mean) * (Wide(x[i]) - mean) / count;
      });
      const double inverse = 1 / std::sqrt(variance + s.epsilon);
      const auto passed = [&](size_t c, size_t i) {
        const double y = (Wide(x[i]) - mean) * inverse * scale[c] + shift[c];
        truth.y[i] = s.rectified ? std::max(0.0, y) : y;
        return !s.rectified || y > 0 ? double{Wide(dy[i])} : 0.0;
      };
      for_each([&](size_t c, size_t i) {
        const double z = (Wide(x[i]) - mean) * inverse;
        const double gradient = passed(c, i);
        truth.dshift[c] += gradient;
        truth.dscale[c] += gradient * z;
        mean_g += gradient * scale[c] / count;
        mean_gz += gradient * scale[c] * z / count;
      });
      for_each([&](size_t c, size_t i) {
        const double z = (Wide(x[i]) - mean) * inverse;
        truth.dx[i] =
            (passed(c, i) * scale[c] - mean_g - z * mean_gz) * inverse;
      });
    }
  }
  return truth;
}

// tolerance: of one value; sums over the batch get as much for each term.
template <typename Value>
void ExpectDefinition(const GroupNormShape& s, int threads, double tolerance) {
  Random random(s.channels + s.spatial);
  const size_t size = s.batch * s.padded() * s.spatial;
  std::vector<Value> x(size), y(size), dy(size), dx(size);
  for (size_t b = 0; b < s.batch; ++b) {
    for (size_t c = 0; c < s.channels; ++c) {
      for (size_t p = 0; p < s.spatial; ++p) {
        x[Place(s, b, c, p)] = Drawn<Value>(&random);
        dy[Place(s, b, c, p)] = Drawn<Value>(&random);
      }
    }
  }
  std::vector<float> scale(s.channels), shift(s.channels), dscale(s.channels),
      dshift(s.channels);
  for (float& value : scale) value = Drawn<float>(&random);
  for (float& value : shift) value = Drawn<float>(&random);
  std::vector<float> mean(s.batch * s.groups), inverse(s.batch * s.groups);
  std::vector<double> sums(s.batch * 2 * s.padded());
  std::vector<float> coefficients(s.batch * 3 * s.padded());
  const GroupNormScratch scratch{sums.data(), coefficients.data()};
  ForwardGroupNorm(s, threads, x.data(), scale.data(), shift.data(), scratch,
                   mean.data(), inverse.data(), y.data());
  BackwardGroupNorm(s, threads, x.data(), y.data(), scale.data(), mean.data(),
                    inverse.data(), dy.data(), scratch, dx.data(),
                    dscale.data(), dshift.data());
  const Truth truth = Define(s, x, scale, shift, dy);
  for (size_t i = 0; i < size; ++i) {
    ASSERT_NEAR(Wide(y[i]), truth.y[i],
                tolerance * std::max(1.0, std::abs(truth.y[i])));
    ASSERT_NEAR(Wide(dx[i]), truth.dx[i],
                tolerance * std::max(1.0, std::abs(truth.dx[i])));
  }
  for (size_t c = 0; c < s.channels; ++c) {
    ASSERT_NEAR(dscale[c], truth.dscale[c], 1e-5 * s.batch * s.spatial);
    ASSERT_NEAR(dshift[c], truth.dshift[c], 1e-5 * s.batch * s.spatial);
  }
}

class GroupNormKernel : public testing::TestWithParam<GroupNormShape> {};

TEST_P(GroupNormKernel, FollowsTheDefinition) {
  // A few roundings of values up to ten; a bfloat16 has 8 bits.
  ExpectDefinition<float>(GetParam(), 1, 2e-5);
  ExpectDefinition<float>(GetParam(), 3, 2e-5);
  ExpectDefinition<uint16_t>(GetParam(), 2, 1.0 / 256);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, GroupNormKernel,
    testing::Values(GroupNormShape{2, 1, 9, 16, 16, 8, 1e-5, false},
                    GroupNormShape{3, 2, 20, 16, 32, 8, 1e-5, true},
                    // Groups over more channels than a register has.
                    GroupNormShape{2, 4, 12, 16, 64, 2, 1e-5, true},
                    // Lanes without a channel.
                    GroupNormShape{2, 2, 10, 16, 20, 5, 1e-3, true},
                    GroupNormShape{1, 1, 7, 16, 3, 1, 1e-5, false},
                    // Channels last.
                    GroupNormShape{2, 1, 11, 48, 48, 6, 1e-5, false},
                    GroupNormShape{4, 1, 1, 32, 32, 4, 1e-5, true}));

}  // namespace
}  // namespace koinon::kernels::onednn
