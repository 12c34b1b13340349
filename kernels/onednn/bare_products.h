#ifndef KOINON_KERNELS_ONEDNN_BARE_PRODUCTS_H_
#define KOINON_KERNELS_ONEDNN_BARE_PRODUCTS_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"

namespace koinon::kernels {

// The floor under a network's time, for benchmarks: the products of its dense
// and convolutional layers and nothing else, bare oneDNN primitives on memory
// that lies ready in the format and type that they like best. Numbers mean
// nothing. Not thread-safe; uses `threads` threads itself.
class BareProducts {
 public:
  virtual ~BareProducts() = default;

  // Forward, and, in a network for training, by weights and by inputs.
  virtual absl::Status Run() = 0;
  // As large as the model's, for an optimizer to step on; gradients are empty
  // in a network that is not for training.
  virtual absl::Span<float> parameters() = 0;
  virtual absl::Span<float> gradients() = 0;
};

// Errors as NewOneDnnNetwork's.
absl::StatusOr<std::unique_ptr<BareProducts>> NewBareProducts(
    const ModelGraph& graph, const Network::Options& options);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_ONEDNN_BARE_PRODUCTS_H_
