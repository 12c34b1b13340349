#ifndef KOINON_TOOLS_BENCH_RANK_STEP_H_
#define KOINON_TOOLS_BENCH_RANK_STEP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "kernels/optimizer.h"
#include "worker/train/gradient_exchange.h"

namespace koinon::bench {

// One rank's training steps, with one thread, on fixed random examples: alone,
// or with the gradients of all ranks summed, as the worker makes them.
class RankStep {
 public:
  struct Options {
    size_t batch_size = 0;  // of this rank, at least 1
    bool bfloat16 = false;
  };
  // Of FindTrainBenchModel: NOT_FOUND for an unknown model, INVALID_ARGUMENT
  // for one that is measured forward only.
  static absl::StatusOr<std::unique_ptr<RankStep>> Create(
      const std::string& model, const Options& options);

  absl::Status Alone();
  // weight: this rank's part of the examples of the site's batch.
  absl::Status Together(worker::GradientExchange* exchange, double weight);

  int64_t gradient_bytes() const;

 private:
  RankStep() = default;
  void Draw(const kernels::ModelGraph& graph, size_t batch);

  std::unique_ptr<kernels::Network> network_;
  std::unique_ptr<kernels::LocalOptimizer> optimizer_;
  std::vector<float> inputs_;
  std::vector<int32_t> labels_;
  kernels::Batch batch_;
};

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_RANK_STEP_H_
