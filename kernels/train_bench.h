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
#include "kernels/optimizer.h"

namespace koinon::kernels {

// The models whose training speed is quoted, on 28 x 28 images:
//   "cnn": two 3x3 convolutions to 32 and 64 channels, each with ReLU and 2x2
//          max pooling, dense 128 with ReLU, dense 10;
//   "mlp": dense 512 and 256 with ReLU, dense 10.
// NOT_FOUND for another name, listing these.
absl::StatusOr<ModelGraph> TrainBenchModel(const std::string& name);

// One training step on fixed random examples: forward, backward, SGD with
// momentum. Made once, then stepped and timed by the benchmarks.
class TrainingStep {
 public:
  static absl::StatusOr<TrainingStep> Create(const std::string& model,
                                             size_t batch_size, int threads);
  absl::Status Run();
  // Floating-point operations of the products in one step (dense and
  // convolutional layers; forward, by weights, by inputs). All that is not a
  // product is left out, as is usual.
  double operations() const { return operations_; }

 private:
  TrainingStep() = default;

  std::unique_ptr<Network> network_;
  std::unique_ptr<LocalOptimizer> optimizer_;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  Batch batch_;
  uint64_t steps_ = 0;
  double operations_ = 0;
};

struct TrainBenchOptions {
  std::vector<std::string> models = {"cnn", "mlp"};
  std::vector<int> threads = {1, 2};
  size_t batch_size = 32;
  // Every configuration is run once in each repetition, in turn; figures are
  // medians over the repetitions.
  int repetitions = 7;
  absl::Duration block = absl::Milliseconds(300);  // of one run
};

struct TrainFigure {
  std::string model;
  int threads = 0;
  size_t batch_size = 0;
  double samples_per_second = 0;
  double step_ms = 0;
  double gflops = 0;            // 1e9 operations per second
  double peak_gflops = 0;       // MeasurePeakFlops in the same repetitions
  double fraction_of_peak = 0;  // median of the ratios
};

// Measures every model at every thread count, fp32. Takes about models *
// threads * repetitions * 1.3 * block. INVALID_ARGUMENT for options out of
// range, NOT_FOUND for an unknown model.
absl::StatusOr<std::vector<TrainFigure>> MeasureTraining(
    const TrainBenchOptions& options);

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_TRAIN_BENCH_H_
