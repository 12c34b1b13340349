#ifndef KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_
#define KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"

namespace koinon::kernels {

// A network on oneDNN, in single precision. Whatever ModelGraph accepts runs.
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

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_ONEDNN_ONEDNN_NETWORK_H_
