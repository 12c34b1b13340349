#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <climits>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/status_macros.h"
#include "tools/cli/commands.h"
#include "tools/cli/job_file.h"
#include "tools/cli/local_federation.h"
#include "tools/cli/manifest_signer.h"
#include "tools/cli/pull.h"
#include "tools/cli/traffic.h"
#include "tools/cli/watch.h"
#include "worker/data/dataset.h"

namespace koinon::cli {
namespace {

struct Options {
  LocalPlan plan;
  std::string bin_dir;
  std::vector<std::string> datasets;
  std::string partition;
  std::string job_file;
  std::string save_model;
  std::string kill_worker;  // NAME@ROUND
  bool exit_when_done = false;
};

constexpr absl::Duration kTick = absl::Milliseconds(100);

// Ctrl-C and SIGTERM, taken where they can be dealt with.
class Interrupts {
 public:
  // Before any thread is started: threads inherit the mask.
  Interrupts() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  // True if one came.
  bool WaitFor(absl::Duration duration) {
    const timespec timeout = absl::ToTimespec(duration);
    if (sigtimedwait(&set_, nullptr, &timeout) > 0) came_ = true;
    return came_;
  }

 private:
  sigset_t set_;
  bool came_ = false;
};

std::string OwnPath() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : "";
}

struct KillPlan {
  std::string worker;
  int64_t round = 0;
};

absl::StatusOr<std::optional<KillPlan>> ParseKillPlan(const std::string& text) {
  if (text.empty()) return std::nullopt;
  KillPlan plan;
  const size_t at = text.find('@');
  if (at == std::string::npos || at == 0 ||
      !absl::SimpleAtoi(text.substr(at + 1), &plan.round) || plan.round < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--kill-worker ", text, ": expected NAME@ROUND, such as worker-3@5"));
  }
  plan.worker = text.substr(0, at);
  return plan;
}

// A submitted job, watched from a thread of its own.
class WatchedJob {
 public:
  WatchedJob(std::unique_ptr<Client> client, std::string name)
      : client_(std::move(client)),
        name_(std::move(name)),
        printer_(stdout, WatchStyleFor(stdout, false)) {
    thread_ = std::thread([this] { Watch(); });
  }
  // Detached streams cannot be joined: Stop the coordinator first, or let the
  // job end.
  ~WatchedJob() { thread_.join(); }

  bool done() const { return done_; }
  int64_t round() const { return round_; }
  // Valid once done.
  const absl::StatusOr<v1::JobStatus>& result() const { return result_; }
  Client* client() { return client_.get(); }
  const std::string& name() const { return name_; }
  WatchPrinter& printer() { return printer_; }
  // The stream will not be opened again.
  void GiveUp() { giving_up_ = true; }

