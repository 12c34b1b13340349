#ifndef KOINON_TOOLS_BENCH_ATTACK_FEDERATION_H_
#define KOINON_TOOLS_BENCH_ATTACK_FEDERATION_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "aggregation/attacks/attacks.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "proto/job.pb.h"
#include "worker/data/dataset.h"

namespace koinon::tools {

// How a simulated federation learns.
struct FederationOptions {
  size_t workers = 20;
  int rounds = 60;
  // Units of the hidden layer; 0: logistic regression.
  int64_t hidden = 32;
  int64_t batch_size = 32;
  double learning_rate = 0.3;  // of SGD, one pass over the data a round
  // Of the Dirichlet split of classes over workers; 0: dealt IID.
  double alpha = 0;
  uint64_t seed = 1;
};

// What f of the workers do. Nothing at all: no attack, all are honest.
struct AttackPlan {
  // One that looks at what the honest ones send, ...
  std::optional<aggregation::AttackKind> kind;
  // ... or honest training on labels that are wrong: c - 1 - label of c
  // classes.
  bool label_flip = false;
  size_t f = 0;

  bool attacked() const { return (kind.has_value() || label_flip) && f > 0; }
};

// How one run ended.
struct FederationOutcome {
  double accuracy = 0;  // of the last model on the test set
  int rounds = 0;       // that were run
  // Why the run stopped before its last round (the model overflowed, the rule
  // refused); the accuracy is that of the last model before it.
  std::string stopped;
};

// A federation in one process: the workers' real kernels on shares of one
// dataset, real aggregation, base + update on the server. No network, no disk.
// Deterministic; thread-safe; the datasets must outlive it.
//
// The first f workers are the attackers: ties go to the lowest worker, so this
// is the worst case.
class AttackFederation {
 public:
  // INVALID_ARGUMENT for options that make no sense, or for data without
  // classes or that cannot be dealt out.
  static absl::StatusOr<std::unique_ptr<AttackFederation>> Create(
      const worker::Dataset& train, const worker::Dataset& test,
      const FederationOptions& options);

  // All rounds under one rule and one attack, on the calling thread.
  // FAILED_PRECONDITION, the rule's own, if it cannot be applied to so many
  // updates at all; INVALID_ARGUMENT for a bad rule or plan.
  absl::StatusOr<FederationOutcome> Run(const v1::AggregationSpec& rule,
                                        const AttackPlan& plan) const;

 private:
  // The honest update of each worker. [n][P]
  using Updates = std::vector<std::vector<float>>;
  class Trainer;
  class Course;

  AttackFederation(const worker::Dataset& test,
                   const FederationOptions& options, kernels::ModelGraph graph)
      : test_(test), options_(options), graph_(std::move(graph)) {}

  const worker::Dataset& test_;
  const FederationOptions options_;
  const kernels::ModelGraph graph_;
  std::vector<worker::Dataset> shares_;   // [n]
  std::vector<worker::Dataset> flipped_;  // the same, labels flipped
  std::vector<float> initial_;            // [P]
  // Of the first round, in which every course is still the same.
  Updates first_round_;
};

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_ATTACK_FEDERATION_H_
