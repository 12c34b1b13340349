#include "tools/cli/aggregate.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "aggregation/core/finite_scanner.h"
#include "aggregation/core/update_set.h"
#include "aggregation/server/server_optimizer.h"
#include "aggregation/server/server_step.h"
#include "base/random.h"
#include "base/safetensors_writer.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "tools/cli/state_dir.h"
#include "tools/cli/tensor_files.h"

namespace koinon::cli {
namespace {

using aggregation::UpdateSet;
using aggregation::UpdateSource;

// Elements checked at a time.
constexpr size_t kBlock = size_t{1} << 18;
// As the coordinator names it.
constexpr char kKeptAggregate[] = "aggregate";

// What the words of --rule stand for.
struct Rules {
  std::unique_ptr<aggregation::Aggregator> aggregator;
  std::unique_ptr<aggregation::ServerOptimizer> optimizer;  // or null
};

absl::StatusOr<Rules> MakeRules(const AggregateRequest& request) {
  Rules rules;
  ABSL_ASSIGN_OR_RETURN(
      rules.aggregator,
      aggregation::MakeAggregator(request.spec, request.aggregator));
  ABSL_ASSIGN_OR_RETURN(rules.optimizer, aggregation::MakeServerOptimizer(
                                             request.spec.server_optimizer()));
  return rules;
}

std::string RuleName(const v1::AggregationSpec& spec) {
  const auto* rule = spec.GetReflection()->GetOneofFieldDescriptor(
      spec, spec.GetDescriptor()->FindOneofByName("rule"));
  return rule == nullptr ? "fedavg" : rule->name();
}

std::vector<StateDir::Vector> KeptVectors(const Rules& rules,
                                          const AggregateRequest& request) {
  std::vector<StateDir::Vector> vectors;
  if (rules.optimizer != nullptr) {
    for (const std::string& name : rules.optimizer->state_names()) {
      vectors.push_back({name, rules.optimizer->name()});
    }
  }
  if (rules.aggregator->KeepsAggregate()) {
    vectors.push_back({kKeptAggregate, RuleName(request.spec)});
  }
  return vectors;
}

absl::Status CheckRequest(const AggregateRequest& request,
                          bool keeps_something) {
  if (request.updates.empty()) {
    return absl::InvalidArgumentError("no update file is given");
  }
  if (!request.weights.empty() &&
      request.weights.size() != request.updates.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--weights has ", request.weights.size(), " numbers for ",
                     request.updates.size(), " files, expected one for each"));
  }
  if (request.models && request.base.empty()) {
    return absl::InvalidArgumentError(
        "--models needs --base: the model that they were trained from");
  }
  if (request.step < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--step is ", request.step, ", expected at least 1"));
  }
  if (!request.state_dir.empty() && !keeps_something) {
    return absl::InvalidArgumentError(
        "--state has no effect: neither this rule nor a server optimizer keeps "
        "anything from step to step");
  }
  if (!request.state_dir.empty() && request.step > 0) {
    return absl::InvalidArgumentError(
        "--step has no effect with --state, which counts the steps");
  }
  return absl::OkStatus();
}

// "w1" for "updates/w1.safetensors".
std::string WorkerOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  absl::string_view name = path;
  if (slash != std::string::npos) name.remove_prefix(slash + 1);
  absl::ConsumeSuffix(&name, ".safetensors");
  return std::string(name);
}

bool SameFile(const std::string& a, const std::string& b) {
  if (a == b) return true;
  std::error_code error;  // one of them does not exist: not the same
  return std::filesystem::equivalent(a, b, error);
}

// No file may count as two updates.
absl::Status CheckWorkers(const std::vector<std::string>& updates) {
  std::map<std::string, std::string> paths;
  for (const std::string& path : updates) {
    const auto [it, is_new] = paths.emplace(WorkerOf(path), path);
    if (is_new) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        it->second, " and ", path, " are both of worker ", it->first,
        ": expected file names that differ, as a file's name is its worker's "
        "id"));
  }
  return absl::OkStatus();
}

// What a new file would replace has to be a file: a device or a pipe is not
// written to, but gone.
absl::Status CheckReplaceable(const std::string& output) {
  std::error_code error;  // no such file: nothing is replaced
  const std::filesystem::file_status found =
      std::filesystem::status(output, error);
  if (!std::filesystem::exists(found) ||
      std::filesystem::is_regular_file(found)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("output ", output,
                   " is there and is no regular file: "
                   "choose another output"));
}

