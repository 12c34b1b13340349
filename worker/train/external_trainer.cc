#include "worker/train/external_trainer.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "worker/train/subprocess.h"
#include "worker/train/task_checks.h"
#include "worker/train/update_file.h"

namespace koinon::worker {
namespace {

constexpr absl::string_view kNative = "native";
constexpr absl::string_view kTrain = "train";
constexpr absl::string_view kEvaluate = "evaluate";
constexpr double kDefaultTimeoutSeconds = 3600;
constexpr int64_t kDefaultMaxLogLines = 1000;
constexpr size_t kMaxMetricsBytes = 64 << 10;
constexpr size_t kCopyBlockBytes = 1 << 20;

absl::Status CheckConfig(const ExternalTrainerConfig& config) {
  ABSL_RETURN_IF_ERROR(ValidateId("external trainer's name", config.name()));
  if (config.name() == kNative) {
    return absl::InvalidArgumentError(
        "external trainer's name: \"native\" is Koinon's own");
  }
  if (config.command().empty() || config.command(0).empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "external trainer %s: expected a command, found none", config.name()));
  }
  if (!(config.timeout_seconds() >= 0) ||
      !std::isfinite(config.timeout_seconds()) || config.max_log_lines() < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "external trainer %s: expected timeout_seconds and max_log_lines >= 0, "
        "found %g and %d",
        config.name(), config.timeout_seconds(), config.max_log_lines()));
  }
  return absl::OkStatus();
}

ExternalTrainerConfig WithDefaults(ExternalTrainerConfig config) {
  if (config.timeout_seconds() == 0) {
    config.set_timeout_seconds(kDefaultTimeoutSeconds);
  }
  if (config.max_log_lines() == 0)
    config.set_max_log_lines(kDefaultMaxLogLines);
  return config;
}

// The env cannot remove directories, and a program may leave any.
absl::Status RemoveTree(const std::string& directory) {
  std::error_code error;
  std::filesystem::remove_all(directory, error);
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), directory);
}

