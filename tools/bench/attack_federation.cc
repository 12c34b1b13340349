#include "tools/bench/attack_federation.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/optimizer.h"
#include "worker/data/partition.h"
#include "worker/train/batches.h"

namespace koinon::tools {
namespace {

constexpr size_t kTestBatch = 500;

absl::Status CheckOptions(const worker::Dataset& train,
                          const worker::Dataset& test,
                          const FederationOptions& options) {
  if (options.rounds < 1 || options.batch_size < 1 || options.hidden < 0 ||
      !(options.learning_rate > 0) || !(options.alpha >= 0) ||
      !std::isfinite(options.learning_rate) || !std::isfinite(options.alpha)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d rounds, batches of %d, %d hidden units, learning rate %g, alpha "
        "%g; expected at least 1, 1 and 0, a rate over 0 and an alpha of at "
        "least 0 (0: IID)",
        options.rounds, options.batch_size, options.hidden,
        options.learning_rate, options.alpha));
  }
  for (const worker::Dataset* data : {&train, &test}) {
    if (data->empty() || data->target_size > 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("dataset \"", data->name, "\" has ", data->size(),
                       " examples and ", data->target_size,
                       " targets, expected at least 1 example with a class"));
    }
  }
  return absl::OkStatus();
}

int32_t Classes(const worker::Dataset& train, const worker::Dataset& test) {
  return 1 +
         std::max(*std::max_element(train.labels.begin(), train.labels.end()),
                  *std::max_element(test.labels.begin(), test.labels.end()));
}

v1::ModelSpec ModelOf(int64_t inputs, int32_t classes, int64_t hidden) {
  v1::ModelSpec spec;
  spec.add_input_shape(inputs);
  if (hidden == 0) {
    spec.mutable_logistic_regression()->set_classes(classes);
  } else {
    spec.mutable_mlp()->add_hidden(hidden);
    spec.mutable_mlp()->set_classes(classes);
  }
  return spec;
}

absl::StatusOr<worker::SitePartition> Deal(const worker::Dataset& train,
                                           const FederationOptions& options) {
  worker::PartitionConfig config;
  config.set_sites(static_cast<int64_t>(options.workers));
  if (options.alpha > 0) {
    config.mutable_dirichlet()->set_alpha(options.alpha);
  } else {
    config.mutable_iid();
  }
  return worker::Partition(config,
                           {.count = train.size(), .labels = train.labels},
                           DeriveSeed(options.seed, "partition"));
}

bool AllFinite(absl::Span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float x) { return std::isfinite(x); });
}

}  // namespace

// One thread's network. Not thread-safe.
class AttackFederation::Trainer {
 public:
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(
      const AttackFederation& federation) {
    auto trainer = std::unique_ptr<Trainer>(new Trainer(federation));
    kernels::Network::Options options;
    options.batch_size = federation.options_.batch_size;
    ABSL_ASSIGN_OR_RETURN(trainer->network_, kernels::NewOneDnnNetwork(
                                                 federation.graph_, options));
    options.batch_size = kTestBatch;
    options.training = false;
    ABSL_ASSIGN_OR_RETURN(trainer->tester_, kernels::NewOneDnnNetwork(
                                                federation.graph_, options));
    return trainer;
  }

  // What one pass over `data` adds to `base`.
  absl::StatusOr<std::vector<float>> Update(const worker::Dataset& data,
                                            absl::Span<const float> base,
                                            uint64_t seed) {
    const FederationOptions& options = federation_.options_;
    v1::Optimizer spec;
    spec.mutable_sgd()->set_learning_rate(options.learning_rate);
    ABSL_ASSIGN_OR_RETURN(const auto optimizer,
                          kernels::LocalOptimizer::Create(spec, base.size()));
    const absl::Span<float> parameters = network_->parameters();
    std::copy(base.begin(), base.end(), parameters.begin());
    worker::Batches batches(data, options.batch_size);
    batches.Shuffle(seed);
    while (true) {
      ABSL_ASSIGN_OR_RETURN(const kernels::Batch batch, batches.Next());
      if (batch.size == 0) break;
      ABSL_RETURN_IF_ERROR(network_->ForwardBackward(batch, seed).status());
      optimizer->Step(1, network_->gradients(), parameters);
    }
    std::vector<float> update(parameters.begin(), parameters.end());
    for (size_t j = 0; j < update.size(); ++j) update[j] -= base[j];
    return update;
  }

