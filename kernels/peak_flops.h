#ifndef KOINON_KERNELS_PEAK_FLOPS_H_
#define KOINON_KERNELS_PEAK_FLOPS_H_

#include "absl/time/time.h"

namespace koinon::kernels {

// What this machine's cores can do at most: `threads` threads run independent
// fused multiply-adds in registers, of the widest kind that the processor has,
// for about `length`. Operations per second; a fused multiply-add is two. For
// the bound next to a benchmark's figure, measured in the same run because
// machines drift.
//
// In single precision: AVX-512, AVX2. Of bfloat16 pairs with sums in single
// precision: AVX512_BF16, or, where that is faster or there is none, single
// precision. AMX is not measured: figures on it can be above this bound.
double MeasurePeakFlops(int threads, absl::Duration length,
                        bool bfloat16 = false);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_PEAK_FLOPS_H_
