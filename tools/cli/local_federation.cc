#include "tools/cli/local_federation.h"

#include <signal.h>

#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/certs_folder.h"

namespace koinon::cli {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr absl::Duration kStopTimeout = absl::Seconds(10);
constexpr absl::Duration kRestartDelay = absl::Seconds(3);
constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr char kOperator[] = "operator";

// What the coordinator can be reached by, from its --listen.
std::string HostOf(const std::string& listen) {
  std::string host = listen.substr(0, listen.rfind(':'));
  if (absl::StartsWith(host, "[")) host = host.substr(1, host.size() - 2);
  return host;
}

}  // namespace

LocalFederation::LocalFederation(LocalPlan plan, Say say, Pause pause)
    : plan_(std::move(plan)), say_(std::move(say)), pause_(std::move(pause)) {}

absl::Status LocalFederation::Start() {
  ABSL_RETURN_IF_ERROR(PrepareFolders());
  if (!plan_.insecure) ABSL_RETURN_IF_ERROR(MakeCertificates());
  ABSL_RETURN_IF_ERROR(StartCoordinator());
  ABSL_RETURN_IF_ERROR(StartWorkers());
  return AwaitWorkers();
}

absl::Status LocalFederation::PrepareFolders() {
  ABSL_RETURN_IF_ERROR(RealEnv()->MakeDirs(plan_.state_dir + "/logs"));
  // A port of an earlier run must not be taken for this one's.
  const absl::Status removed = RealEnv()->Remove(PortFileOf(plan_));
  return removed.code() == absl::StatusCode::kNotFound ? absl::OkStatus()
                                                       : removed;
}

absl::Status LocalFederation::MakeCertificates() {
  CertsPlan certs;
  certs.dir = CertsDirOf(plan_);
  certs.federation = plan_.federation;
  certs.days = 365;
  certs.authority_days = 3650;
  certs.extend = RealEnv()->Exists(certs.dir + "/ca.pem");
  if (!RealEnv()->Exists(certs.dir + "/server.pem")) {
    certs.hosts = {"localhost", "127.0.0.1", "::1"};
    const std::string host = HostOf(plan_.listen);
    if (absl::c_find(certs.hosts, host) == certs.hosts.end()) {
      certs.hosts.push_back(host);
    }
  }
  if (!RealEnv()->Exists(certs.dir + "/client-operator.pem")) {
    certs.clients = {kOperator};
  }
  for (int i = 1; i <= plan_.workers; ++i) {
    const std::string name = LocalWorkerName(i);
    if (!RealEnv()->Exists(absl::StrCat(certs.dir, "/worker-", name, ".pem"))) {
      certs.workers.push_back(name);
    }
  }
  return MakeCertsFolder(RealEnv(), certs, RealClock().Now());
}

absl::Status LocalFederation::Launch(Process* process) {
  ABSL_ASSIGN_OR_RETURN(
      process->child,
      ChildProcess::Start(process->command, LogFileOf(plan_, process->name)));
  process->restart_at = absl::InfiniteFuture();
  return absl::OkStatus();
}

absl::Status LocalFederation::KeepWaiting(absl::Time deadline,
                                          const std::string& what) {
  for (Process& process : processes_) {
    if (const auto end = process.child->Poll(); end.has_value()) {
      return absl::FailedPreconditionError(
          absl::StrCat(process.name, " ended with ", *end,
                       "; its log: ", LogFileOf(plan_, process.name)));
    }
  }
  if (absl::Now() > deadline) {
    return absl::DeadlineExceededError(
        absl::StrCat("waited ", absl::FormatDuration(kStartTimeout), " for ",
                     what, "; logs: ", plan_.state_dir, "/logs"));
  }
  if (pause_(kPoll)) return absl::CancelledError("stopped while starting");
  return absl::OkStatus();
}

