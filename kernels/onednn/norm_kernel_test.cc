// Values: onednn_network_test.cc, against the reference. Here: threads.

#include "kernels/onednn/norm_kernel.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace koinon::kernels::onednn {
namespace {

struct Result {
  std::vector<float> y, mean, inverse, dx, scale_gradient, shift_gradient;
  friend bool operator==(const Result&, const Result&) = default;
};

std::vector<float> Normal(size_t count, uint64_t seed) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(NormalAt(seed, i));
  }
  return values;
}

Result Normalize(const NormShape& shape, int threads) {
  const size_t rows = shape.batch * shape.groups;
  const size_t count = rows * shape.row;
  const std::vector<float> x = Normal(count, 1), dy = Normal(count, 2);
  const std::vector<float> scale = Normal(shape.channels, 3);
  const std::vector<float> shift = Normal(shape.channels, 4);
  Result result;
  result.y.resize(count);
  result.dx.resize(count);
  result.mean.resize(rows);
  result.inverse.resize(rows);
  result.scale_gradient.resize(shape.channels);
  result.shift_gradient.resize(shape.channels);
  ForwardNorm(shape, threads, x.data(), scale.data(), shift.data(),
              result.y.data(), result.mean.data(), result.inverse.data());
  BackwardNorm(shape, threads, x.data(), scale.data(), result.mean.data(),
               result.inverse.data(), dy.data(), result.dx.data(),
               result.scale_gradient.data(), result.shift_gradient.data());
  return result;
}

TEST(Norm, AnyThreadCount_GivesTheSameBytes) {
  const NormShape group{.batch = 5,
                        .groups = 3,
                        .row = 2 * 35,
                        .spatial = 35,
                        .channels = 6,
                        .epsilon = 1e-5};
  const NormShape layer{.batch = 5,
                        .groups = 1,
                        .row = 77,
                        .spatial = 1,
                        .channels = 77,
                        .epsilon = 1e-5};
  for (const NormShape& shape : {group, layer}) {
    const Result one = Normalize(shape, 1);
    EXPECT_EQ(Normalize(shape, 2), one);
    EXPECT_EQ(Normalize(shape, 7), one);
  }
}

}  // namespace
}  // namespace koinon::kernels::onednn
