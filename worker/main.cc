#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/absl_mutexes.h"
#include "base/clock.h"
#include "base/clock_watch.h"
#include "base/descriptor_limit.h"
#include "base/env.h"
#include "base/log.h"
#include "base/state_lock.h"
#include "base/status_macros.h"
#include "base/tls.h"
#include "base/version.h"
#include "worker/capabilities.h"
#include "worker/client/grpc_client.h"
#include "worker/collective/site_trainer.h"
#include "worker/config.h"
#include "worker/models/peer_models.h"
#include "worker/server.h"
#include "worker/site.h"
#include "worker/store/control_store.h"
#include "worker/train/trainer_set.h"

namespace koinon::worker {
namespace {

// Documented in docs/operations.md.
enum ExitCode {
  kExitOk = 0,
  kExitFailed = 1,        // could not start
  kExitUsage = 2,         // flags, configuration, data or certificates
  kExitStateInUse = 3,    // another worker runs with this state directory
  kExitSecondSignal = 4,  // asked to end at once
};

// Between a rank's finding that another is gone and its ending the site.
constexpr absl::Duration kLastWords = absl::Seconds(3);

struct Flags {
  WorkerConfig config;
  std::string log_format = "text";
  std::string log_level = "info";
};

void AddBounds(CLI::App* app, WorkerConfig* config) {
  app->add_option("--max-model-bytes", config->max_model_bytes,
                  "Larger models are refused")
      ->capture_default_str();
  app->add_option("--max-chunk-bytes", config->max_chunk_bytes,
                  "Of an update's chunks, when it is pushed")
      ->capture_default_str();
  app->add_option("--model-cache-bytes", config->model_cache_bytes,
                  "Disk for model versions")
      ->capture_default_str();
  app->add_option("--max-held-updates", config->max_held_updates,
                  "Finished updates kept until their rounds are closed")
      ->capture_default_str();
  app->add_option("--max-held-bytes", config->max_held_bytes, "Disk for them")
      ->capture_default_str();
  app->add_option("--max-control-bytes", config->max_control_bytes,
                  "Disk for control variates (SCAFFOLD)")
      ->capture_default_str();
  app->add_option("--stop-seconds", config->stop_seconds,
                  "How long a stop waits for training to end")
      ->capture_default_str();
}

void AddPeering(CLI::App* app, PeeringSpec* peering) {
  app->add_option("--peer-listen", peering->listen,
                  "HOST:PORT to serve model versions to other nodes on; port "
                  "0: any. Without it this worker serves nobody");
  app->add_option("--peer-address", peering->address,
                  "HOST:PORT that others reach it by, if not --peer-listen");
  app->add_flag("--cross-site", peering->cross_site,
                "Exchange model versions with nodes of other sites too");
  app->add_option("--site", peering->site,
                  "Where this worker is; over TLS its certificate says it");
  app->add_option("--federation", peering->federation,
                  "The federation's name, in plaintext (default: koinon); over "
                  "TLS its certificate says it");
  app->add_option("--bootstrap", peering->bootstrap,
                  "HOST:PORT of a node to join by, beside the coordinator; "
                  "repeatable")
      ->allow_extra_args(false);
  app->add_option("--keep-versions", peering->keep_versions,
                  "Newest versions of each job to keep and serve; 0: all")
      ->capture_default_str();
  app->add_option("--keep-every", peering->keep_every,
                  "Keep versions divisible by this too; 0: none")
      ->capture_default_str();
  app->add_option("--pin", peering->pinned,
                  "JOB@VERSION to keep in any case; repeatable")
      ->allow_extra_args(false);
  app->add_flag("--no-deltas", peering->no_deltas,
                "Fetch versions whole, never as the difference to one that is "
                "here");
}

void AddFlags(CLI::App* app, Flags* flags) {
  WorkerConfig& config = flags->config;
  app->set_version_flag("--version", std::string(kSoftwareVersion));
  app->set_config("--config", "",
                  "Read flags from a file (TOML: name = value)");
  app->add_option("--name", config.name,
                  "This worker's name, as in its certificate");
  app->add_option("--coordinator", config.coordinator, "HOST:PORT");
  app->add_option("--state-dir", config.state_dir,
                  "Kept updates, model versions, control variates, records, "
                  "the node's key; this worker's alone");
  app->add_option("--dataset", config.datasets,
                  "What data there is and how to read it: protobuf text "
                  "(DatasetConfig), or @FILE; repeatable")
      ->allow_extra_args(false);
  app->add_option("--external-trainer", config.external_trainers,
                  "NAME=COMMAND that jobs may ask for, or @FILE "
                  "(ExternalTrainerConfig); repeatable")
      ->allow_extra_args(false);
  app->add_option("--external-trainer-timeout",
                  config.external_trainer_timeout_seconds,
                  "Seconds for one task of an external trainer")
      ->capture_default_str();
  app->add_option("--threads", config.threads,
                  "To train with; 0: every processor available, divided among "
                  "the ranks of this node")
      ->capture_default_str();
  app->add_option("--mpi", config.mpi,
                  "Whether this is one rank of a site: on, off, or auto: if it "
                  "was started by mpirun")
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->capture_default_str();
  app->add_option("--mpi-timeout", config.mpi_timeout_seconds,
                  "Seconds without progress of a rank until the site ends")
      ->capture_default_str();
  app->add_option("--tls-cert", config.tls.certificate,
                  "This worker's certificate chain, PEM");
  app->add_option("--tls-key", config.tls.key, "Its private key, PEM");
  app->add_option("--tls-ca", config.tls.ca, "The federation's CA, PEM");
  app->add_flag("--insecure", config.insecure,
                "Plaintext: no TLS, everybody on the way can read and change "
                "everything");
  AddPeering(app, &config.peering);
  AddBounds(app, &config);
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level,
                  "debug, info, warning, error or off")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
  app->footer(
      "Examples:\n"
      "  koinon-worker --name ward-a --coordinator fl.example:7070 \\\n"
      "    --state-dir /var/lib/koinon-worker --dataset "
      "@/etc/koinon/scans.txtpb \\\n"
      "    --tls-cert worker.pem --tls-key worker.key --tls-ca ca.pem\n"
      "  koinon-worker --name w1 --coordinator 127.0.0.1:7070 --state-dir w1 "
      "\\\n"
      "    --dataset 'name: \"digits\" source { csv { path: \"digits.csv\" "
      "label: "
      "\"digit\" } }' \\\n"
      "    --insecure\n"
      "\n"
      "Exit codes: 0 stopped as asked; 1 could not start; 2 flags, "
      "configuration,\ndata or certificates are wrong; 3 another worker uses "
      "the state directory;\n4 stopped at once by a second signal.");
}

// Whatever the operator has to mend.
int ExitCodeFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
      return kExitUsage;
    default:
      return kExitFailed;
  }
}