 private:
  void Watch() {
    // Retried here, not there, because the end of the federation must end it.
    const WatchOptions options{
        .from_start = true, .retries = 0, .retry_delay = absl::ZeroDuration()};
    do {
      result_ = WatchUntilEnd(client_.get(), name_, options,
                              [this](const v1::JobEvent& event) {
                                if (event.has_status()) {
                                  round_ = event.status().round();
                                }
                                printer_.OnEvent(event);
                              });
      if (!absl::IsUnavailable(result_.status())) break;
      usleep(200'000);
    } while (!giving_up_);
    printer_.Finish();
    done_ = true;
  }

  const std::unique_ptr<Client> client_;
  const std::string name_;
  WatchPrinter printer_;
  absl::StatusOr<v1::JobStatus> result_ = absl::UnknownError("not watched");
  std::atomic<int64_t> round_{0};
  std::atomic<bool> done_{false};
  std::atomic<bool> giving_up_{false};
  std::thread thread_;
};

absl::Status CompletePlan(Options* options) {
  LocalPlan& plan = options->plan;
  ABSL_ASSIGN_OR_RETURN(const Programs programs,
                        FindPrograms(options->bin_dir, OwnPath()));
  plan.coordinator_program = programs.coordinator;
  plan.worker_program = programs.worker;
  ABSL_ASSIGN_OR_RETURN(
      plan.datasets,
      ParseDatasets(options->datasets, options->partition, plan.workers));
  for (const worker::DatasetConfig& config : plan.datasets) {
    if (!config.has_partition()) continue;
    ABSL_ASSIGN_OR_RETURN(const std::string table,
                          worker::DescribePartition(RealEnv(), config));
    std::printf("%s\n", table.c_str());
  }
  return absl::OkStatus();
}

void PrintHowToTalk(const LocalPlan& plan,
                    const ConnectionOptions& connection) {
  std::printf("coordinator at %s, %d workers, logs in %s/logs\n",
              connection.coordinator.c_str(), plan.workers,
              plan.state_dir.c_str());
  std::printf(
      "  export KOINON_COORDINATOR=%s%s%s\n", connection.coordinator.c_str(),
      plan.insecure ? "" : " KOINON_CERTS=", connection.certs_dir.c_str());
  if (plan.insecure) std::printf("  (plaintext: add --insecure)\n");
  std::printf("\n");
  std::fflush(stdout);
}

absl::StatusOr<std::unique_ptr<WatchedJob>> SubmitAndWatch(
    const v1::JobSpec& spec, const ConnectionOptions& connection) {
  ABSL_ASSIGN_OR_RETURN(auto client, Connect(connection));
  ABSL_ASSIGN_OR_RETURN(const v1::SubmitJobReply reply,
                        client->SubmitJob(spec));
  return std::make_unique<WatchedJob>(std::move(client), reply.status().name());
}

// How all base versions of the job came to the workers, as the rounds' reports
// have it.
absl::Status PrintTraffic(WatchedJob* job) {
  v1::SwarmTraffic total;
  int64_t after = 0;
  while (true) {
    ABSL_ASSIGN_OR_RETURN(
        const v1::ListRoundsReply reply,
        job->client()->ListRounds(job->name(), after, /*limit=*/0));
    if (reply.rounds().empty()) break;
    for (const v1::RoundReport& report : reply.rounds()) {
      AddTraffic(report.distribution(), &total);
      after = report.round();
    }
  }
  std::printf("model versions: %s\n", DescribeTraffic(total).c_str());
  return absl::OkStatus();
}

absl::Status SaveModel(WatchedJob* job, const ConnectionOptions& connection,
                       const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const auto authority, ConnectionAuthority(connection));
  SignerTrust trust;
  trust.authority = authority.get();
  trust.take_uncertified = true;  // it comes from the coordinator itself
  const ModelSource source = [job](const v1::PullModelRequest& request,
                                   const Client::OnPart& on_part) {
    return job->client()->PullModel(request, on_part);
  };
  ABSL_ASSIGN_OR_RETURN(
      const v1::ModelManifest manifest,
      PullModelToFile(
          RealEnv(), source, {job->name(), -1}, path, LLONG_MAX,
          [](int64_t, int64_t) {},
          [&trust](const v1::ModelManifest& m) {
            return CheckSignedModel(m, trust, RealClock().Now()).status();
          }));
  std::printf("%s@%lld saved as %s\n", manifest.job().c_str(),
              static_cast<long long>(manifest.version()), path.c_str());
  return absl::OkStatus();
}

// Watches over the federation until the user, or the job's end, stops it.
absl::Status RunUntilStopped(const Options& options,
                             LocalFederation* federation, WatchedJob* job,
                             std::optional<KillPlan> kill,
                             Interrupts* interrupts) {
  bool saved = false;
  while (!interrupts->WaitFor(kTick)) {
    federation->Supervise();
    if (job == nullptr) continue;
    if (kill.has_value() && job->round() >= kill->round) {
      job->printer().Note(absl::StrCat("    * kill -9 ", kill->worker));
      ABSL_RETURN_IF_ERROR(federation->Kill(kill->worker));
      kill.reset();
    }
    if (!job->done() || saved) continue;
    ABSL_RETURN_IF_ERROR(job->result().status());
    saved = true;
    ABSL_RETURN_IF_ERROR(PrintTraffic(job));
    if (!options.save_model.empty() &&
        job->result()->state() == v1::SUCCEEDED) {
      ABSL_RETURN_IF_ERROR(
          SaveModel(job, federation->connection(), options.save_model));
    }
    if (options.exit_when_done) return absl::OkStatus();
  }
  return absl::OkStatus();
}

ExitCode RunUp(Options options) {
  Interrupts interrupts;
  std::optional<v1::JobSpec> spec;
  if (!options.job_file.empty()) {
    auto read = ReadJobFile(RealEnv(), options.job_file);
    if (!read.ok()) return Report(read.status());
    spec = *std::move(read);
  }
  const auto kill = ParseKillPlan(options.kill_worker);
  if (!kill.ok()) return Report(kill.status());
  if (const auto status = CompletePlan(&options); !status.ok()) {
    return Report(status);
  }
  std::atomic<WatchedJob*> watched{nullptr};
  LocalFederation federation(
      options.plan,
      [&watched](const std::string& line) {
        WatchedJob* job = watched;
        if (job != nullptr && !job->done()) {
          job->printer().Note(line);
        } else {
          std::printf("%s\n", line.c_str());
          std::fflush(stdout);
        }
      },
      [&interrupts](absl::Duration d) { return interrupts.WaitFor(d); });
  if (const absl::Status status = federation.Start(); !status.ok()) {
    federation.Stop();
    return Report(status);
  }
  PrintHowToTalk(options.plan, federation.connection());

  std::unique_ptr<WatchedJob> job;
  if (spec.has_value()) {
    auto submitted = SubmitAndWatch(*spec, federation.connection());
    if (!submitted.ok()) {
      federation.Stop();
      return Report(submitted.status());
    }
    job = *std::move(submitted);
    watched = job.get();
  }
  const absl::Status status =
      RunUntilStopped(options, &federation, job.get(), *kill, &interrupts);
  if (job != nullptr) job->GiveUp();
  federation.Stop();
  if (!status.ok()) return Report(status);
  if (job == nullptr || !job->done() || !job->result().ok()) {
    return ExitCode::kOk;  // stopped by the user
  }
  return job->result()->state() == v1::SUCCEEDED ? ExitCode::kOk
                                                 : ExitCode::kJobFailed;
}

void AddJobFlags(CLI::App* command, Options* options) {
  const std::string group = "Job";
  auto* job = command->add_option("--job", options->job_file,
                                  "Submit this job file and watch it");
  job->group(group);
  command
      ->add_flag("--exit-when-done", options->exit_when_done,
                 "Stop when the job has ended; exit code 4 if it failed")
      ->needs(job)
      ->group(group);
  command
      ->add_option("--save-model", options->save_model,
                   "Where to put the job's final model")
      ->needs(job)
      ->group(group);
  command
      ->add_option(
          "--kill-worker", options->kill_worker,
          "NAME@ROUND: kill -9 that worker in that round, and start it "
          "again seconds later, to see the federation go on")
      ->needs(job)
      ->group(group);
}

void AddFederationFlags(CLI::App* command, Options* options) {
  LocalPlan& plan = options->plan;
  plan.state_dir = "koinon-local";
  command->add_option("--workers,-n", plan.workers, "How many workers")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option(
          "--dataset", options->datasets,
          "What the workers have: a DatasetConfig in protobuf text, or "
          "@FILE (docs/data.md); repeatable")
      ->allow_extra_args(false);
  command->add_option("--partition", options->partition,
                      "How the workers share it: none, iid, contiguous, "
                      "dirichlet:ALPHA, shards:PER_SITE or column:NAME");
  command
      ->add_option("--external-trainer", plan.external_trainers,
                   "NAME=COMMAND, for every worker; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--state-dir", plan.state_dir,
                   "Certificates, state and logs; a later run goes on there")
      ->capture_default_str();
  command
      ->add_option("--federation", plan.federation,
                   "The federation's name, as in its certificates")
      ->capture_default_str();
  command
      ->add_option("--listen", plan.listen,
                   "The coordinator's HOST:PORT; port 0: any")
      ->capture_default_str();
  command
      ->add_option("--threads", plan.worker_threads, "Threads of each worker")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--bin-dir", options->bin_dir,
                      "Where koinon-coordinator and koinon-worker are");
  command
      ->add_option("--coordinator-flag", plan.coordinator_flags,
                   "A flag for the coordinator, such as "
                   "--coordinator-flag=--lease-seconds=5; repeatable")
      ->allow_extra_args(false);
  command
      ->add_option("--worker-flag", plan.worker_flags,
                   "A flag for the workers; repeatable")
      ->allow_extra_args(false);
  command->add_flag("--insecure", plan.insecure,
                    "Plaintext between the processes");
}

}  // namespace

void AddUpCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* command = app->add_subcommand(
      "up", "Runs a whole federation on this machine until ctrl-C");
  AddFederationFlags(command, options.get());
  AddJobFlags(command, options.get());
  command->footer(
      "A coordinator and its workers run as separate processes, with mutual\n"
      "TLS and certificates made on the spot; one that ends is started again.\n"
      "Example:\n"
      "  koinon up --workers 8 --partition dirichlet:0.5 --job digits.txtpb "
      "\\\n"
      "    --dataset 'name: \"digits\" shape: [1, 8, 8]\n"
      "      source { csv { path: \"digits.csv\" label: \"label\" } }'");
  command->callback([options, exit_code] { *exit_code = RunUp(*options); });
}

}  // namespace koinon::cli
