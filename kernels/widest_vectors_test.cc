#include "kernels/widest_vectors.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace koinon::kernels {
namespace {

TEST(WithWidestVectors, Body_RunsOnce) {
  std::vector<float> values(1003);
  std::iota(values.begin(), values.end(), 0.0f);
  int runs = 0;
  WithWidestVectors([&] {
    ++runs;
    for (float& value : values) value = 2 * value + 1;
  });
  EXPECT_EQ(runs, 1);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], 2 * i + 1);
}

}  // namespace
}  // namespace koinon::kernels
