#ifndef KOINON_KERNELS_ONEDNN_ROUNDING_H_
#define KOINON_KERNELS_ONEDNN_ROUNDING_H_

#include <cstddef>

namespace koinon::kernels::onednn {

// to[i] = the bfloat16 next to from[i], as a float; ties to even. What is no
// number stays none, and infinities stay.
void RoundToBfloat16(int threads, size_t count, const float* from, float* to);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_ROUNDING_H_
