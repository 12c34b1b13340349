#include "worker/config.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "dht/swarm/merkle.h"

namespace koinon::worker {
namespace {

constexpr size_t kMaxTextBytes = 1 << 20;

// Keeps the first error.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!text_.empty()) return;
    text_ =
        absl::StrCat("line ", line + 1, ", column ", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// `value` is a flag's: text, or "@FILE".
absl::Status ParseText(Env* env, absl::string_view flag,
                       const std::string& value,
                       google::protobuf::Message* message) {
  std::string text = value;
  std::string where(flag);
  if (!value.empty() && value[0] == '@') {
    where = absl::StrCat(flag, " ", value);
    ABSL_ASSIGN_OR_RETURN(text, ReadFile(env, value.substr(1), kMaxTextBytes));
  }
  FirstError error;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(text, message)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", error.text()));
}

template <typename Number>
absl::Status AtLeast(Number least, absl::string_view flag, Number found) {
  if (found >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": expected at least ", least, ", found ", found));
}

absl::Status CheckTls(const WorkerConfig& config) {
  const TlsFiles& tls = config.tls;
  if (config.insecure) {
    if (tls.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--insecure: contradicts --tls-cert, --tls-key and --tls-ca");
  }
  if (!tls.certificate.empty() && !tls.key.empty() && !tls.ca.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "--tls-cert, --tls-key and --tls-ca: all three are needed; or --insecure "
      "for plaintext");
}

void AddPaths(const Source& source, std::vector<std::string>* paths) {
  paths->insert(paths->end(), {source.idx().images(), source.idx().labels(),
                               source.csv().path(), source.npy().features(),
                               source.npy().labels(), source.npz().path(),
                               source.text().path(), source.tokens().path()});
}

}  // namespace

absl::Status WorkerConfig::Validate() const {
  ABSL_RETURN_IF_ERROR(ValidateId("--name", name));
  if (coordinator.empty()) {
    return absl::InvalidArgumentError("--coordinator: expected HOST:PORT");
  }
  if (state_dir.empty()) {
    return absl::InvalidArgumentError("--state-dir: must be given");
  }
  if (datasets.empty()) {
    return absl::InvalidArgumentError(
        "--dataset: a worker without data has nothing to do; give at least "
        "one");
  }
  ABSL_RETURN_IF_ERROR(CheckTls(*this));
  ABSL_RETURN_IF_ERROR(peering.Validate());
  ABSL_RETURN_IF_ERROR(AtLeast(0, "--threads", threads));
  if (mpi != "auto" && mpi != "on" && mpi != "off") {
    return absl::InvalidArgumentError(
        absl::StrCat("--mpi: expected auto, on or off, found ", mpi));
  }
  ABSL_RETURN_IF_ERROR(AtLeast(1.0, "--mpi-timeout", mpi_timeout_seconds));
  ABSL_RETURN_IF_ERROR(
      AtLeast<int64_t>(1, "--max-model-bytes", max_model_bytes));
  if (max_model_bytes > dht::kMaxContentBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-model-bytes: expected at most ",
                     dht::kMaxContentBytes, ", found ", max_model_bytes));
  }
  ABSL_RETURN_IF_ERROR(
      AtLeast<int64_t>(1024, "--max-chunk-bytes", max_chunk_bytes));
  if (max_chunk_bytes > 1 << 30) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-chunk-bytes: expected at most ", 1 << 30,
                     ", found ", max_chunk_bytes));
  }
  ABSL_RETURN_IF_ERROR(
      AtLeast<int64_t>(1, "--model-cache-bytes", model_cache_bytes));
  ABSL_RETURN_IF_ERROR(
      AtLeast<int64_t>(1, "--max-held-updates", max_held_updates));
  ABSL_RETURN_IF_ERROR(AtLeast<int64_t>(1, "--max-held-bytes", max_held_bytes));
  ABSL_RETURN_IF_ERROR(
      AtLeast<int64_t>(1, "--max-control-bytes", max_control_bytes));
  ABSL_RETURN_IF_ERROR(AtLeast(0.0, "--stop-seconds", stop_seconds));
  return AtLeast(0.001, "--external-trainer-timeout",
                 external_trainer_timeout_seconds);
}

absl::StatusOr<std::vector<DatasetConfig>> DatasetConfigs(
    Env* env, const WorkerConfig& config) {
  std::vector<DatasetConfig> datasets;
  for (const std::string& value : config.datasets) {
    ABSL_RETURN_IF_ERROR(
        ParseText(env, "--dataset", value, &datasets.emplace_back()));
  }
  return datasets;
}

absl::StatusOr<std::vector<ExternalTrainerConfig>> ExternalTrainerConfigs(
    Env* env, const WorkerConfig& config) {
  std::vector<ExternalTrainerConfig> trainers;
  for (const std::string& value : config.external_trainers) {
    ExternalTrainerConfig& trainer = trainers.emplace_back();
    if (!value.empty() && value[0] == '@') {
      ABSL_RETURN_IF_ERROR(
          ParseText(env, "--external-trainer", value, &trainer));
    } else {
      const std::vector<std::string> halves =
          absl::StrSplit(value, absl::MaxSplits('=', 1));
      if (halves.size() != 2 || halves[0].empty()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--external-trainer ", value, ": expected NAME=COMMAND"));
      }
      trainer.set_name(halves[0]);
      for (const absl::string_view word : absl::StrSplit(
               halves[1], absl::ByAnyChar(" \t"), absl::SkipEmpty())) {
        trainer.add_command(std::string(word));
      }
    }
    if (trainer.timeout_seconds() == 0) {
      trainer.set_timeout_seconds(config.external_trainer_timeout_seconds);
    }
  }
  return trainers;
}

absl::StatusOr<std::vector<std::string>> PathsIn(Env* env,
                                                 const WorkerConfig& config) {
  std::vector<std::string> paths = {config.state_dir, config.tls.certificate,
                                    config.tls.key, config.tls.ca};
  ABSL_ASSIGN_OR_RETURN(const auto datasets, DatasetConfigs(env, config));
  for (const DatasetConfig& dataset : datasets) {
    AddPaths(dataset.source(), &paths);
    AddPaths(dataset.held_out_source(), &paths);
  }
  ABSL_ASSIGN_OR_RETURN(const auto trainers,
                        ExternalTrainerConfigs(env, config));
  for (const ExternalTrainerConfig& trainer : trainers) {
    if (trainer.command_size() == 0) continue;
    // A bare name is looked up, and tells nothing of where it is.
    const std::string& program = trainer.command(0);
    if (absl::StrContains(program, '/')) paths.push_back(program);
  }
  std::erase(paths, "");
  for (size_t i = 0, given = paths.size(); i < given; ++i) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(paths[i], error);
    if (!error) paths.push_back(absolute.string());
  }
  return paths;
}

}  // namespace koinon::worker
