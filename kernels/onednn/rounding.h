#ifndef KOINON_KERNELS_ONEDNN_ROUNDING_H_
#define KOINON_KERNELS_ONEDNN_ROUNDING_H_

#include <cstddef>
#include <cstdint>

#include "absl/base/casts.h"

namespace koinon::kernels::onednn {

// The bfloat16 next to `value`, as a float; ties to even. What is no number
// stays none, and infinities stay.
inline float NextBfloat16(float value) {
  const uint32_t bits = absl::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  // Rounding would carry some of what is no number into the exponent.
  const uint32_t kept = value == value ? rounded : bits | 0x400000;
  return absl::bit_cast<float>(kept & 0xffff0000);
}

// to[i] = NextBfloat16(from[i]).
void RoundToBfloat16(int threads, size_t count, const float* from, float* to);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_ROUNDING_H_
