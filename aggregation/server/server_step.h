#ifndef KOINON_AGGREGATION_SERVER_SERVER_STEP_H_
#define KOINON_AGGREGATION_SERVER_SERVER_STEP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "aggregation/server/server_optimizer.h"
#include "base/model_layout.h"

namespace koinon::aggregation {

// Takes the next values of a vector, in ascending order without gaps.
using AppendValues = std::function<absl::Status(absl::Span<const float>)>;

// One step of the server: what it reads, and where the result goes. Sources of
// P elements each; they must live until the step is through.
struct ServerStep {
  ModelLayout layout;
  // Null: the aggregate itself is added.
  const ServerOptimizer* optimizer = nullptr;
  int64_t step = 1;  // ServerOptimizer::Step's
  // Null: `out` gets the step alone.
  const UpdateSource* base = nullptr;
  AppendValues out;  // base + step

  struct State {
    std::string name;
    const UpdateSource* before = nullptr;  // null: the initial state
    AppendValues after;
  };
  std::vector<State> state;  // one for each of optimizer->state_names()
};

// The end of the chain of sinks through which an aggregate goes: makes the
// server's step of it, block by block. Memory: the aggregator's window and some
// blocks more, whatever the model's size. The result does not depend on how the
// aggregate is cut into windows. Not thread-safe.
//
// Commit's errors: the sources' and appenders'; INTERNAL, naming the element,
// if the aggregate, the step, the state or the sum is not finite.
class ServerStepSink final : public UpdateSink {
 public:
  explicit ServerStepSink(ServerStep step);

  float* Window(size_t offset, size_t count) override;
  absl::Status Commit(size_t offset, size_t count) override;

 private:
  absl::Status CommitBlock(size_t offset, absl::Span<float> delta);
  absl::Status LoadState(size_t offset, size_t count);
  absl::Status CheckFinite(absl::Span<const float> values, size_t offset,
                           const std::string& what) const;

  const ServerStep step_;
  std::vector<float> window_;
  std::vector<float> base_scratch_;
  std::vector<std::vector<float>> state_;  // the block's
  std::vector<float*> state_data_;
};

// Gives the aggregate, as it is, to `also` on its way to `next`.
class TeeSink final : public UpdateSink {
 public:
  TeeSink(AppendValues also, UpdateSink* next);

  float* Window(size_t offset, size_t count) override;
  absl::Status Commit(size_t offset, size_t count) override;

 private:
  const AppendValues also_;
  UpdateSink* const next_;
  const float* window_ = nullptr;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_SERVER_SERVER_STEP_H_
