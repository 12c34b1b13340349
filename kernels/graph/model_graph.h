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
    // Of a batch norm: running mean and variance. Of squeeze-and-excite, whose
    // weights are those of its first dense layer: the second one's.
    int weight2 = -1;
    int bias2 = -1;
  };

  // INVALID_ARGUMENT that names the layer and the field, and says what is
  // allowed: unset kinds, extents that are not positive or overflow, a kernel
  // larger than its padded input, groups that do not divide channels, a rate
  // outside [0, 1), a dense layer on an image that no flatten precedes, a
  // residual whose two sides differ in shape, an embedding of anything but the
  // model's input, a second embedding or unembedding, an output that is neither
  // flat nor a sequence, no parameters at all, over kMaxLayers layers,
  // kMaxResidualDepth residuals within each other or kMaxParameters parameters.
  static absl::StatusOr<ModelGraph> Build(const v1::ModelSpec& spec);

  static constexpr size_t kMaxLayers = 1000;  // residuals written out
  static constexpr int kMaxResidualDepth = 8;
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
  // weights uniform in +-sqrt(6 / fan_in) before ReLU, GELU or hard-swish (He
  // et al. 2015), and +-sqrt(6 / (fan_in + fan_out)) otherwise (Glorot and
  // Bengio 2010); biases, shifts and running means 0; scales and running
  // variances 1. In a model with an embedding, embeddings and dense weights are
  // normal with deviation 0.02, and a body's last dense layer with
  // 0.02 / sqrt(residuals), so that the sum of all bodies is as large as one
  // (Radford et al. 2019, section 2.3): the first loss is then that of knowing
  // nothing, ln(vocabulary). Any split into blocks gives the same values.
  // Requires offset + out.size() <= layout().total_elements().
  void InitializeParameters(uint64_t seed, size_t offset,
                            absl::Span<float> out) const;

 private:
  // How one tensor starts: uniform in [-bound, bound), normal with mean 0 and
  // `deviation`, or `constant` where both are 0.
  struct Initial {
    double bound = 0;
    double deviation = 0;
    float constant = 0;
  };

  ModelGraph() = default;
  std::vector<Initial> InitialValues() const;
  void SetInitialOfSequenceModel(std::vector<Initial>* initial) const;

  std::vector<int64_t> input_shape_;
  std::vector<Layer> layers_;
  ModelLayout layout_;
  std::vector<Initial> initial_;  // one for each tensor
  std::vector<bool> is_buffer_;   // the same
};

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_MODEL_GRAPH_H_
