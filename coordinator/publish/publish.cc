#include "coordinator/publish/publish.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "aggregation/core/staleness.h"
#include "aggregation/server/server_optimizer.h"
#include "aggregation/server/server_step.h"
#include "base/log.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "coordinator/folds/sum_mean.h"
#include "coordinator/models/version_contents.h"
#include "coordinator/publish/control_sink.h"
#include "coordinator/publish/state_files.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {
namespace {

// Elements moved at a time where nothing else decides: 1 MiB.
constexpr size_t kBlockElements = size_t{1} << 18;

// The first `total` values.
absl::Status CopyValues(const ModelStore::Version& from, size_t total,
                        ModelStore::Writer* to) {
  std::vector<float> block(std::min(total, kBlockElements));
  for (size_t offset = 0; offset < total; offset += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - offset);
    ABSL_RETURN_IF_ERROR(
        from.file->ReadAt(from.data_offset_bytes + offset * sizeof(float),
                          count * sizeof(float), block.data()));
    ABSL_RETURN_IF_ERROR(to->Append(absl::MakeConstSpan(block.data(), count)));
  }
  return absl::OkStatus();
}

absl::Status InitializeValues(const kernels::ModelGraph& graph, uint64_t seed,
                              ModelStore::Writer* to) {
  const size_t total = graph.layout().total_elements();
  std::vector<float> block(std::min(total, kBlockElements));
  for (size_t offset = 0; offset < total; offset += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - offset);
    graph.InitializeParameters(seed, offset,
                               absl::MakeSpan(block.data(), count));
    ABSL_RETURN_IF_ERROR(to->Append(absl::MakeConstSpan(block.data(), count)));
  }
  return absl::OkStatus();
}

absl::Status AppendZeros(size_t total, ModelStore::Writer* to) {
  const std::vector<float> zeros(std::min(total, kBlockElements));
  for (size_t offset = 0; offset < total; offset += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - offset);
    ABSL_RETURN_IF_ERROR(to->Append(absl::MakeConstSpan(zeros.data(), count)));
  }
  return absl::OkStatus();
}

absl::Status CopyInitialModel(ModelStore* store,
                              const v1::ModelManifest& initial,
                              const ModelLayout& layout,
                              ModelStore::Writer* to) {
  ABSL_ASSIGN_OR_RETURN(const ModelStore::Version from, store->Open(initial));
  const ModelLayout found =
      kernels::WithoutControlVariates(from.layout).value_or(from.layout);
  if (found.hash() != layout.hash()) {
    return absl::InvalidArgumentError(
        absl::StrCat("initial_model ", initial.job(), "@", initial.version(),
                     " has another layout than model"));
  }
  return CopyValues(from, layout.total_elements(), to);
}

// What an update of a buffered round counts for, by its staleness.
void Discount(const v1::JobSpec& spec, int64_t staleness,
              aggregation::Update* update) {
  const double discount =
      aggregation::StalenessDiscount(spec.buffer(), staleness);
  if (spec.buffer().normalise() != v1::BufferSpec::BY_DISCOUNT) {
    update->discount = discount;
    return;
  }
  const auto cap = static_cast<double>(spec.aggregation().max_weight());
  if (cap > 0) update->weight = std::min(update->weight, cap);
  update->weight *= discount;
}

