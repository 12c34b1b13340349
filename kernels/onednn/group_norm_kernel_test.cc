#include "kernels/onednn/group_norm_kernel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "kernels/onednn/rounding.h"

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

// What a pass does beside the norm.
struct Variant {
  bool adds = false;      // another image, on the way there
  bool second = false;    // the gradient comes in two parts
  bool in_place = false;  // results go where the gradient's parts were
};

// Group norm by its definition, in double, on the kernel's layout. `other` and
// `dy` are 0 where there is none; dwhole is the gradient of `other`.
struct Truth {
  std::vector<double> y, dwhole, dx, dscale, dshift;
};

size_t Place(const GroupNormShape& s, size_t b, size_t c, size_t position) {
  return ((b * s.outer + c / s.inner) * s.spatial + position) * s.inner +
         c % s.inner;
}

template <typename Value>
struct Images {
  std::vector<Value> x, other, dy, dy2;
};

template <typename Value>
Truth Define(const GroupNormShape& s, const Images<Value>& in,
             const std::vector<float>& scale, const std::vector<float>& shift) {
  Truth truth;
  truth.y.resize(in.x.size());
  truth.dwhole.resize(in.x.size());
  truth.dx.resize(in.x.size());
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
      for_each([&](size_t, size_t i) { mean += Wide(in.x[i]) / count; });
      const auto off = [&](size_t i) { return Wide(in.x[i]) - mean; };
      for_each([&](size_t, size_t i) { variance += off(i) * off(i) / count; });
      const double inverse = 1 / std::sqrt(variance + s.epsilon);
      for_each([&](size_t c, size_t i) {
        const double z = off(i) * inverse;
        const double y = z * scale[c] + shift[c] + Wide(in.other[i]);
        truth.y[i] = s.rectified ? std::max(0.0, y) : y;
        const double gradient = !s.rectified || y > 0
                                    ? double{Wide(in.dy[i])} + Wide(in.dy2[i])
                                    : 0.0;
        truth.dwhole[i] = gradient;
        truth.dshift[c] += gradient;
        truth.dscale[c] += gradient * z;
        mean_g += gradient * scale[c] / count;
        mean_gz += gradient * scale[c] * z / count;
      });
      for_each([&](size_t c, size_t i) {
        truth.dx[i] =
            (truth.dwhole[i] * scale[c] - mean_g - off(i) * inverse * mean_gz) *
            inverse;
      });
    }
  }
  return truth;
}

// Zeros in lanes without a channel, and where the variant has no image.
template <typename Value>
Images<Value> DrawImages(const GroupNormShape& s, const Variant& variant,
                         Random* random) {
  const size_t size = s.batch * s.padded() * s.spatial;
  Images<Value> images;
  for (auto* image : {&images.x, &images.other, &images.dy, &images.dy2}) {
    image->resize(size);
    if ((image == &images.other && !variant.adds) ||
        (image == &images.dy2 && !variant.second)) {
      continue;
    }
    for (size_t b = 0; b < s.batch; ++b) {
      for (size_t c = 0; c < s.channels; ++c) {
        for (size_t p = 0; p < s.spatial; ++p) {
          (*image)[Place(s, b, c, p)] = Drawn<Value>(random);
        }
      }
    }
  }
  return images;
}

template <typename Value>
struct Results {
  std::vector<Value> y, dwhole, dx;
  std::vector<float> dscale, dshift;
};

template <typename Value>
Results<Value> RunKernel(const GroupNormShape& s, const Variant& variant,
                         int threads, const Images<Value>& in,
                         const std::vector<float>& scale,
                         const std::vector<float>& shift) {
  const size_t size = in.x.size();
  Results<Value> results;
  results.y.resize(size);
  results.dscale.resize(s.channels);
  results.dshift.resize(s.channels);
  std::vector<float> mean(s.batch * s.groups), inverse(mean),
      line(s.batch * 2 * s.padded()), coefficients(s.batch * 3 * s.padded());
  std::vector<double> sums(s.batch * 2 * s.padded());
  const GroupNormScratch scratch{sums.data(), coefficients.data()};
  const GroupNormMoments moments{mean.data(), inverse.data(), line.data()};
  ForwardGroupNorm(s, threads, in.x.data(),
                   variant.adds ? in.other.data() : nullptr, scale.data(),
                   shift.data(), scratch, moments, results.y.data());
  // What is written to begins as what nobody should find there.
  std::vector<Value> first = in.dy, second = in.dy2;
  std::vector<Value> whole(size, Value{99}), dx(size, Value{99});
  GroupNormGradients<Value> gradients{first.data()};
  if (variant.second) gradients.second = second.data();
  std::vector<Value>* whole_at = nullptr;
  std::vector<Value>* dx_at = variant.in_place ? &first : &dx;
  if (variant.adds || variant.second) {
    whole_at = variant.in_place ? &first : &whole;
    dx_at = variant.in_place && variant.second ? &second : &dx;
    gradients.whole = whole_at->data();
  }
  gradients.x = dx_at->data();
  BackwardGroupNorm(s, threads, in.x.data(), results.y.data(), scale.data(),
                    moments, gradients, scratch, results.dscale.data(),
                    results.dshift.data());
  results.dx = *dx_at;
  if (whole_at != nullptr) results.dwhole = *whole_at;
  return results;
}

