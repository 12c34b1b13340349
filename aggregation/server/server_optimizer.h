#ifndef KOINON_AGGREGATION_SERVER_SERVER_OPTIMIZER_H_
#define KOINON_AGGREGATION_SERVER_SERVER_OPTIMIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// What the server makes of a round's aggregate (Reddi et al. 2021, algorithm 2;
// Hsu et al. 2019; Douillard et al. 2023): a step of the model, and state that
// is kept until the next round. Stateless itself and thread-safe: the state is
// the caller's, one vector of the model's size for each name.
class ServerOptimizer {
 public:
  virtual ~ServerOptimizer() = default;

  // "fedadam"
  virtual std::string name() const = 0;
  // "momentum", "second_moment"; each a vector of the model's size.
  virtual std::vector<std::string> state_names() const = 0;
  // What every element of state i is before the first step.
  virtual float InitialState(size_t i) const = 0;

  // Some elements of one step. step: from 1, counts the steps that this state
  // has seen, this one included. delta: [count], in: the aggregate; out: what
  // to add to the model. state: [state_names().size()][count], replaced. Plain
  // IEEE arithmetic, element by element: any split into calls gives the same
  // bytes.
  virtual void Step(int64_t step, absl::Span<float> delta,
                    absl::Span<float* const> state) const = 0;
};

// Null if no kind is set: the aggregate is added as it is. INVALID_ARGUMENT for
// options out of range or that the variant does not have, naming the field.
absl::StatusOr<std::unique_ptr<ServerOptimizer>> MakeServerOptimizer(
    const v1::ServerOptimizer& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_SERVER_SERVER_OPTIMIZER_H_