absl::StatusOr<std::unique_ptr<GrpcClient>> NewClient(
    const WorkerConfig& config, const Clock& clock) {
  GrpcClient::Options options;
  options.target = config.coordinator;
  options.max_chunk_bytes = config.max_chunk_bytes;
  if (config.insecure) {
    LogWarning("plaintext: anybody on the way can read and change everything",
               {{"coordinator", config.coordinator}});
    options.credentials = MakeInsecureChannelCredentials();
  } else {
    ABSL_ASSIGN_OR_RETURN(
        options.credentials,
        MakeChannelCredentials(RealEnv(), config.tls, clock.Now()));
  }
  return GrpcClient::Create(std::move(options));
}

Worker::Spec SpecOf(const WorkerConfig& config) {
  Worker::Spec spec;
  spec.name = config.name;
  spec.state_dir = config.state_dir;
  spec.max_held_updates = static_cast<size_t>(config.max_held_updates);
  spec.max_held_bytes = static_cast<uint64_t>(config.max_held_bytes);
  spec.max_chunk_bytes = config.max_chunk_bytes;
  spec.stop_patience = absl::Seconds(config.stop_seconds);
  return spec;
}

PeerModels::Spec ModelsSpecOf(const WorkerConfig& config) {
  PeerModels::Spec spec;
  spec.worker = config.name;
  spec.coordinator = config.coordinator;
  spec.state_dir = config.state_dir;
  spec.tls = config.tls;
  spec.peering = config.peering;
  spec.max_model_bytes = config.max_model_bytes;
  spec.max_cache_bytes = static_cast<uint64_t>(config.model_cache_bytes);
  return spec;
}

