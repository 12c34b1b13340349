#ifndef KOINON_KERNELS_GRAPH_LAYER_SHAPE_H_
#define KOINON_KERNELS_GRAPH_LAYER_SHAPE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/model.pb.h"

namespace koinon::kernels {

// What one layer makes of its input.
struct LayerShape {
  std::vector<int64_t> output;
  // Of its parameters, in the order of ModelGraph::Layer's; empty where it has
  // none.
  std::vector<int64_t> weight;
  std::vector<int64_t> bias;
  std::vector<int64_t> weight2;
  std::vector<int64_t> bias2;
};

// Tokens come as single precision, which holds whole numbers up to here.
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

// Checks one layer against the shape of one example at its input and infers the
// rest; fills the defaults of `layer` in. INVALID_ARGUMENT names the field, not
// the layer: the caller knows its place and name. Requires a layer that stands
// for itself: a residual and an unembedding depend on other layers, and are
// ModelGraph's.
absl::StatusOr<LayerShape> InferLayerShape(const std::vector<int64_t>& input,
                                           v1::Layer* layer);

// The product of `extents`. INVALID_ARGUMENT unless every factor is at least 1
// and the product at most `limit`.
absl::StatusOr<int64_t> CheckedProduct(const std::vector<int64_t>& extents,
                                       int64_t limit);

// "dense", "conv2d", ...: the field's name in the job file.
const char* LayerKindName(const v1::Layer& layer);

// "[1, 28, 28]"
std::string ShapeText(const std::vector<int64_t>& shape);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_LAYER_SHAPE_H_