  absl::StatusOr<double> Accuracy(absl::Span<const float> model) {
    std::copy(model.begin(), model.end(), tester_->parameters().begin());
    worker::Batches batches(federation_.test_, kTestBatch);
    int64_t correct = 0;
    while (true) {
      ABSL_ASSIGN_OR_RETURN(const kernels::Batch batch, batches.Next());
      if (batch.size == 0) break;
      ABSL_ASSIGN_OR_RETURN(const auto metrics, tester_->Evaluate(batch));
      correct += metrics.correct;
    }
    return static_cast<double>(correct) /
           static_cast<double>(federation_.test_.size());
  }

 private:
  explicit Trainer(const AttackFederation& federation)
      : federation_(federation) {}

  const AttackFederation& federation_;
  std::unique_ptr<kernels::Network> network_;
  std::unique_ptr<kernels::Network> tester_;
};

// One run: the model as it goes through the rounds. Not thread-safe.
class AttackFederation::Course {
 public:
  Course(const AttackFederation& federation, const AttackPlan& plan,
         std::unique_ptr<Trainer> trainer,
         std::unique_ptr<aggregation::Aggregator> rule, double max_weight)
      : federation_(federation),
        plan_(plan),
        attackers_(plan.attacked() ? plan.f : 0),
        max_weight_(max_weight),
        trainer_(std::move(trainer)),
        rule_(std::move(rule)),
        model_(federation.initial_),
        aggregate_(model_.size()) {}

  absl::StatusOr<FederationOutcome> Run() {
    FederationOutcome outcome;
    for (int round = 1; round <= federation_.options_.rounds; ++round) {
      const absl::Status done = RunRound(round);
      if (absl::IsOutOfRange(done)) {
        outcome.stopped = absl::StrCat("round ", round, ": ", done.message());
        break;
      }
      ABSL_RETURN_IF_ERROR(done);
      outcome.rounds = round;
    }
    ABSL_ASSIGN_OR_RETURN(outcome.accuracy, trainer_->Accuracy(model_));
    return outcome;
  }

 private:
  // OUT_OF_RANGE if values are no longer finite, which ends a run; any other
  // error is the caller's.
  absl::Status RunRound(int round) {
    ABSL_ASSIGN_OR_RETURN(const Updates updates, Collect(round));
    return Step(round, updates);
  }

  uint64_t TrainingSeed(int round, size_t worker) const {
    return DeriveSeed(DeriveSeed(federation_.options_.seed, round), worker);
  }

  absl::StatusOr<std::vector<float>> Honest(int round, size_t worker) {
    if (round == 1) return federation_.first_round_[worker];
    return trainer_->Update(federation_.shares_[worker], model_,
                            TrainingSeed(round, worker));
  }

  // The attackers' updates, then the others'.
  absl::StatusOr<Updates> Collect(int round) {
    Updates honest;
    for (size_t i = attackers_; i < federation_.options_.workers; ++i) {
      ABSL_ASSIGN_OR_RETURN(honest.emplace_back(), Honest(round, i));
      // A coordinator refuses it on arrival, and there is no way back.
      if (!AllFinite(honest.back())) {
        return absl::OutOfRangeError(absl::StrCat(
            "worker ", i, " trains to values that are not finite"));
      }
    }
    Updates updates;
    if (plan_.label_flip) {
      for (size_t i = 0; i < attackers_; ++i) {
        ABSL_ASSIGN_OR_RETURN(updates.emplace_back(),
                              trainer_->Update(federation_.flipped_[i], model_,
                                               TrainingSeed(round, i)));
      }
    } else if (attackers_ > 0) {
      updates = aggregation::Attack(*plan_.kind, honest, attackers_,
                                    DeriveSeed(federation_.options_.seed,
                                               absl::StrCat("attack/", round)));
    }
    std::move(honest.begin(), honest.end(), std::back_inserter(updates));
    return updates;
  }

