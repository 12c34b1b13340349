#ifndef KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_
#define KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"

namespace koinon::kernels {

// Who multiplies in a network of bfloat16 products.
enum class Bfloat16Products {
  kFastest,    // of the two, on this processor
  kProcessor,  // its own instructions, on bfloat16 memory
  // Single precision on rounded values: the same products, for a product of two
  // bfloat16 values is exact in it. Intel's AVX512_BF16 makes half as many
  // multiply-adds a second as its single precision does; AMX many times as
  // many.
  kSinglePrecision,
};

// A network on oneDNN. Whatever ModelGraph accepts runs.
// Its threads are OpenMP's, of the thread that calls; at most
// `options.threads` work at a time, and their number is part of what decides
// the last bits of results. They wait for each other by spinning: more than one
// pays only on cores that nothing else wants.
//
// INVALID_ARGUMENT for options out of range; RESOURCE_EXHAUSTED if the memory
// for this batch size cannot be had; INTERNAL if oneDNN refuses, naming the
// layer.
absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetwork(
    const ModelGraph& graph, const Network::Options& options);
// With a say in how bfloat16 products are made.
absl::StatusOr<std::unique_ptr<Network>> NewOneDnnNetworkWith(
    const ModelGraph& graph, const Network::Options& options,
    Bfloat16Products products);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_
