#include <malloc.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/absl_mutexes.h"
#include "base/clock.h"
#include "base/clock_watch.h"
#include "base/descriptor_limit.h"
#include "base/env.h"
#include "base/log.h"
#include "base/version.h"
#include "coordinator/server.h"

namespace koinon::coordinator {
namespace {

// Documented in docs/operations.md.
enum ExitCode {
  kExitOk = 0,
  kExitFailed = 1,        // could not start
  kExitUsage = 2,         // flags or configuration
  kExitFatal = 3,         // the state could not be written: restart
  kExitSecondSignal = 4,  // asked to end at once
};

struct Flags {
  Server::Spec spec;
  double lease_seconds = 15;
  double handshake_seconds = 10;
  double upload_patience_seconds = 30;
  double drain_seconds = 30;
  double manifest_days = 30;
  std::string port_file;
  std::string log_format = "text";
  std::string log_level = "info";
};

void AddFlags(CLI::App* app, Flags* flags) {
  Server::Spec& spec = flags->spec;
  app->set_version_flag("--version", std::string(kSoftwareVersion));
  app->set_config("--config", "",
                  "Read flags from a file (TOML: name = value)");
  app->add_option("--listen", spec.listen, "HOST:PORT; port 0: any free one")
      ->capture_default_str();
  app->add_option("--state-dir", spec.state_dir,
                  "Journal, spool and models live here")
      ->required();
  app->add_option("--federation", spec.federation,
                  "The federation's name, as in its certificates")
      ->capture_default_str();
  app->add_option("--tls-cert", spec.tls.certificate,
                  "This server's chain, PEM");
  app->add_option("--tls-key", spec.tls.key, "Its private key, PEM");
  app->add_option("--tls-ca", spec.tls.ca, "The federation's CA, PEM");
  app->add_flag(
      "--insecure", spec.insecure,
      "Plaintext: no TLS, no identities, everybody may do everything");
  app->add_flag("--reflection", spec.reflection,
                "Serve gRPC reflection on an address that is not loopback too");
  app->add_option("--port-file", flags->port_file,
                  "Write the port here once serving");
  app->add_option("--lease-seconds", flags->lease_seconds,
                  "A silent worker is given up after this")
      ->capture_default_str();
  app->add_option("--handshake-seconds", flags->handshake_seconds,
                  "For TLS, and then for a session's Hello")
      ->capture_default_str();
  app->add_option("--upload-patience-seconds", flags->upload_patience_seconds,
                  "An upload without progress is cut off after this")
      ->capture_default_str();
  app->add_option("--drain-seconds", flags->drain_seconds,
                  "How long a stop waits for uploads and aggregation")
      ->capture_default_str();
  app->add_option("--max-connections", spec.max_connections,
                  "Open at once; further ones are closed on arrival")
      ->capture_default_str();
  app->add_option("--max-streams-per-connection",
                  spec.max_streams_per_connection,
                  "Calls at once on one connection")
      ->capture_default_str();
  app->add_option("--max-workers", spec.max_workers, "Registered at once")
      ->capture_default_str();
  app->add_option("--max-jobs", spec.max_jobs, "Unfinished at once")
      ->capture_default_str();
  app->add_option("--max-watchers", spec.max_watchers,
                  "Watching clients at once")
      ->capture_default_str();
  app->add_option("--max-model-bytes", spec.max_model_bytes, "Of one model")
      ->capture_default_str();
  app->add_option(
         "--max-spool-bytes", spec.max_spool_bytes,
         "Of the file that holds updates until their round is published")
      ->capture_default_str();
  app->add_option("--upload-window-bytes", spec.upload_window_bytes,
                  "Memory that uploads may take at once (2 MiB for each)")
      ->capture_default_str();
  app->add_option("--model-cache-bytes", spec.model_cache_bytes,
                  "Memory for model chunks being served")
      ->capture_default_str();
  app->add_option("--chunk-bytes", spec.chunk_bytes,
                  "Of models and updates on the wire")
      ->capture_default_str();
  app->add_option("--keep-versions", spec.keep_versions,
                  "Newest versions of each job to keep; 0: all")
      ->capture_default_str();
  app->add_option("--keep-every", spec.keep_every,
                  "And every so-manieth version; 0: none")
      ->capture_default_str();
  app->add_option("--delta-min-bytes", spec.delta_min_bytes,
                  "Versions of at least so many bytes get a difference to the "
                  "one before; 0: none")
      ->capture_default_str();
  app->add_option("--manifest-days", flags->manifest_days,
                  "How long a version's signature stands before it is renewed")
      ->capture_default_str();
  app->add_option("--peer-address", spec.peer_address,
                  "HOST:PORT at which other nodes reach this one; where it "
                  "listens, unless that is every address");
  app->add_option("--bootstrap", spec.bootstrap,
                  "HOST:PORT of a node of the DHT; repeatable")
      ->allow_extra_args(false);
  app->add_option("--recover", spec.recover,
                  "A job that the journal has lost, to be had from the DHT; "
                  "repeatable")
      ->allow_extra_args(false);
  app->add_option("--recover-signer", spec.recover_signer,
                  "In plaintext: the key, in hex, that must have signed the "
                  "head of what is recovered");
  app->add_option("--threads", spec.threads, "For aggregation")
      ->capture_default_str();
  app->add_option("--instruction-set", spec.instruction_set,
                  "For aggregation: best, avx512, avx2 or portable")
      ->capture_default_str();
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level,
                  "debug, info, warning, error or off")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
  app->footer(
      "Examples:\n"
      "  koinon certs certs --host coordinator.example --worker site-1\n"
      "  koinon-coordinator --listen 0.0.0.0:7070 --state-dir /var/lib/koinon "
      "\\\n"
      "    --tls-cert certs/server.pem --tls-key certs/server.key --tls-ca "
      "certs/ca.pem\n"
      "  koinon-coordinator --state-dir state --insecure    # loopback, "
      "plaintext\n"
      "  koinon-coordinator ... --recover digits --bootstrap ward-a:7171");
}

// One arena and a low mmap threshold: a chunk's memory goes back to the system
// when it is freed, in place of staying with the thread that freed it.
void TuneMalloc() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
}

