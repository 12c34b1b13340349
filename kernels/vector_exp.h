#ifndef KOINON_KERNELS_VECTOR_EXP_H_
#define KOINON_KERNELS_VECTOR_EXP_H_

#include <cstdint>

#include "absl/base/casts.h"

namespace koinon::kernels {

// e^x for x <= 0, to about one unit in the last place; what is below the
// smallest normal number is that number. Branchless, so that compilers
// vectorise it. Cody and Waite 1980, chapter 6: x = n ln 2 + r, e^r by a
// polynomial (that of Cephes, Moshier 1989).
inline float ExpNotPositive(float x) {
  constexpr float kSmallest = -87.33f;
  // Rounds to a whole number, left in the lowest bits.
  constexpr float kRounder = 12582912.0f;  // 1.5 * 2^23
  x = x < kSmallest ? kSmallest : x;
  const float rounded = x * 1.44269504f + kRounder;
  const float n = rounded - kRounder;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  const uint32_t exponent = (absl::bit_cast<uint32_t>(rounded) + 127) << 23;
  return p * absl::bit_cast<float>(exponent);
}

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_VECTOR_EXP_H_