absl::StatusOr<std::unique_ptr<ControlStore>> OpenControls(
    const WorkerConfig& config) {
  ControlStore::Options options;
  options.max_bytes = static_cast<uint64_t>(config.max_control_bytes);
  return ControlStore::Open(
      RealEnv(), absl::StrCat(config.state_dir, "/controls"), options);
}

NativeTrainer::Options NativeOptions(const WorkerConfig& config, int threads,
                                     const Site& site) {
  NativeTrainer::Options options;
  options.threads = threads;
  options.max_model_bytes = static_cast<uint64_t>(config.max_model_bytes);
  options.site = site.communicator();
  return options;
}

TrainerSet::Options TrainerOptions(const WorkerConfig& config,
                                   std::vector<ExternalTrainerConfig> external,
                                   ControlStore* controls, int threads,
                                   const Site& site) {
  TrainerSet::Options options;
  options.native = NativeOptions(config, threads, site);
  options.native.controls = controls;
  options.external = std::move(external);
  options.scratch_dir = absl::StrCat(config.state_dir, "/scratch");
  return options;
}

// Whether the end has begun, by a signal or by a site that broke.
std::atomic<bool> stopping{false};

// Waits for a signal; a second one ends the process at once, except that mpirun
// has its own way to end ranks.
void WaitForSignal(const sigset_t& signals, const Site& site) {
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  stopping = true;
  LogInfo("stopping", {{"signal", signal_number}});
  if (site.communicator() != nullptr) return;
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    std::_Exit(kExitSecondSignal);
  }).detach();
}

absl::StatusOr<LocalDatasets> LoadData(const WorkerConfig& config) {
  ABSL_ASSIGN_OR_RETURN(const auto configs, DatasetConfigs(RealEnv(), config));
  return LoadLocalDatasets(RealEnv(), configs);
}

// The life of a rank other than the first.
absl::Status Follow(const WorkerConfig& config, const Clock& clock,
                    const LocalDatasets& datasets, int threads,
                    const Site& site) {
  NativeTrainer trainer(RealEnv(), &clock, &datasets,
                        NativeOptions(config, threads, site));
  const absl::Status status = FollowSite(&trainer, site.communicator());
  if (status.ok()) return status;
  // Rank 0 ends the site after it has told the coordinator; if it still can.
  absl::SleepFor(kLastWords);
  site.communicator()->Abort(status.message());
  return status;  // not reached
}

// Runs until a signal comes.
absl::Status Lead(const WorkerConfig& config, const Clock& clock,
                  const LocalDatasets& datasets, int threads,
                  const sigset_t& signals, Site* site) {
  const auto send_home = absl::MakeCleanup([site] {
    if (site->communicator() != nullptr) SendHome(site->communicator());
  });
  for (const auto& [name, data] : datasets) {
    LogInfo("dataset ready", {{"dataset", name},
                              {"examples", data.examples()},
                              {"held_out", data.held_out_examples()}});
  }
  ABSL_ASSIGN_OR_RETURN(const auto external,
                        ExternalTrainerConfigs(RealEnv(), config));
  ABSL_ASSIGN_OR_RETURN(const auto controls, OpenControls(config));
  ABSL_ASSIGN_OR_RETURN(
      const auto trainer,
      TrainerSet::Create(
          RealEnv(), &clock, &datasets,
          TrainerOptions(config, external, controls.get(), threads, *site)));
  std::unique_ptr<SiteTrainer> site_trainer;
  if (site->communicator() != nullptr) {
    site_trainer = std::make_unique<SiteTrainer>(
        trainer.get(), site->communicator(), [site](const absl::Status& why) {
          site->Break(why);
          if (!stopping.exchange(true)) kill(getpid(), SIGTERM);
        });
  }
  ABSL_ASSIGN_OR_RETURN(
      const auto models,
      PeerModels::Start(ModelsSpecOf(config), RealEnv(), &clock));
  Worker::Options options;
  options.models = models.get();
  ABSL_ASSIGN_OR_RETURN(options.client, NewClient(config, clock));
  options.spec = SpecOf(config);
  options.capabilities = LocalCapabilities(datasets, trainer->external_names());
  options.env = RealEnv();
  options.clock = &clock;
  options.trainer = trainer.get();
  if (site_trainer != nullptr) options.trainer = site_trainer.get();
  options.controls = controls.get();
  options.seed = std::random_device()();
  ABSL_ASSIGN_OR_RETURN(options.local_paths, PathsIn(RealEnv(), config));
  options.check_offer = [&datasets](const v1::OfferTask& offer) {
    return CheckModelFitsData(datasets, offer);
  };
  ABSL_ASSIGN_OR_RETURN(const auto worker, Worker::Start(std::move(options)));
  LogInfo("working", {{"worker", config.name},
                      {"coordinator", config.coordinator},
                      {"version", std::string(kSoftwareVersion)}});
  WaitForSignal(signals, *site);
  worker->Stop(site->EndReason("stopped by its operator"));
  site->AbortIfBroken();
  LogInfo("stopped");
  return absl::OkStatus();
}

