#ifndef KOINON_KERNELS_GRAPH_MODEL_GRAPH_H_
#define KOINON_KERNELS_GRAPH_MODEL_GRAPH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/model_layout.h"
#include "proto/model.pb.h"

namespace koinon::kernels {

// A checked model: presets expanded to layers, every shape inferred, every
// parameter named. What the coordinator needs of a model (its layout and its
// initial values) and what a network is built from; no oneDNN in sight.
// A value, immutable; thread-safe.
//
// What the layers compute is what PyTorch's layers of the same name compute:
// average pooling counts the padding's zeros, pooling rounds extents down,
// group norm treats [n] as n channels. Layer norm is over the whole example, or
// over each position of a sequence. Parameters are named and shaped as PyTorch
// would ("conv1.weight" [out, in / groups, kernel, kernel], "fc1.weight"
// [out, in], "norm1.bias").
//
// Layers stand in an order in which they can run. Value 0 is the model's input,
// value i + 1 what layer i puts out; each layer says which value it reads. A
// residual is written out as the layers of its body, those of its shortcut, and
// a layer of kind `residual`, now empty, that adds the two.
class ModelGraph {
 public:
  struct Layer {
    v1::Layer spec;                    // defaults filled in
    std::string name;                  // "conv1", "fc2": unique
    std::vector<int64_t> input_shape;  // without the batch
    std::vector<int64_t> output_shape;
    int input = 0;   // the value that it reads
    int other = -1;  // the second value of a residual's addition
    // Indices of its tensors in layout(): weight and bias (dense, conv2d),
    // scale and shift (norms), token and position embeddings; -1 where it has
    // none. An unembedding has the embedding's weight.
    int weight = -1;
    int bias = -1;
    // Of a batch norm: running mean and variance. Of squeeze-and-excite: the
    // second dense layer's weight and bias.
    int weight2 = -1;
    int bias2 = -1;
  };

  // INVALID_ARGUMENT that names the layer and the field, and says what is
  // allowed: unset kinds, extents that are not positive or overflow, a kernel
  // larger than its padded input, groups that do not divide channels, a rate
  // outside [0, 1), a dense layer on an image that no flatten precedes, an
  // output that is not flat, no parameters at all, over kMaxLayers layers or
  // kMaxParameters parameters.
  static absl::StatusOr<ModelGraph> Build(const v1::ModelSpec& spec);

  static constexpr size_t kMaxLayers = 1000;
  // Of the whole model; also the most values that one example may have
  // between two layers.
  static constexpr int64_t kMaxParameters = int64_t{1} << 40;

  const std::vector<Layer>& layers() const { return layers_; }
  const ModelLayout& layout() const { return layout_; }  // all F32
  const std::vector<int64_t>& input_shape() const { return input_shape_; }
  int64_t input_size() const;   // product of input_shape
  int64_t output_size() const;  // logits, or regression outputs, of a position
  // Positions that have an output: T of a model whose output is [T, classes],
  // else 1.
  int64_t output_positions() const;
  // Tokens that the model's embedding knows; 0 for a model without one.
  int64_t vocabulary() const;
  // Whether tensor `index` is set by the steps of training themselves (running
  // moments): optimizers leave it as it is, and its gradient is 0.
  bool is_buffer(size_t index) const;

  // Writes initial parameters [offset, offset + out.size()) of the flat model:
  // weights uniform in +-sqrt(6 / fan_in) before ReLU or GELU (He et al. 2015),
  // and
  // +-sqrt(6 / (fan_in + fan_out)) otherwise (Glorot and Bengio 2010); biases
  // and shifts 0; scales 1. Any split into blocks gives the same values.
  // Requires offset + out.size() <= layout().total_elements().
  void InitializeParameters(uint64_t seed, size_t offset,
                            absl::Span<float> out) const;

 private:
  // How one tensor starts: uniform in [-bound, bound), or `constant` where
  // the bound is 0.
  struct Initial {
    double bound = 0;
    float constant = 0;
  };

  ModelGraph() = default;
  std::vector<Initial> InitialValues() const;

  std::vector<int64_t> input_shape_;
  std::vector<Layer> layers_;
  ModelLayout layout_;
  std::vector<Initial> initial_;  // one for each tensor
};

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_MODEL_GRAPH_H_