// Neither the output nor its temporary file may be one that is read or kept.
absl::Status CheckOutput(const AggregateRequest& request,
                         const StateDir* state) {
  if (request.output.empty()) {
    return absl::InvalidArgumentError("no output file is given");
  }
  ABSL_RETURN_IF_ERROR(CheckReplaceable(request.output));
  std::vector<std::string> others = request.updates;
  if (!request.base.empty()) others.push_back(request.base);
  if (state != nullptr) {
    for (const std::string& path : state->OldPaths()) others.push_back(path);
    for (const std::string& path : state->NewPaths()) others.push_back(path);
  }
  for (const std::string& other : others) {
    for (const std::string& written :
         {request.output, absl::StrCat(request.output, ".tmp")}) {
      if (!SameFile(written, other)) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("writing ", request.output, " would overwrite ", other,
                       ", which is read or kept: choose another output"));
    }
  }
  return absl::OkStatus();
}

// As the coordinator checks what it receives.
absl::Status CheckFinite(const std::string& worker, const UpdateSource& source,
                         const ModelLayout& layout) {
  aggregation::FiniteScanner scanner;
  std::vector<float> scratch(std::min(kBlock, layout.total_elements()));
  const size_t total = layout.total_elements();
  for (size_t offset = 0; offset < total; offset += kBlock) {
    const size_t count = std::min(kBlock, total - offset);
    ABSL_ASSIGN_OR_RETURN(const float* const values,
                          source.Read(offset, count, scratch.data()));
    scanner.Scan(absl::MakeConstSpan(reinterpret_cast<const char*>(values),
                                     count * sizeof(float)));
  }
  const absl::Status finite = scanner.Check(layout);
  return finite.ok() ? finite : aggregation::BlameWorker(worker, finite);
}

// Every input stands or the whole fails: nobody is there who could be told that
// one was left out.
class Inputs {
 public:
  absl::Status Open(Env* env, const AggregateRequest& request) {
    if (!request.base.empty()) {
      ABSL_ASSIGN_OR_RETURN(base_, TensorFile::Open(env, request.base));
      layout_ = base_->layout();
      layout_path_ = request.base;
    }
    std::vector<aggregation::Update> updates;
    for (size_t i = 0; i < request.updates.size(); ++i) {
      ABSL_ASSIGN_OR_RETURN(aggregation::Update update,
                            OpenUpdate(env, request, i));
      updates.push_back(std::move(update));
    }
    UpdateSet::Expected expected;
    expected.layout = layout_;
    expected.max_weight = static_cast<double>(request.spec.max_weight());
    std::vector<aggregation::Refusal> refusals;
    set_.emplace(
        UpdateSet::Create(std::move(expected), std::move(updates), &refusals));
    if (!refusals.empty()) return refusals.front().reason;
    return absl::OkStatus();
  }

  const TensorFile* base() const { return base_.get(); }
  const UpdateSet& set() const { return *set_; }
  const ModelLayout& layout() const { return layout_; }
  const std::string& layout_path() const { return layout_path_; }

 private:
  absl::StatusOr<aggregation::Update> OpenUpdate(
      Env* env, const AggregateRequest& request, size_t i) {
    const std::string& path = request.updates[i];
    ABSL_ASSIGN_OR_RETURN(auto file, TensorFile::Open(env, path));
    if (layout_path_.empty()) {
      layout_ = file->layout();
      layout_path_ = path;
    }
    ABSL_RETURN_IF_ERROR(CheckSameLayout(*file, layout_, layout_path_));
    aggregation::Update update;
    update.worker = WorkerOf(path);
    update.weight = request.weights.empty() ? 1 : request.weights[i];
    update.layout_hash = layout_.hash();
    update.elements = layout_.total_elements();
    if (request.models) {
      update.values =
          std::make_unique<DifferenceSource>(std::move(file), base_.get());
    } else {
      update.values = std::move(file);
    }
    ABSL_RETURN_IF_ERROR(CheckFinite(update.worker, *update.values, layout_));
    return update;
  }

  std::unique_ptr<TensorFile> base_;
  ModelLayout layout_;
  std::string layout_path_;  // of the file that sets it
  std::optional<UpdateSet> set_;
};