  // Aggregates and moves the model; unchanged after an error.
  absl::Status Step(int round, const Updates& updates) {
    const kernels::ModelGraph& graph = federation_.graph_;
    std::vector<aggregation::Update> received;
    for (size_t i = 0; i < updates.size(); ++i) {
      aggregation::Update update;
      update.worker = absl::StrFormat("w%04d", i);
      update.weight = static_cast<double>(federation_.shares_[i].size());
      update.layout_hash = graph.layout().hash();
      update.elements = updates[i].size();
      update.values = std::make_unique<aggregation::MemorySource>(updates[i]);
      received.push_back(std::move(update));
    }
    aggregation::UpdateSet::Expected expected;
    expected.layout = graph.layout();
    expected.max_weight = max_weight_;
    std::vector<aggregation::Refusal> refusals;
    const auto set = aggregation::UpdateSet::Create(
        std::move(expected), std::move(received), &refusals);
    if (!refusals.empty()) return refusals[0].reason;
    ABSL_RETURN_IF_ERROR(rule_->Validate(set));

    const aggregation::MemorySource previous(aggregate_);
    aggregation::AggregationContext context;
    context.pool = &pool_;
    context.seed = DeriveSeed(federation_.options_.seed, round);
    if (rule_->KeepsAggregate() && round > 1) context.previous = &previous;
    std::vector<float> next(model_.size());
    aggregation::MemorySink sink(absl::MakeSpan(next));
    ABSL_RETURN_IF_ERROR(rule_->Aggregate(set, context, &sink).status());
    std::vector<float> moved = model_;
    for (size_t j = 0; j < moved.size(); ++j) moved[j] += next[j];
    if (!AllFinite(moved)) {
      return absl::OutOfRangeError("the new version overflows");
    }
    model_ = std::move(moved);
    aggregate_ = std::move(next);
    return absl::OkStatus();
  }

  const AttackFederation& federation_;
  const AttackPlan& plan_;
  const size_t attackers_;
  const double max_weight_;
  const std::unique_ptr<Trainer> trainer_;
  const std::unique_ptr<aggregation::Aggregator> rule_;
  ThreadPool pool_{1};
  std::vector<float> model_;
  std::vector<float> aggregate_;  // of the round before
};

absl::StatusOr<std::unique_ptr<AttackFederation>> AttackFederation::Create(
    const worker::Dataset& train, const worker::Dataset& test,
    const FederationOptions& options) {
  ABSL_RETURN_IF_ERROR(CheckOptions(train, test, options));
  const int32_t classes = Classes(train, test);
  ABSL_ASSIGN_OR_RETURN(kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(
                            ModelOf(static_cast<int64_t>(train.example_size()),
                                    classes, options.hidden)));
  ABSL_ASSIGN_OR_RETURN(const worker::SitePartition partition,
                        Deal(train, options));
  std::unique_ptr<AttackFederation> federation(
      new AttackFederation(test, options, std::move(graph)));
  for (const std::vector<size_t>& share : partition) {
    federation->shares_.push_back(train.Select(share));
    federation->flipped_.push_back(federation->shares_.back());
    for (int32_t& label : federation->flipped_.back().labels) {
      label = classes - 1 - label;
    }
  }
  federation->initial_.resize(federation->graph_.layout().total_elements());
  federation->graph_.InitializeParameters(DeriveSeed(options.seed, "model"), 0,
                                          absl::MakeSpan(federation->initial_));
  ABSL_ASSIGN_OR_RETURN(const auto trainer, Trainer::Create(*federation));
  for (size_t i = 0; i < options.workers; ++i) {
    ABSL_ASSIGN_OR_RETURN(
        federation->first_round_.emplace_back(),
        trainer->Update(federation->shares_[i], federation->initial_,
                        DeriveSeed(DeriveSeed(options.seed, 1), i)));
  }
  return federation;
}

absl::StatusOr<FederationOutcome> AttackFederation::Run(
    const v1::AggregationSpec& rule, const AttackPlan& plan) const {
  if (plan.f >= options_.workers ||
      (plan.kind.has_value() && plan.label_flip)) {
    return absl::InvalidArgumentError(absl::StrCat(
        plan.f, " attackers of ", options_.workers,
        " workers, expected fewer attackers than workers and one attack"));
  }
  ABSL_ASSIGN_OR_RETURN(auto trainer, Trainer::Create(*this));
  ABSL_ASSIGN_OR_RETURN(auto aggregator, aggregation::MakeAggregator(rule));
  return Course(*this, plan, std::move(trainer), std::move(aggregator),
                static_cast<double>(rule.max_weight()))
      .Run();
}

}  // namespace koinon::tools