int Run(const Flags& flags) {
  Server::Spec spec = flags.spec;
  spec.lease = absl::Seconds(flags.lease_seconds);
  spec.handshake_timeout = absl::Seconds(flags.handshake_seconds);
  spec.upload_patience = absl::Seconds(flags.upload_patience_seconds);
  spec.drain_patience = absl::Seconds(flags.drain_seconds);
  spec.manifest_lifetime = flags.manifest_days * absl::Hours(24);
  const absl::Status valid = spec.Validate();
  if (!valid.ok()) {
    std::cerr << "koinon-coordinator: " << valid.message() << "\n";
    return kExitUsage;
  }
  // Before any thread is made, so that all inherit the mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const RealClock clock;
  const ClockWatch clock_watch(&clock);
  Server::Options options;
  options.clock = &clock;
  // What is in memory can not be trusted any more: end here, and let the
  // supervisor start a process that reads the journal.
  options.on_fatal = [](absl::Status) { std::_Exit(kExitFatal); };
  auto server = Server::Start(spec, std::move(options));
  if (!server.ok()) {
    LogError("cannot start", {{"error", server.status()}});
    return absl::IsInvalidArgument(server.status()) ? kExitUsage : kExitFailed;
  }
  LogInfo("serving", {{"listen", spec.listen},
                      {"port", (*server)->port()},
                      {"federation", spec.federation},
                      {"version", kSoftwareVersion}});
  if (!flags.port_file.empty()) {
    const absl::Status written = WriteFileAtomically(
        RealEnv(), flags.port_file, absl::StrCat((*server)->port(), "\n"));
    if (!written.ok()) {
      LogError("cannot write the port file", {{"error", written}});
      return kExitFailed;
    }
  }
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  LogInfo("stopping", {{"signal", signal_number}});
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    std::_Exit(kExitSecondSignal);
  }).detach();
  (*server)->Stop();
  LogInfo("stopped");
  return kExitOk;
}

}  // namespace
}  // namespace koinon::coordinator

int main(int argc, char** argv) {
  using namespace koinon;               // NOLINT
  using namespace koinon::coordinator;  // NOLINT
  TuneMalloc();
  StopSearchForDeadlocks();
  RaiseDescriptorLimit();
  CLI::App app(
      "The coordinator of a Koinon federation: registers workers, runs rounds, "
      "publishes model versions.");
  Flags flags;
  AddFlags(&app, &flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  InitLogging(flags.log_format == "json" ? LogFormat::kJson : LogFormat::kText,
              *LogLevelFromName(flags.log_level));
  return Run(flags);
}
