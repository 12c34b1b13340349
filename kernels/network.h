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

// Bounds on Network::Options, against typing errors.
inline constexpr size_t kMaxBatchSize = size_t{1} << 24;
inline constexpr int kMaxThreads = 4096;

// One batch of examples in memory that the caller keeps alive during a call.
struct Batch {
  size_t size = 0;                 // B, <= the network's batch size
  absl::Span<const float> inputs;  // [B, input_size]
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
//   ABSL_ASSIGN_OR_RETURN(std::unique_ptr<Network> network,
//                         NewOneDnnNetwork(graph, {.batch_size = 32}));
//   graph.InitializeParameters(seed, 0, network->parameters());
//   network->ForwardBackward(batch, step_seed);  // then step the optimizer
//
// The same seed, inputs and thread count give the same bytes. A batch smaller
// than the batch size (the last of an epoch) costs as much as a full one.
//
// Losses: softmax cross-entropy of the logits, in nats; mean squared error over
// batch and outputs (sum of squares / (B * output_size)).
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
  // batch), in layout order: [layout.total_elements()]. Parameters start at
  // zero and may be written between calls; gradients() is empty in a network
  // that is not for training.
  virtual absl::Span<float> parameters() = 0;
  virtual absl::Span<float> gradients() = 0;

  // Forward and loss without dropout. INVALID_ARGUMENT for a batch of the wrong
  // shape or a label out of range (says which example).
  virtual absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) = 0;
  // Forward (dropout masks drawn from `step_seed`), loss and backward into
  // gradients(). Parameters are not changed. FAILED_PRECONDITION in a network
  // that is not for training; otherwise as Evaluate.
  virtual absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                                       uint64_t step_seed) = 0;
  // Logits of the latest batch: [batch.size, output_size]; empty before it.
  virtual absl::Span<const float> outputs() const = 0;
};

// INVALID_ARGUMENT unless `options` can be met: a batch size and thread count
// of at least 1, a known loss. For implementations.
absl::Status CheckOptions(const Network::Options& options);

// INVALID_ARGUMENT, saying what was expected and which example, unless `batch`
// fits the model and the loss. For implementations.
absl::Status CheckBatch(const Network::Options& options, int64_t input_size,
                        int64_t output_size, const Batch& batch);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_NETWORK_H_