absl::StatusOr<aggregation::UpdateSet> MakeUpdateSet(
    const Spool& spool, const RoundInput& input, const ModelLayout& layout,
    std::vector<aggregation::Refusal>* refusals) {
  std::vector<aggregation::Update> updates;
  for (const AcceptedRow& row : input.updates) {
    aggregation::Update update;
    update.worker = row.worker;
    update.weight = static_cast<double>(row.metrics.examples());
    update.base_version = row.task_round - 1;
    if (input.spec.has_buffer()) {
      Discount(input.spec, input.round - row.task_round, &update);
    }
    update.layout_hash = layout.hash();
    if (input.sum.has_value()) {
      update.elements = layout.total_elements();
      update.values = std::make_unique<SummedSource>();
    } else {
      update.elements = row.extent.size / sizeof(float);
      update.values = spool.Source(row.extent);
    }
    updates.push_back(std::move(update));
  }
  aggregation::UpdateSet::Expected expected;
  expected.layout = layout;
  expected.base_version = input.base.version();
  if (input.spec.has_buffer()) {
    expected.max_staleness = input.spec.buffer().max_staleness();
  }
  expected.max_weight =
      static_cast<double>(input.spec.aggregation().max_weight());
  return aggregation::UpdateSet::Create(std::move(expected), std::move(updates),
                                        refusals);
}

// What the job's words stand for.
struct Rules {
  std::unique_ptr<aggregation::Aggregator> aggregator;
  std::unique_ptr<aggregation::ServerOptimizer> optimizer;  // or null

  std::vector<std::string> state_names() const {
    std::vector<std::string> names;
    if (optimizer != nullptr) names = optimizer->state_names();
    if (aggregator->KeepsAggregate()) names.push_back(kKeptAggregate);
    return names;
  }
};

absl::StatusOr<Rules> MakeRules(const Spool& spool, const RoundInput& input,
                                const PublishOptions& options) {
  const v1::AggregationSpec& spec = input.spec.aggregation();
  Rules rules;
  if (input.sum.has_value()) {
    ABSL_ASSIGN_OR_RETURN(
        rules.aggregator,
        MakeSumMean(&spool, spec, *input.sum, options.aggregator));
  } else {
    ABSL_ASSIGN_OR_RETURN(rules.aggregator, aggregation::MakeAggregator(
                                                spec, options.aggregator));
  }
  ABSL_ASSIGN_OR_RETURN(rules.optimizer, aggregation::MakeServerOptimizer(
                                             spec.server_optimizer()));
  return rules;
}

aggregation::ServerStep MakeStep(const Rules& rules, const RoundInput& input,
                                 const VersionSource& base, StateFiles* state,
                                 ModelStore::Writer* writer) {
  aggregation::ServerStep step;
  step.layout = base.layout();
  step.base = &base;
  step.out = [writer](absl::Span<const float> values) {
    return writer->Append(values);
  };
  // Every version is one step.
  step.step = input.round;
  step.optimizer = rules.optimizer.get();
  if (step.optimizer == nullptr) return step;
  for (const std::string& name : step.optimizer->state_names()) {
    step.state.push_back({name, state->before(name), state->after(name)});
  }
  return step;
}

// Runs the updates through the rule and the server's step into the writers.
absl::StatusOr<v1::AggregationReport> Aggregate(
    const Rules& rules, const aggregation::UpdateSet& set, ThreadPool* pool,
    const RoundInput& input, const VersionSource& base, StateFiles* state,
    ModelStore::Writer* writer) {
  aggregation::AggregationContext context;
  context.pool = pool;
  context.seed =
      DeriveSeed(input.spec.seed(), static_cast<uint64_t>(input.round));
  // The chain of sinks, from its end to its head.
  aggregation::ServerStepSink step(MakeStep(rules, input, base, state, writer));
  aggregation::UpdateSink* head = &step;
  std::unique_ptr<aggregation::UpdateSink> control;
  if (input.spec.training().has_scaffold()) {
    ABSL_ASSIGN_OR_RETURN(
        const ControlStep control_step,
        ControlStepOf(input.spec, static_cast<int64_t>(set.size()), input.asked,
                      input.asked_before));
    control = std::make_unique<ControlSink>(set.elements() / 2, control_step,
                                            &base, head);
    head = control.get();
  }
  std::unique_ptr<aggregation::UpdateSink> keep;
  if (rules.aggregator->KeepsAggregate()) {
    context.previous = state->before(kKeptAggregate);
    keep = std::make_unique<aggregation::TeeSink>(state->after(kKeptAggregate),
                                                  head);
    head = keep.get();
  }
  ABSL_ASSIGN_OR_RETURN(v1::AggregationReport report,
                        rules.aggregator->Aggregate(set, context, head));
  if (rules.optimizer != nullptr) {
    report.set_server_optimizer(rules.optimizer->name());
  }
  return report;
}

