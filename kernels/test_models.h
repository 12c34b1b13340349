#ifndef KOINON_KERNELS_TEST_MODELS_H_
#define KOINON_KERNELS_TEST_MODELS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"

namespace koinon::kernels {

// For tests: small models that have every layer, every option of a layer, and
// every kind of neighbour that the fast kernels treat in a way of its own.
struct NamedModel {
  std::string name;  // fit for a test's name
  ModelGraph graph;
  v1::TrainingSpec::Loss loss = v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY;
  // For GoogleTest.
  friend void PrintTo(const NamedModel& model, std::ostream* out) {
    *out << model.name;
  }
};
std::vector<NamedModel> TestModels();

// A model from protobuf text; ends the process if it is none.
ModelGraph ParseGraph(const std::string& text);

// Random examples: inputs standard normal (tokens: uniform), labels uniform,
// targets standard normal.
class Examples {
 public:
  Examples(const ModelGraph& graph, size_t count, uint64_t seed);
  // The first `count` of them; labels and targets as the loss wants.
  Batch First(size_t count, v1::TrainingSpec::Loss loss) const;

 private:
  size_t input_size_;
  size_t output_size_;
  size_t positions_;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  std::vector<float> targets_;
};

// Initial parameters plus noise in [-0.1, 0.1), so that biases are not all 0
// and scales not all 1.
void DrawParameters(const ModelGraph& graph, uint64_t seed,
                    absl::Span<float> parameters);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_TEST_MODELS_H_
