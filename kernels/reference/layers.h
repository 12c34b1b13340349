#ifndef KOINON_KERNELS_REFERENCE_LAYERS_H_
#define KOINON_KERNELS_REFERENCE_LAYERS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/graph/model_graph.h"

namespace koinon::kernels::reference {

// Every layer in the plainest form that is correct, all in double: what the
// fast kernels are checked against. Row-major throughout.
//
// B = batch, I / O = product of the layer's input / output shape.
struct LayerTensors {
  size_t batch = 0;
  const double* weight = nullptr;  // null where the layer has none
  const double* bias = nullptr;
  double* input = nullptr;   // [B, I]
  double* output = nullptr;  // [B, O]
  // For the way back. Gradients of parameters are added to, the input's is
  // overwritten.
  const double* output_gradient = nullptr;  // [B, O]
  double* input_gradient = nullptr;         // [B, I]
  double* weight_gradient = nullptr;
  double* bias_gradient = nullptr;
};

// How dropout behaves in this step.
struct DropoutState {
  bool active = false;
  uint64_t seed = 0;  // DropoutSeed of the layer
};

// input -> output.
void ForwardLayer(const ModelGraph::Layer& layer, const DropoutState& dropout,
                  const LayerTensors& tensors);
// output_gradient -> input_gradient and the parameters' gradients; input and
// output are those of the forward pass.
void BackwardLayer(const ModelGraph::Layer& layer, const DropoutState& dropout,
                   const LayerTensors& tensors);

// The product of a shape's extents.
size_t ElementCount(const std::vector<int64_t>& shape);

// One pair for each kind with a body of some size.
void ForwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t);

}  // namespace koinon::kernels::reference

#endif  // KOINON_KERNELS_REFERENCE_LAYERS_H_
