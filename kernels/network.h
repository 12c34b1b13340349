#ifndef KOINON_KERNELS_NETWORK_H_
#define KOINON_KERNELS_NETWORK_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
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
// T is the number of positions that a model of sequences has an output for
// (ModelGraph::output_positions); 1 for every other model.
struct Batch {
  size_t size = 0;  // B, <= the network's batch size
  // [B, input_size]; tokens are whole numbers in [0, vocabulary).
  absl::Span<const float> inputs;
  // One of the two, by the loss: class indices in [0, output_size), or values.
  absl::Span<const int32_t> labels;  // [B, T]
  absl::Span<const float> targets;   // [B, output_size]; T = 1 only
};

struct BatchMetrics {
  double loss = 0;      // mean over the batch and its positions
  int64_t correct = 0;  // arg max equals the label; 0 for regression
};

// Told, in the calling thread and in the midst of the way back, that gradients
// [begin, end) of the flat model have their final values. Every gradient is
// told once in a step.
using GradientsReady = absl::FunctionRef<void(size_t begin, size_t end)>;

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
    // Products in bfloat16, sums, parameters and gradients in float32.
    bool bfloat16 = false;
  };
  virtual ~Network() = default;

  // The flat parameters and, after Backward, their gradients (mean over the
  // batch), in layout order: [layout.total_elements()]. Parameters start at
  // zero and may be written between calls; a network that is not for training
  // packs its weights once, in the first Evaluate after parameters(): to write
  // them again, call it again. gradients() is empty in such a network.
  virtual absl::Span<float> parameters() = 0;
  virtual absl::Span<float> gradients() = 0;

  // Forward and loss without dropout. INVALID_ARGUMENT for a batch of the wrong
  // shape or a label out of range (says which example).
  virtual absl::StatusOr<BatchMetrics> Evaluate(const Batch& batch) = 0;
  // Forward (dropout masks drawn from `step_seed`), loss and backward into
  // gradients(). Of the parameters, only running moments are changed
  // (ModelGraph::is_buffer); their gradients are 0. FAILED_PRECONDITION in a
  // network that is not for training; otherwise as Evaluate.
  virtual absl::StatusOr<BatchMetrics> ForwardBackward(
      const Batch& batch, uint64_t step_seed, GradientsReady ready) = 0;
  absl::StatusOr<BatchMetrics> ForwardBackward(const Batch& batch,
                                               uint64_t step_seed) {
    return ForwardBackward(batch, step_seed, [](size_t, size_t) {});
  }
  // Logits of the latest batch: [batch.size, T, output_size]; empty before it.
  virtual absl::Span<const float> outputs() const = 0;
};

// INVALID_ARGUMENT unless `options` can be met: a batch size and thread count
// of at least 1, a known loss, and no squared error of a model of sequences.
// For implementations.
absl::Status CheckOptions(const ModelGraph& graph,
                          const Network::Options& options);

// INVALID_ARGUMENT, saying what was expected and which example, unless `batch`
// fits the model and the loss. For implementations.
absl::Status CheckBatch(const ModelGraph& graph,
                        const Network::Options& options, const Batch& batch);

// `batch` as ComputeLoss takes it: each position a row of its own.
Batch RowsOf(const ModelGraph& graph, const Batch& batch);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_NETWORK_H_
