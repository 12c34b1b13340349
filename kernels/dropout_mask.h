#ifndef KOINON_KERNELS_DROPOUT_MASK_H_
#define KOINON_KERNELS_DROPOUT_MASK_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/random.h"

namespace koinon::kernels {

// The seed of the masks of layer `layer` (its place in the graph) in one step.
inline uint64_t DropoutSeed(uint64_t step_seed, size_t layer) {
  return DeriveSeed(step_seed, layer);
}

// Draws keep[i] = 1 with probability 1 - rate, else 0, for values
// [first, first + keep.size()) of a layer's [B, size] input. Counter-based: any
// split over threads gives the same mask, and every implementation has the
// same one. A kept value is scaled by 1 / (1 - rate) (inverted dropout).
inline void DrawDropoutMask(uint64_t seed, double rate, size_t first,
                            absl::Span<uint8_t> keep) {
  for (size_t i = 0; i < keep.size(); ++i) {
    keep[i] = UniformAt(seed, first + i) >= rate;
  }
}

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_DROPOUT_MASK_H_
