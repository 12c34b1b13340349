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
  // A training step's batch norm writes its running moments here.
  double* weight2 = nullptr;
  double* bias2 = nullptr;
  double* input = nullptr;        // [B, I]
  const double* other = nullptr;  // [B, I]: what a residual adds
  double* output = nullptr;       // [B, O]
  // For the way back. Gradients of parameters are added to, the input's is
  // overwritten. That of `other` is the output's.
  const double* output_gradient = nullptr;  // [B, O]
  double* input_gradient = nullptr;         // [B, I]
  double* weight_gradient = nullptr;
  double* bias_gradient = nullptr;
  double* weight2_gradient = nullptr;
  double* bias2_gradient = nullptr;
};

// What differs between a step of training and an evaluation.
struct StepState {
  bool training = false;      // drops, and takes moments of the batch
  uint64_t dropout_seed = 0;  // DropoutSeed of the layer
};

// input -> output.
void ForwardLayer(const ModelGraph::Layer& layer, const StepState& step,
                  const LayerTensors& tensors);
// output_gradient -> input_gradient and the parameters' gradients; input and
// output are those of the forward pass of a training step.
void BackwardLayer(const ModelGraph::Layer& layer, const StepState& step,
                   const LayerTensors& tensors);

// The product of a shape's extents.
size_t ElementCount(const std::vector<int64_t>& shape);

// One pair for each kind with a body of some size.
void ForwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardConv2d(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardGlobalPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardGlobalPool(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardNorm(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardBatchNorm(const ModelGraph::Layer& layer, bool training,
                      const LayerTensors& t);
void BackwardBatchNorm(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardEmbedding(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardEmbedding(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardAttention(const ModelGraph::Layer& layer, const LayerTensors& t);
void BackwardAttention(const ModelGraph::Layer& layer, const LayerTensors& t);
void ForwardSqueezeExcite(const ModelGraph::Layer& layer,
                          const LayerTensors& t);
void BackwardSqueezeExcite(const ModelGraph::Layer& layer,
                           const LayerTensors& t);

// Functions of one value, and their slopes: of v1::Layer::Activation `kind`.
double Activate(int kind, double x);
double ActivationSlope(int kind, double x);

}  // namespace koinon::kernels::reference

#endif  // KOINON_KERNELS_REFERENCE_LAYERS_H_