std::vector<float> DrawnFloats(size_t count, Random* random) {
  std::vector<float> values(count);
  for (float& value : values) value = Drawn<float>(random);
  return values;
}

// tolerance: of one value; sums over the batch get as much for each term.
template <typename Value>
void ExpectDefinition(const GroupNormShape& s, const Variant& variant,
                      int threads, double tolerance) {
  Random random(s.channels + s.spatial);
  const Images<Value> in = DrawImages<Value>(s, variant, &random);
  const std::vector<float> scale = DrawnFloats(s.channels, &random);
  const std::vector<float> shift = DrawnFloats(s.channels, &random);
  const Results<Value> found = RunKernel(s, variant, threads, in, scale, shift);
  const Truth truth = Define(s, in, scale, shift);
  const auto expect_near = [&](Value value, double wanted) {
    ASSERT_NEAR(Wide(value), wanted,
                tolerance * std::max(1.0, std::abs(wanted)));
  };
  for (size_t i = 0; i < in.x.size(); ++i) {
    expect_near(found.y[i], truth.y[i]);
    expect_near(found.dx[i], truth.dx[i]);
    if (!found.dwhole.empty()) expect_near(found.dwhole[i], truth.dwhole[i]);
  }
  for (size_t c = 0; c < s.channels; ++c) {
    ASSERT_NEAR(found.dscale[c], truth.dscale[c], 1e-5 * s.batch * s.spatial);
    ASSERT_NEAR(found.dshift[c], truth.dshift[c], 1e-5 * s.batch * s.spatial);
  }
}

class GroupNormKernel : public testing::TestWithParam<GroupNormShape> {};

constexpr Variant kVariants[] = {
    {},
    {.in_place = true},
    {.adds = true},
    {.adds = true, .in_place = true},
    {.second = true},
    {.second = true, .in_place = true},
    {.adds = true, .second = true},
    {.adds = true, .second = true, .in_place = true}};

TEST_P(GroupNormKernel, FollowsTheDefinition) {
  for (const Variant& variant : kVariants) {
    SCOPED_TRACE(testing::Message()
                 << "adds " << variant.adds << ", second " << variant.second
                 << ", in place " << variant.in_place);
    // A few roundings of values up to ten; a bfloat16 has 8 bits, and what two
    // parts of a gradient make is rounded before scale and deviation, and half
    // a unit of values up to four times as large is left of that.
    ExpectDefinition<float>(GetParam(), variant, 1, 2e-5);
    ExpectDefinition<float>(GetParam(), variant, 3, 2e-5);
    ExpectDefinition<uint16_t>(GetParam(), variant, 2,
                               (variant.second ? 4.0 : 1.0) / 256);
  }
}

std::vector<float> Rounded(std::vector<float> values) {
  RoundToBfloat16(1, values.size(), values.data(), values.data());
  return values;
}

// A pass that rounds puts out what a pass of its own would make of the plain
// result; neither sums nor the gradient of what was added know of it.
TEST_P(GroupNormKernel, Rounding_IsOfTheResultAlone) {
  for (const Variant& variant : kVariants) {
    GroupNormShape shape = GetParam();
    Random random(7);
    const Images<float> in = DrawImages<float>(shape, variant, &random);
    const std::vector<float> scale = DrawnFloats(shape.channels, &random);
    const std::vector<float> shift = DrawnFloats(shape.channels, &random);
    const Results<float> plain = RunKernel(shape, variant, 2, in, scale, shift);
    shape.rounds_output = shape.rounds_gradient = true;
    const Results<float> found = RunKernel(shape, variant, 2, in, scale, shift);
    EXPECT_EQ(found.y, Rounded(plain.y));
    EXPECT_EQ(found.dx, Rounded(plain.dx));
    EXPECT_EQ(found.dwhole, plain.dwhole);
    EXPECT_EQ(found.dscale, plain.dscale);
    EXPECT_EQ(found.dshift, plain.dshift);
  }
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