// What the participants measured, over all of them, weighted by examples.
void AddMetrics(const std::vector<const AcceptedRow*>& rows,
                v1::Provenance* provenance) {
  double weights = 0, loss = 0, accuracy_weights = 0, accuracy = 0;
  int64_t examples = 0;
  for (const AcceptedRow* row : rows) {
    // Claims of workers: their sum may exceed what fits.
    const int64_t room = std::numeric_limits<int64_t>::max() - examples;
    examples += std::min(room, row->metrics.examples());
    const auto weight = static_cast<double>(row->metrics.examples());
    weights += weight;
    loss += weight * row->metrics.loss();
    if (!row->metrics.has_accuracy()) continue;
    accuracy_weights += weight;
    accuracy += weight * row->metrics.accuracy();
  }
  provenance->set_examples(examples);
  if (weights > 0) provenance->set_loss(loss / weights);
  if (accuracy_weights > 0) {
    provenance->set_accuracy(accuracy / accuracy_weights);
  }
}

v1::Provenance MakeProvenance(const RoundInput& input,
                              const PublishedRound& published,
                              const aggregation::UpdateSet& set) {
  v1::Provenance provenance;
  provenance.set_participants(static_cast<int64_t>(set.size()));
  std::vector<const AcceptedRow*> included;
  for (const AcceptedRow& row : input.updates) {
    const bool refused = std::any_of(
        published.refusals.begin(), published.refusals.end(),
        [&](const auto& refusal) { return refusal.worker == row.worker; });
    if (!refused) included.push_back(&row);
  }
  AddMetrics(included, &provenance);
  const v1::AggregationReport& report = published.report;
  std::vector<std::string> rule(report.pre_aggregation().begin(),
                                report.pre_aggregation().end());
  rule.push_back(report.rule());
  if (!report.server_optimizer().empty()) {
    rule.push_back(report.server_optimizer());
  }
  provenance.set_rule(absl::StrJoin(rule, " + "));
  provenance.set_seconds(input.seconds_open);
  return provenance;
}

// Makes what was written a version that can be published. `base`: the version
// before; null for the first.
absl::Status Sign(ModelStore* store, const v1::Content& content,
                  absl::Time submitted, const v1::ModelManifest* base,
                  const PublishOptions& options, v1::ModelManifest* manifest) {
  std::vector<v1::Delta> deltas;
  if (base != nullptr && options.delta_min_bytes > 0 &&
      manifest->size_bytes() >= options.delta_min_bytes) {
    auto delta = WriteVersionDelta(*store, *base, *manifest);
    if (!delta.ok()) {
      LogWarning("a version is published without a delta",
                 {{"job", manifest->job()},
                  {"version", manifest->version()},
                  {"error", delta.status()}});
    } else if (delta->has_value()) {
      deltas.push_back(**std::move(delta));
    }
  }
  return options.signer->Sign(absl::ToUnixMillis(submitted), content, deltas,
                              manifest);
}

// As Sign, and nothing is left of what cannot be signed.
absl::Status SignOrRemove(ModelStore* store, const v1::Content& content,
                          absl::Time submitted, const v1::ModelManifest* base,
                          const PublishOptions& options,
                          v1::ModelManifest* manifest) {
  const absl::Status signed_now =
      Sign(store, content, submitted, base, options, manifest);
  if (!signed_now.ok()) {
    store->Remove(manifest->job(), manifest->version()).IgnoreError();
  }
  return signed_now;
}