absl::Status CopyFile(Env* env, const std::string& from,
                      const std::string& to) {
  ABSL_ASSIGN_OR_RETURN(const auto source,
                        env->Open(from, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const auto target,
                        env->Open(to, Env::OpenMode::kCreate));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, source->Size());
  std::vector<char> block(kCopyBlockBytes);
  for (uint64_t offset = 0; offset < size; offset += block.size()) {
    const size_t n = std::min<uint64_t>(block.size(), size - offset);
    ABSL_RETURN_IF_ERROR(source->ReadAt(offset, n, block.data()));
    ABSL_RETURN_IF_ERROR(target->WriteAt(offset, block.data(), n));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TaskJson(const v1::OfferTask& offer,
                                     absl::string_view kind) {
  ExternalTask task;
  task.set_kind(std::string(kind));
  task.set_job(offer.task().job());
  task.set_round(offer.task().round());
  task.set_seed(offer.seed());
  task.set_dataset(offer.dataset());
  *task.mutable_parameters() = offer.training().parameters();
  *task.mutable_training() = offer.training();
  *task.mutable_model() = offer.model();
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(task, &json, options);
  if (status.ok()) return json;
  return absl::InvalidArgumentError(
      absl::StrCat("task.json: ", std::string(status.message())));
}

std::vector<std::string> Environment(const ExternalTrainerConfig& config,
                                     const std::string& directory) {
  std::vector<std::string> names = {"PATH", "HOME", "LANG"};
  names.insert(names.end(), config.pass_environment().begin(),
               config.pass_environment().end());
  std::vector<std::string> environment = {absl::StrCat("TMPDIR=", directory)};
  for (const std::string& name : names) {
    const char* value = std::getenv(name.c_str());
    if (value != nullptr) {
      environment.push_back(absl::StrCat(name, "=", value));
    }
  }
  return environment;
}

absl::Status BadMetrics(absl::string_view expected, absl::string_view found) {
  return absl::InternalError(
      absl::StrFormat("metrics.json: expected %s, found %s", expected, found));
}

absl::Status CheckMetrics(const ExternalMetrics& metrics) {
  if (!metrics.has_examples() || metrics.examples() < 1) {
    return BadMetrics(
        "\"examples\" >= 1",
        metrics.has_examples() ? absl::StrCat(metrics.examples()) : "none");
  }
  if (!metrics.has_loss() || !std::isfinite(metrics.loss())) {
    return BadMetrics("a finite \"loss\"", metrics.has_loss()
                                               ? absl::StrCat(metrics.loss())
                                               : "none");
  }
  if (metrics.has_accuracy() &&
      !(metrics.accuracy() >= 0 && metrics.accuracy() <= 1)) {
    return BadMetrics("\"accuracy\" in [0, 1]",
                      absl::StrCat(metrics.accuracy()));
  }
  if (metrics.steps() < 0) {
    return BadMetrics("\"steps\" >= 0", absl::StrCat(metrics.steps()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExternalTrainer>> ExternalTrainer::Create(
    Env* env, const Clock* clock, const LocalDatasets* datasets,
    const std::string& scratch_dir, const ExternalTrainerConfig& config,
    LineSink line_sink) {
  ABSL_RETURN_IF_ERROR(CheckConfig(config));
  // The program starts in the directory: it and its paths must not be relative.
  std::error_code error;
  const std::string directory =
      std::filesystem::absolute(scratch_dir, error).string();
  if (error) return absl::ErrnoToStatus(error.value(), scratch_dir);
  return std::unique_ptr<ExternalTrainer>(
      new ExternalTrainer(env, clock, datasets, directory, WithDefaults(config),
                          std::move(line_sink)));
}

ExternalTrainer::ExternalTrainer(Env* env, const Clock* clock,
                                 const LocalDatasets* datasets,
                                 const std::string& scratch_dir,
                                 const ExternalTrainerConfig& config,
                                 LineSink line_sink)
    : env_(env),
      clock_(clock),
      datasets_(datasets),
      directory_(scratch_dir),
      config_(config),
      line_sink_(std::move(line_sink)) {}

absl::StatusOr<v1::Metrics> ExternalTrainer::Train(
    const v1::OfferTask& offer, const std::string& base_path,
    const std::string& update_path, const ProgressCallback& /*progress*/,
    const std::atomic<bool>& stop) {
  ABSL_RETURN_IF_ERROR(FindDataset(*datasets_, offer).status());
  const auto cleanup =
      absl::MakeCleanup([this] { RemoveTree(directory_).IgnoreError(); });
  ABSL_ASSIGN_OR_RETURN(const v1::Metrics metrics,
                        RunTask(offer, kTrain, base_path, stop));
  const absl::StatusOr<FileUpdate> update = WriteUpdateOfFiles(
      env_, base_path, absl::StrCat(directory_, "/model.safetensors"),
      update_path);
  if (!update.ok()) return Annotate(update.status());
  if (!update->changed) {
    LogWarning("external trainer left the model as it was",
               {{"trainer", config_.name()}, {"job", offer.task().job()}});
  }
  return metrics;
}

absl::StatusOr<v1::Metrics> ExternalTrainer::Evaluate(
    const v1::OfferTask& offer, const std::string& model_path,
    const std::atomic<bool>& stop) {
  ABSL_ASSIGN_OR_RETURN(const LocalData* data, FindDataset(*datasets_, offer));
  ABSL_RETURN_IF_ERROR(CheckHeldOut(*data, offer));
  const auto cleanup =
      absl::MakeCleanup([this] { RemoveTree(directory_).IgnoreError(); });
  return RunTask(offer, kEvaluate, model_path, stop);
}

absl::StatusOr<v1::Metrics> ExternalTrainer::RunTask(
    const v1::OfferTask& offer, absl::string_view kind,
    const std::string& model_path, const std::atomic<bool>& stop) {
  ABSL_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                        ReadSafetensorsHeader(env_, model_path));
  ABSL_RETURN_IF_ERROR(CheckOfferedLayout(offer, header.layout));
  if (!header.layout.AllF32()) {
    return absl::InvalidArgumentError(
        absl::StrCat(model_path, ": expected all tensors to be F32"));
  }
  ABSL_RETURN_IF_ERROR(PrepareDirectory(offer, kind, model_path));
  const absl::Time start = clock_->Now();
  if (absl::Status status = RunProgram(stop); !status.ok()) {
    return Annotate(status);
  }
  absl::StatusOr<v1::Metrics> metrics = ReadMetrics();
  if (!metrics.ok()) return Annotate(metrics.status());
  metrics->set_seconds(absl::ToDoubleSeconds(clock_->Now() - start));
  return metrics;
}

absl::Status ExternalTrainer::PrepareDirectory(const v1::OfferTask& offer,
                                               absl::string_view kind,
                                               const std::string& model_path) {
  ABSL_ASSIGN_OR_RETURN(const std::string json, TaskJson(offer, kind));
  // A worker that was killed may have left something.
  ABSL_RETURN_IF_ERROR(RemoveTree(directory_));
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(directory_));
  // A copy, not a link: the program may write in place.
  ABSL_RETURN_IF_ERROR(CopyFile(
      env_, model_path, absl::StrCat(directory_, "/model.safetensors")));
  ABSL_ASSIGN_OR_RETURN(const auto task,
                        env_->Open(absl::StrCat(directory_, "/task.json"),
                                   Env::OpenMode::kCreate));
  return task->WriteAt(0, json.data(), json.size());
}

absl::Status ExternalTrainer::RunProgram(const std::atomic<bool>& stop) {
  Command command;
  command.argv.assign(config_.command().begin(), config_.command().end());
  command.environment = Environment(config_, directory_);
  command.directory = directory_;
  command.timeout = absl::Seconds(config_.timeout_seconds());
  int64_t lines = 0;
  const auto on_line = [this, &lines](absl::string_view line) {
    if (++lines > config_.max_log_lines()) return;
    if (line_sink_) return line_sink_(line);
    LogInfo("external trainer",
            {{"trainer", config_.name()}, {"output", line}});
  };
  const absl::Status status = RunCommand(command, *clock_, stop, on_line);
  if (lines > config_.max_log_lines()) {
    LogWarning("external trainer wrote more lines than are logged",
               {{"trainer", config_.name()},
                {"lines", lines},
                {"max_log_lines", config_.max_log_lines()}});
  }
  return status;
}

absl::StatusOr<v1::Metrics> ExternalTrainer::ReadMetrics() {
  const absl::StatusOr<std::string> json = ReadFile(
      env_, absl::StrCat(directory_, "/metrics.json"), kMaxMetricsBytes);
  if (absl::IsNotFound(json.status())) return BadMetrics("the file", "none");
  if (!json.ok()) return json.status();
  ExternalMetrics found;
  const auto parsed =
      google::protobuf::util::JsonStringToMessage(*json, &found);
  if (!parsed.ok()) {
    return BadMetrics(
        "a JSON object of examples, loss, accuracy and steps",
        absl::StrCat("something else (", std::string(parsed.message()), ")"));
  }
  ABSL_RETURN_IF_ERROR(CheckMetrics(found));
  v1::Metrics metrics;
  metrics.set_examples(found.examples());
  metrics.set_loss(found.loss());
  metrics.set_has_accuracy(found.has_accuracy());
  metrics.set_accuracy(found.accuracy());
  metrics.set_steps(found.steps());
  return metrics;
}

absl::Status ExternalTrainer::Annotate(const absl::Status& status) const {
  const absl::StatusCode code = absl::IsCancelled(status)
                                    ? absl::StatusCode::kCancelled
                                    : absl::StatusCode::kInternal;
  return absl::Status(code, absl::StrCat("external trainer ", config_.name(),
                                         ": ", status.message()));
}

}  // namespace koinon::worker