// What becomes of the aggregate: the coordinator's step, into files.
class Step {
 public:
  Step(const Rules& rules, const Inputs& inputs, StateDir* state)
      : rules_(rules), inputs_(inputs), state_(state) {}

  absl::StatusOr<v1::AggregationReport> Run(const AggregateRequest& request,
                                            int64_t number,
                                            SafetensorsWriter* writer) {
    aggregation::ServerStepSink step(MakeServerStep(number, writer));
    aggregation::UpdateSink* head = &step;
    std::unique_ptr<aggregation::UpdateSink> keep;
    ThreadPool pool(request.threads);
    aggregation::AggregationContext context;
    context.pool = &pool;
    context.seed = DeriveSeed(request.seed, static_cast<uint64_t>(number));
    if (rules_.aggregator->KeepsAggregate()) {
      context.previous = Before(kKeptAggregate);
      keep =
          std::make_unique<aggregation::TeeSink>(After(kKeptAggregate), head);
      head = keep.get();
    }
    ABSL_ASSIGN_OR_RETURN(
        v1::AggregationReport report,
        rules_.aggregator->Aggregate(inputs_.set(), context, head));
    if (rules_.optimizer != nullptr) {
      report.set_server_optimizer(rules_.optimizer->name());
    }
    return report;
  }

 private:
  aggregation::ServerStep MakeServerStep(int64_t number,
                                         SafetensorsWriter* writer) {
    aggregation::ServerStep step;
    step.layout = inputs_.layout();
    step.base = inputs_.base();
    step.step = number;
    step.out = [writer](absl::Span<const float> values) {
      return writer->Append(values);
    };
    step.optimizer = rules_.optimizer.get();
    if (step.optimizer == nullptr) return step;
    for (const std::string& name : step.optimizer->state_names()) {
      step.state.push_back({name, Before(name), After(name)});
    }
    return step;
  }

  const UpdateSource* Before(const std::string& name) const {
    return state_ == nullptr ? nullptr : state_->before(name);
  }
  aggregation::AppendValues After(const std::string& name) {
    if (state_ != nullptr) return state_->after(name);
    return [](absl::Span<const float>) { return absl::OkStatus(); };
  }

  const Rules& rules_;
  const Inputs& inputs_;
  StateDir* const state_;  // or null
};

}  // namespace

absl::StatusOr<AggregateOutcome> AggregateFiles(
    Env* env, const AggregateRequest& request) {
  ABSL_ASSIGN_OR_RETURN(const Rules rules, MakeRules(request));
  const std::vector<StateDir::Vector> kept = KeptVectors(rules, request);
  ABSL_RETURN_IF_ERROR(CheckRequest(request, !kept.empty()));
  ABSL_RETURN_IF_ERROR(CheckWorkers(request.updates));
  Inputs inputs;
  ABSL_RETURN_IF_ERROR(inputs.Open(env, request));
  // Before anything is written.
  ABSL_RETURN_IF_ERROR(rules.aggregator->Validate(inputs.set()));
  std::optional<StateDir> state;
  if (!request.state_dir.empty()) {
    ABSL_ASSIGN_OR_RETURN(
        state, StateDir::Open(env, request.state_dir, kept, inputs.layout(),
                              inputs.layout_path()));
  }
  StateDir* const state_dir = state.has_value() ? &*state : nullptr;
  ABSL_RETURN_IF_ERROR(CheckOutput(request, state_dir));
  AggregateOutcome outcome;
  outcome.used_weights = rules.aggregator->UsesWeights();
  outcome.step = state_dir != nullptr ? state_dir->step() + 1
                                      : std::max<int64_t>(request.step, 1);
  ABSL_ASSIGN_OR_RETURN(auto writer, SafetensorsWriter::Create(
                                         env, request.output, inputs.layout(),
                                         {{"format", "pt"}}));
  if (state_dir != nullptr) ABSL_RETURN_IF_ERROR(state_dir->Begin());
  ABSL_ASSIGN_OR_RETURN(
      outcome.report,
      Step(rules, inputs, state_dir).Run(request, outcome.step, writer.get()));
  ABSL_RETURN_IF_ERROR(writer->Finish());
  if (state_dir != nullptr) ABSL_RETURN_IF_ERROR(state_dir->Commit());
  return outcome;
}

}  // namespace koinon::cli