absl::Status Publish(ModelStore* store, const Spool& spool, ThreadPool* pool,
                     const RoundInput& input, const PublishOptions& options,
                     PublishedRound* published) {
  ABSL_ASSIGN_OR_RETURN(const Rules rules, MakeRules(spool, input, options));
  ABSL_ASSIGN_OR_RETURN(ModelStore::Version base_version,
                        store->Open(input.base));
  const VersionSource base(std::move(base_version));
  ABSL_ASSIGN_OR_RETURN(
      const aggregation::UpdateSet set,
      MakeUpdateSet(spool, input, base.layout(), &published->refusals));
  if (input.sum.has_value() && !published->refusals.empty()) {
    // A sum cannot be had without them.
    return published->refusals.front().reason;
  }
  // Before anything is written.
  ABSL_RETURN_IF_ERROR(rules.aggregator->Validate(set));
  ABSL_ASSIGN_OR_RETURN(
      StateFiles state,
      StateFiles::Open(store, input.base, input.base_state, input.round,
                       base.layout(), rules.state_names()));
  ABSL_ASSIGN_OR_RETURN(
      auto writer,
      store->NewVersion(input.spec.name(), input.round, base.layout()));
  ABSL_ASSIGN_OR_RETURN(
      published->report,
      Aggregate(rules, set, pool, input, base, &state, writer.get()));

  ABSL_ASSIGN_OR_RETURN(const Digest parent,
                        Digest::FromBytes(input.base.digest()));
  ABSL_ASSIGN_OR_RETURN(published->state, state.Publish());
  ABSL_ASSIGN_OR_RETURN(
      published->manifest,
      writer->Publish(parent, MakeProvenance(input, *published, set)));
  ABSL_RETURN_IF_ERROR(SignOrRemove(store, writer->content(), input.submitted,
                                    &input.base, options,
                                    &published->manifest));
  state.Keep();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ModelManifest> PublishInitialModel(
    ModelStore* store, const v1::JobSpec& spec, absl::Time submitted,
    const v1::ModelManifest* initial, const PublishOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(spec.model()));
  ABSL_ASSIGN_OR_RETURN(
      const ModelLayout layout,
      kernels::VersionLayout(graph.layout(), spec.training()));
  ABSL_ASSIGN_OR_RETURN(auto writer, store->NewVersion(spec.name(), 0, layout));
  if (initial != nullptr) {
    ABSL_RETURN_IF_ERROR(
        CopyInitialModel(store, *initial, graph.layout(), writer.get()));
  } else {
    ABSL_RETURN_IF_ERROR(InitializeValues(graph, spec.seed(), writer.get()));
  }
  ABSL_RETURN_IF_ERROR(AppendZeros(
      layout.total_elements() - graph.layout().total_elements(), writer.get()));
  ABSL_ASSIGN_OR_RETURN(v1::ModelManifest manifest,
                        writer->Publish(Digest(), v1::Provenance()));
  ABSL_RETURN_IF_ERROR(SignOrRemove(store, writer->content(), submitted,
                                    nullptr, options, &manifest));
  return manifest;
}

PublishedRound PublishRound(ModelStore* store, const Spool& spool,
                            ThreadPool* pool, const RoundInput& input,
                            const PublishOptions& options) {
  const auto started = std::chrono::steady_clock::now();
  PublishedRound published;
  published.status = Publish(store, spool, pool, input, options, &published);
  published.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started)
          .count();
  return published;
}

absl::Status RemovePublished(ModelStore* store, const JobId& job,
                             int64_t version,
                             absl::Span<const StateFile> state) {
  absl::Status first = store->Remove(job, version);
  if (absl::IsNotFound(first)) first = absl::OkStatus();
  for (const StateFile& file : state) {
    const absl::Status removed = store->RemoveState(job, version, file.name);
    if (!absl::IsNotFound(removed)) first.Update(removed);
  }
  return first;
}

}  // namespace koinon::coordinator
