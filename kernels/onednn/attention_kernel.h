#ifndef KOINON_KERNELS_ONEDNN_ATTENTION_KERNEL_H_
#define KOINON_KERNELS_ONEDNN_ATTENTION_KERNEL_H_

#include <cstddef>

#include "absl/status/status.h"

namespace koinon::kernels::onednn {

// Causal softmax attention of several heads (Vaswani et al. 2017, section 3.2).
// The scores of a block of positions are computed, used, and computed again on
// the way back (Dao et al. 2022, in its plainest form): memory grows with the
// context, not with its square.
//
// x: [B, T, 3, H, D] (queries, keys, values), y: [B, T, H, D].
struct AttentionShape {
  size_t batch = 0;      // B
  size_t positions = 0;  // T
  size_t heads = 0;      // H
  size_t size = 0;       // D

  size_t width() const { return heads * size; }  // C
  // Positions whose scores are in memory at a time, by thread.
  size_t block() const { return positions < kBlock ? positions : kBlock; }
  // Floats of scratch for one thread.
  size_t scratch() const { return 2 * block() * positions; }

  static constexpr size_t kBlock = 64;
};

// log_sums: [B, H, T], kept for the way back: the logarithms of the sums that
// the softmax divides by. scratch: [threads, shape.scratch()]. INTERNAL if a
// product failed; the results are undefined then.
absl::Status ForwardAttention(const AttentionShape& shape, int threads,
                              const float* x, float* y, float* log_sums,
                              float* scratch);

// x_gradient: like x, overwritten. Errors as ForwardAttention.
absl::Status BackwardAttention(const AttentionShape& shape, int threads,
                               const float* x, const float* log_sums,
                               const float* y_gradient, float* x_gradient,
                               float* scratch);

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_ATTENTION_KERNEL_H_
