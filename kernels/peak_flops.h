#ifndef KOINON_KERNELS_PEAK_FLOPS_H_
#define KOINON_KERNELS_PEAK_FLOPS_H_

#include "absl/time/time.h"

namespace koinon::kernels {

// What this machine's cores can do at most in single precision: `threads`
// threads run independent fused multiply-adds in registers, of the widest kind
// that the processor has (AVX-512, AVX2), for about `length`. Operations per
// second; a fused multiply-add is two. For the bound next to a benchmark's
// figure, measured in the same run because machines drift.
double MeasurePeakFlops(int threads, absl::Duration length);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_PEAK_FLOPS_H_
