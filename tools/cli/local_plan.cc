#include "tools/cli/local_plan.h"

#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "google/protobuf/text_format.h"
#include "tools/cli/certs_folder.h"
#include "tools/cli/job_file.h"

namespace koinon::cli {
namespace {

using worker::DatasetConfig;
using worker::PartitionConfig;

absl::Status BadPartition(absl::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("--partition ", text,
                   ": expected none, iid, contiguous, dirichlet:ALPHA, "
                   "shards:PER_SITE or column:NAME"));
}

// Not for "none".
absl::StatusOr<PartitionConfig> ParsePartition(absl::string_view text) {
  PartitionConfig partition;
  const size_t colon = text.find(':');
  const absl::string_view kind = text.substr(0, colon);
  const absl::string_view value =
      colon == absl::string_view::npos ? "" : text.substr(colon + 1);
  double alpha = 0;
  int64_t per_site = 0;
  if (text == "iid") {
    partition.mutable_iid();
  } else if (text == "contiguous") {
    partition.mutable_contiguous();
  } else if (kind == "dirichlet" && absl::SimpleAtod(value, &alpha) &&
             alpha > 0) {
    partition.mutable_dirichlet()->set_alpha(alpha);
  } else if (kind == "shards" && absl::SimpleAtoi(value, &per_site) &&
             per_site > 0) {
    partition.mutable_shards()->set_per_site(per_site);
  } else if (kind == "column" && !value.empty()) {
    partition.mutable_by_column()->set_column(std::string(value));
  } else {
    return BadPartition(text);
  }
  return partition;
}

bool IsProgram(const std::string& path) {
  return access(path.c_str(), X_OK) == 0;
}

std::string DirOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

absl::StatusOr<std::string> FindProgram(const std::vector<std::string>& dirs,
                                        const std::string& room) {
  std::vector<std::string> tried;
  for (const std::string& dir : dirs) {
    for (const std::string& path :
         {absl::StrCat(dir, "/koinon-", room),
          absl::StrCat(dir, "/", room, "/koinon-", room)}) {
      if (IsProgram(path)) return path;
      tried.push_back(path);
    }
  }
  return absl::NotFoundError(absl::StrCat("no koinon-", room, "; looked for ",
                                          absl::StrJoin(tried, ", "),
                                          "; --bin-dir names its folder"));
}

std::string OneLine(const DatasetConfig& config) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(config, &text);
  return text;
}

void AddTlsFlags(const LocalPlan& plan, const std::string& stem,
                 std::vector<std::string>* command) {
  if (plan.insecure) {
    command->push_back("--insecure");
    return;
  }
  const TlsFiles files = FilesInCertsFolder(CertsDirOf(plan), stem);
  command->insert(command->end(), {"--tls-cert", files.certificate, "--tls-key",
                                   files.key, "--tls-ca", files.ca});
}

}  // namespace

absl::StatusOr<std::vector<DatasetConfig>> ParseDatasets(
    const std::vector<std::string>& texts, absl::string_view partition,
    int workers) {
  std::vector<DatasetConfig> datasets;
  for (const std::string& text : texts) {
    DatasetConfig config;
    ABSL_RETURN_IF_ERROR(
        ParseTextArgument(RealEnv(), "--dataset", text, &config));
    if (!config.has_partition() && partition.empty() && workers > 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "dataset \"", config.name(), "\": how ", workers,
          " workers share it is not said: give --partition (none: every worker "
          "has all of it)"));
    }
    if (!config.has_partition() && !partition.empty() && partition != "none") {
      ABSL_ASSIGN_OR_RETURN(*config.mutable_partition(),
                            ParsePartition(partition));
    }
    if (config.has_partition()) config.mutable_partition()->set_sites(workers);
    datasets.push_back(std::move(config));
  }
  return datasets;
}

absl::StatusOr<Programs> FindPrograms(const std::string& bin_dir,
                                      const std::string& own_path) {
  std::vector<std::string> dirs;
  if (!bin_dir.empty()) {
    dirs = {bin_dir};
  } else {
    dirs = {DirOf(own_path), DirOf(DirOf(own_path))};
  }
  Programs programs;
  ABSL_ASSIGN_OR_RETURN(programs.coordinator, FindProgram(dirs, "coordinator"));
  ABSL_ASSIGN_OR_RETURN(programs.worker, FindProgram(dirs, "worker"));
  return programs;
}

std::string LocalWorkerName(int index) {
  return absl::StrCat("worker-", index);
}

std::string CertsDirOf(const LocalPlan& plan) {
  return plan.state_dir + "/certs";
}

std::string PortFileOf(const LocalPlan& plan) {
  return plan.state_dir + "/coordinator.port";
}

std::string LogFileOf(const LocalPlan& plan, absl::string_view process) {
  return absl::StrCat(plan.state_dir, "/logs/", process, ".log");
}

std::string StateDirOf(const LocalPlan& plan, absl::string_view process) {
  return absl::StrCat(plan.state_dir, "/", process);
}

std::vector<std::string> CoordinatorCommand(const LocalPlan& plan,
                                            const std::string& listen) {
  std::vector<std::string> command = {plan.coordinator_program,
                                      "--listen",
                                      listen,
                                      "--federation",
                                      plan.federation,
                                      "--state-dir",
                                      StateDirOf(plan, "coordinator"),
                                      "--port-file",
                                      PortFileOf(plan)};
  AddTlsFlags(plan, "server", &command);
  command.insert(command.end(), plan.coordinator_flags.begin(),
                 plan.coordinator_flags.end());
  return command;
}

std::vector<std::string> WorkerCommand(const LocalPlan& plan, int index,
                                       const std::string& coordinator) {
  const std::string name = LocalWorkerName(index);
  std::vector<std::string> command = {
      plan.worker_program,    "--name",    name,
      "--coordinator",        coordinator, "--state-dir",
      StateDirOf(plan, name), "--threads", absl::StrCat(plan.worker_threads)};
  AddTlsFlags(plan, absl::StrCat("worker-", name), &command);
  // They are on one machine: what one has, the others need not fetch from the
  // coordinator.
  command.insert(command.end(), {"--peer-listen", "127.0.0.1:0"});
  if (plan.insecure) {
    command.insert(command.end(), {"--federation", plan.federation});
  }
  for (DatasetConfig config : plan.datasets) {
    if (config.has_partition()) {
      config.mutable_partition()->set_site(index - 1);
    }
    command.insert(command.end(), {"--dataset", OneLine(config)});
  }
  for (const std::string& trainer : plan.external_trainers) {
    command.insert(command.end(), {"--external-trainer", trainer});
  }
  command.insert(command.end(), plan.worker_flags.begin(),
                 plan.worker_flags.end());
  return command;
}

}  // namespace koinon::cli
