#ifndef KOINON_KERNELS_TRAIN_BENCH_H_
#define KOINON_KERNELS_TRAIN_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/onednn/bare_products.h"
#include "kernels/optimizer.h"

namespace koinon::kernels {

// The models whose training speed is quoted:
//   "cnn": [1, 28, 28]; two 3x3 convolutions to 32 and 64 channels, each with
//          ReLU and 2x2 max pooling, dense 128 with ReLU, dense 10;
//   "mlp": [784]; dense 512 and 256 with ReLU, dense 10;
//   "resnet20": [3, 32, 32], group norm, 10 classes;
//   "mobilenet_v3_small": [3, 224, 224], 1,000 classes, batch norm; forward
//          only;
//   "gpt2-124m": 64 tokens of GPT-2's smallest, with AdamW.
struct TrainBenchModel {
  std::string name;
  ModelGraph graph;
  size_t batch_size = 0;  // that it is quoted with
  bool training = true;   // false: forward only
  v1::Optimizer optimizer;
};
// NOT_FOUND for another name, listing these.
absl::StatusOr<TrainBenchModel> FindTrainBenchModel(const std::string& name);

// One step on fixed random examples: forward and, unless it is all that is
// wanted, backward and the optimizer. Made once, then stepped and timed by the
// benchmarks.
class TrainingStep {
 public:
  struct Options {
    size_t batch_size = 0;  // 0: the model's own
    int threads = 1;
    bool bfloat16 = false;
    bool floor = false;  // make what RunFloor runs
  };
  static absl::StatusOr<TrainingStep> Create(const std::string& model,
                                             const Options& options);
  absl::Status Run();
  // What no step can do without: its products as bare oneDNN primitives, and
  // the optimizer on as many parameters. FAILED_PRECONDITION without
  // Options.floor.
  absl::Status RunFloor();
  size_t batch_size() const { return batch_.size; }
  // Floating-point operations of the products in one step (dense and
  // convolutional layers, attention; forward, by weights, by inputs). All that
  // is not a product is left out, as is usual.
  double operations() const { return operations_; }

 private:
  TrainingStep() = default;
  void DrawExamples(const ModelGraph& graph, size_t batch_size);

  std::unique_ptr<Network> network_;
  std::unique_ptr<LocalOptimizer> optimizer_;  // null: forward only
  std::unique_ptr<BareProducts> floor_;
  std::unique_ptr<LocalOptimizer> floor_optimizer_;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  Batch batch_;
  uint64_t steps_ = 0;
  double operations_ = 0;
};

struct TrainBenchOptions {
  std::vector<std::string> models = {"cnn", "mlp"};
  std::vector<int> threads = {1, 2};
  // "fp32", "bf16".
  std::vector<std::string> precisions = {"fp32"};
  size_t batch_size = 0;  // 0: each model's own
  bool floor = false;     // measure that too
  // Every configuration is run once in each repetition, in turn; figures are
  // medians over the repetitions.
  int repetitions = 7;
  absl::Duration block = absl::Milliseconds(300);  // of one run
};

struct TrainFigure {
  std::string model;
  std::string precision;
  int threads = 0;
  size_t batch_size = 0;
  double samples_per_second = 0;
  double step_ms = 0;
  double gflops = 0;            // 1e9 operations per second
  double peak_gflops = 0;       // MeasurePeakFlops in the same repetitions
  double fraction_of_peak = 0;  // median of the ratios
  // Where the floor is measured, in the same repetitions; else 0.
  double floor_ms = 0;
  double times_floor = 0;  // median of the ratios of the step to it
};

// Measures every model at every precision and thread count. Takes about models
// * precisions * threads * repetitions * 1.3 * block, twice that with the
// floor. INVALID_ARGUMENT for options out of range, NOT_FOUND for an unknown
// model, FAILED_PRECONDITION for bf16 on a processor that has none.
absl::StatusOr<std::vector<TrainFigure>> MeasureTraining(
    const TrainBenchOptions& options);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_TRAIN_BENCH_H_
