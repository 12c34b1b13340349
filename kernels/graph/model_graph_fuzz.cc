#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/check.h"
#include "kernels/graph/model_graph.h"

using koinon::kernels::ModelGraph;

namespace {

void CheckLayer(const ModelGraph& graph, size_t i) {
  const ModelGraph::Layer& layer = graph.layers()[i];
  const int readable = static_cast<int>(i) + 1;
  KOINON_CHECK(layer.input >= 0 && layer.input < readable);
  KOINON_CHECK(layer.other >= -1 && layer.other < readable);
  KOINON_CHECK(!layer.name.empty() && !layer.output_shape.empty());
  KOINON_CHECK(layer.spec.residual().body().empty());
  const int tensors = static_cast<int>(graph.layout().tensors().size());
  for (int tensor : {layer.weight, layer.bias, layer.weight2, layer.bias2}) {
    KOINON_CHECK(tensor >= -1 && tensor < tensors);
  }
  int64_t size = 1;
  for (int64_t extent : layer.output_shape) {
    KOINON_CHECK(extent >= 1 && extent <= ModelGraph::kMaxParameters / size);
    size *= extent;
  }
}

}  // namespace

// Any bytes that are a ModelSpec are refused with a reason, or give a graph
// whose layers read what stands before them, within its bounds.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  koinon::v1::ModelSpec spec;
  if (!spec.ParseFromArray(data, static_cast<int>(size))) return 0;
  const absl::StatusOr<ModelGraph> graph = ModelGraph::Build(spec);
  if (!graph.ok()) {
    KOINON_CHECK(!graph.status().message().empty());
    return 0;
  }
  KOINON_CHECK(!graph->layers().empty());
  KOINON_CHECK(graph->layers().size() <= ModelGraph::kMaxLayers);
  for (size_t i = 0; i < graph->layers().size(); ++i) CheckLayer(*graph, i);
  KOINON_CHECK(graph->output_size() >= 1 && graph->output_positions() >= 1);
  const size_t total = graph->layout().total_elements();
  KOINON_CHECK(total >= 1);
  // Some values from either end.
  std::array<float, 16> values;
  const size_t count = std::min(total, values.size());
  const auto out = absl::MakeSpan(values).first(count);
  graph->InitializeParameters(1, 0, out);
  graph->InitializeParameters(1, total - count, out);
  return 0;
}