absl::Status LocalFederation::StartCoordinator() {
  processes_.push_back(
      {"coordinator", CoordinatorCommand(plan_, plan_.listen), nullptr});
  Process& coordinator = processes_.back();
  ABSL_RETURN_IF_ERROR(Launch(&coordinator));
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (!RealEnv()->Exists(PortFileOf(plan_))) {
    ABSL_RETURN_IF_ERROR(KeepWaiting(deadline, "the coordinator's port"));
  }
  ABSL_ASSIGN_OR_RETURN(const std::string text,
                        ReadFile(RealEnv(), PortFileOf(plan_), 64));
  int port = 0;
  if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &port)) {
    return absl::InternalError(
        absl::StrCat(PortFileOf(plan_), ": expected a port, found ", text));
  }
  const std::string listen_host =
      plan_.listen.substr(0, plan_.listen.rfind(':'));
  connection_.coordinator = absl::StrCat(listen_host, ":", port);
  connection_.insecure = plan_.insecure;
  if (!plan_.insecure) connection_.certs_dir = CertsDirOf(plan_);
  connection_.identity = kOperator;
  // Started again it must come up where the workers look for it.
  coordinator.command = CoordinatorCommand(plan_, connection_.coordinator);
  return absl::OkStatus();
}

absl::Status LocalFederation::StartWorkers() {
  for (int i = 1; i <= plan_.workers; ++i) {
    processes_.push_back({LocalWorkerName(i),
                          WorkerCommand(plan_, i, connection_.coordinator),
                          nullptr});
    ABSL_RETURN_IF_ERROR(Launch(&processes_.back()));
  }
  return absl::OkStatus();
}

absl::Status LocalFederation::AwaitWorkers() {
  ABSL_ASSIGN_OR_RETURN(const auto client, Connect(connection_));
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (true) {
    ABSL_ASSIGN_OR_RETURN(const v1::ListNodesReply nodes, client->ListNodes());
    int connected = 0;
    for (const v1::Node& node : nodes.nodes()) {
      if (node.state() == v1::Node::CONNECTED) ++connected;
    }
    if (connected >= plan_.workers) return absl::OkStatus();
    ABSL_RETURN_IF_ERROR(
        KeepWaiting(deadline, absl::StrCat("all workers, ", connected, " of ",
                                           plan_.workers, " are connected")));
  }
}

void LocalFederation::Supervise() {
  const absl::Time now = absl::Now();
  for (Process& process : processes_) {
    if (process.child != nullptr) {
      const auto end = process.child->Poll();
      if (!end.has_value()) continue;
      process.child.reset();
      process.restart_at = now + kRestartDelay;
      say_(absl::StrCat("    * ", process.name, " ended with ", *end,
                        ", will be started again in ",
                        absl::FormatDuration(kRestartDelay)));
    } else if (now >= process.restart_at) {
      const absl::Status status = Launch(&process);
      if (status.ok()) {
        say_(absl::StrCat("    * ", process.name, " is started again"));
      } else {
        process.restart_at = now + kRestartDelay;
        say_(absl::StrCat("    * ", process.name, ": ", status.message()));
      }
    }
  }
}

absl::Status LocalFederation::Kill(const std::string& worker) {
  for (Process& process : processes_) {
    if (process.name != worker || process.name == "coordinator") continue;
    if (process.child != nullptr) process.child->Signal(SIGKILL);
    return absl::OkStatus();
  }
  return absl::NotFoundError(absl::StrCat("no worker ", worker, ": there are ",
                                          LocalWorkerName(1), " to ",
                                          LocalWorkerName(plan_.workers)));
}

void LocalFederation::Stop() {
  const auto stop = [](Process& process) {
    if (process.child != nullptr) process.child->Signal(SIGTERM);
  };
  const auto await = [this](Process& process, absl::Time deadline) {
    if (process.child == nullptr) return;
    const absl::Duration left = deadline - absl::Now();
    if (!process.child->Wait(left).has_value()) {
      say_(absl::StrCat(process.name, " does not stop and is killed"));
    }
    process.child.reset();
  };
  absl::Time deadline = absl::Now() + kStopTimeout;
  for (size_t i = 1; i < processes_.size(); ++i) stop(processes_[i]);
  for (size_t i = 1; i < processes_.size(); ++i) await(processes_[i], deadline);
  if (processes_.empty()) return;
  deadline = absl::Now() + kStopTimeout;
  stop(processes_[0]);
  await(processes_[0], deadline);
}

}  // namespace koinon::cli
