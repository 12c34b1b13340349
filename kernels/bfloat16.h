#ifndef KOINON_KERNELS_BFLOAT16_H_
#define KOINON_KERNELS_BFLOAT16_H_

#include "absl/status/status.h"

namespace koinon::kernels {

// Whether this processor multiplies bfloat16 (AVX512_BF16 or AMX_BF16) and the
// operating system lets it: whether a network can be made with
// Network::Options.bfloat16.
bool HasBfloat16();

// FAILED_PRECONDITION, naming what the processor lacks, unless HasBfloat16().
absl::Status CheckBfloat16();

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_BFLOAT16_H_
