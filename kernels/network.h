#ifndef KOINON_KERNELS_NETWORK_H_
#define KOINON_KERNELS_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/graph/model_graph.h"
#include "proto/job.pb.h"

namespace koinon::kernels {

// One batch of examples in memory that the caller keeps alive during a call.
struct Batch {
  size_t size = 0;  // B, <= the network's batch size
  absl::Span<const float> inputs;    // [B, input_size]
  // One of the two, by the loss: class indices in [0, output_size), or values.
  absl::Span<const int32_t> labels;  // [B]
  absl::Span<const float> targets;   // [B, output_size]
};

struct BatchMetrics {
  double loss = 0;      // mean over the batch
  int64_t correct = 0;  // arg max equals the label; 0 for regression
};

// A model ready to train on this machine: parameters, gradients and the
// primitives of every layer for one batch size, made once and reused; a step
// allocates nothing. Not thread-safe; uses `threads` threads itself.
//
// The same seed, inputs and thread count give the same bytes.
class Network {
 public:
  struct Options {
    size_t batch_size = 32;
    int threads = 1;
    v1::TrainingSpec::Loss loss = v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
    bool training = true;  // false: forward only, less memory
  };
  virtual ~Network() = default;

  // The flat parameters and, after Backward, their gradients (mean over the
  // batch), in layout order: [layout.total_elements()].
  virtual absl::Span<float> parameters() = 0;
  virtual absl::Span<float> gradients() = 0;

  // Forward and loss without dropout. INVALID_ARGUMENT for a batch of the wrong
  // shape or a label out of range (says which example).
  virtual absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) = 0;
  // Forward (dropout masks drawn from `step_seed`), loss and backward into
  // gradients(). Parameters are not changed.
  virtual absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                                       uint64_t step_seed) = 0;
  // Logits of the latest batch: [batch.size, output_size].
  virtual absl::Span<const float> outputs() const = 0;
};

// On oneDNN (kernels/onednn). UNIMPLEMENTED never: what ModelGraph accepts runs.
absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetwork(
    const ModelGraph& graph, const Network::Options& options);

// The plain reference (kernels/reference): slow, accumulates in double.
absl::StatusOr<std::unique_ptr<Network>> NewReferenceNetwork(
    const ModelGraph& graph, const Network::Options& options);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_NETWORK_H_
