#include "kernels/onednn/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace koinon::kernels::onednn {
namespace {

TEST(RoundToBfloat16, TakesTheNearestAndEvenOfTwo) {
  // A bfloat16 has eight bits: next to 1 they are 1/128 apart.
  const float step = 1.0f / 128, infinity = HUGE_VALF;
  const std::vector<float> from = {0,
                                   -0.0f,
                                   1,
                                   1 + step,
                                   1 + 0.49f * step,
                                   1 + 0.51f * step,
                                   1 + 0.5f * step,  // tie: down to even
                                   1 + 1.5f * step,  // tie: up to even
                                   -(1 + 1.5f * step),
                                   infinity,
                                   -infinity,
                                   std::numeric_limits<float>::max()};
  const std::vector<float> wanted = {0,
                                     -0.0f,
                                     1,
                                     1 + step,
                                     1,
                                     1 + step,
                                     1,
                                     1 + 2 * step,
                                     -(1 + 2 * step),
                                     infinity,
                                     -infinity,
                                     infinity};
  std::vector<float> to(from.size());
  for (int threads : {1, 3}) {
    RoundToBfloat16(threads, from.size(), from.data(), to.data());
    EXPECT_EQ(to, wanted);
    EXPECT_TRUE(std::signbit(to[1]));
  }
}

TEST(RoundToBfloat16, WhatIsNoNumber_StaysNone) {
  std::vector<float> values(33, std::numeric_limits<float>::quiet_NaN());
  RoundToBfloat16(2, values.size(), values.data(), values.data());
  for (float value : values) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace koinon::kernels::onednn
