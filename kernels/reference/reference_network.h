#ifndef KOINON_KERNELS_REFERENCE_REFERENCE_NETWORK_H_
#define KOINON_KERNELS_REFERENCE_REFERENCE_NETWORK_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"

namespace koinon::kernels {

// The plain reference: slow, one thread whatever `threads` says, all in double
// between the float parameters and the float gradients. What other networks
// are checked against, and itself checked by finite differences.
absl::StatusOr<std::unique_ptr<Network>> NewReferenceNetwork(
    const ModelGraph& graph, const Network::Options& options);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_REFERENCE_REFERENCE_NETWORK_H_