absl::Status Serve(const WorkerConfig& config, const Clock& clock,
                   const sigset_t& signals, Site* site) {
  const absl::StatusOr<LocalDatasets> datasets = LoadData(config);
  ABSL_RETURN_IF_ERROR(site->Agree(datasets.status()));
  ABSL_RETURN_IF_ERROR(site->AgreeOnData(*datasets));
  const int threads = site->Threads(config.threads);
  return site->leads() ? Lead(config, clock, *datasets, threads, signals, site)
                       : Follow(config, clock, *datasets, threads, *site);
}

// The state directory is rank 0's.
absl::StatusOr<std::unique_ptr<StateLock>> OpenState(const WorkerConfig& config,
                                                     const Site& site) {
  if (!site.leads()) return nullptr;
  ABSL_RETURN_IF_ERROR(RealEnv()->MakeDirs(config.state_dir));
  return StateLock::Acquire(config.state_dir);
}

void TellWhyNot(const absl::Status& why, const Site& site) {
  LogError("cannot start", {{"error", why}});
  // The end of MPI waits for all ranks, also for one that hangs.
  if (absl::IsUnavailable(why)) site.AbortIfBroken();
}

int RunAsPartOf(Site* site, const WorkerConfig& config, const Clock& clock,
                const sigset_t& signals) {
  const auto lock = OpenState(config, *site);
  if (absl::Status opened = site->Agree(lock.status()); !opened.ok()) {
    TellWhyNot(opened, *site);
    return absl::IsFailedPrecondition(opened) ? kExitStateInUse : kExitFailed;
  }
  const absl::Status served = Serve(config, clock, signals, site);
  if (served.ok()) return kExitOk;
  TellWhyNot(served, *site);
  return ExitCodeFor(served);
}

int Run(const WorkerConfig& config) {
  const absl::Status valid = config.Validate();
  if (!valid.ok()) {
    std::cerr << "koinon-worker: " << valid.message() << "\n";
    return kExitUsage;
  }
  // Before any thread is made, so that all inherit the mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  static const RealClock clock;  // lives as long as detached threads may
  const auto site = Site::Join(config, &clock);
  if (!site.ok()) {
    LogError("cannot start", {{"error", site.status()}});
    return kExitFailed;
  }
  const ClockWatch clock_watch(&clock);
  return RunAsPartOf(site->get(), config, clock, signals);
}

}  // namespace
}  // namespace koinon::worker

int main(int argc, char** argv) {
  using namespace koinon;          // NOLINT
  using namespace koinon::worker;  // NOLINT
  StopSearchForDeadlocks();
  RaiseDescriptorLimit();
  CLI::App app(
      "A worker of a Koinon federation: trains on data that stays here.");
  Flags flags;
  AddFlags(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  InitLogging(flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText,
              *LogLevelFromName(flags.log_level));
  return Run(flags.config);
}
