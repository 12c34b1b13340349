#include <signal.h>
#include <unistd.h>

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
#include "base/state_lock.h"
#include "base/version.h"
#include "dht/server.h"

namespace koinon::dht {
namespace {

// Documented in docs/operations.md.
enum ExitCode {
  kExitOk = 0,
  kExitFailed = 1,        // could not start
  kExitUsage = 2,         // flags, configuration or certificates
  kExitStateInUse = 3,    // another process has the state directory
  kExitSecondSignal = 4,  // asked to end at once
};

struct Flags {
  Server::Spec spec;
  std::string port_file;
  std::string log_format = "text";
  std::string log_level = "info";
};

void AddBounds(CLI::App* app, Server::Spec* spec) {
  app->add_option("--max-connections", spec->max_connections,
                  "Open at once; further ones are closed on arrival")
      ->capture_default_str();
  app->add_option("--max-records", spec->max_records, "Kept for others")
      ->capture_default_str();
  app->add_option("--max-record-bytes", spec->max_record_bytes,
                  "Of all of them")
      ->capture_default_str();
  app->add_option("--questions-per-second", spec->questions_per_second,
                  "Of each node; twice as many at once. More are refused")
      ->capture_default_str();
}

void AddFlags(CLI::App* app, Flags* flags) {
  Server::Spec& spec = flags->spec;
  app->set_version_flag("--version", std::string(kSoftwareVersion));
  app->set_config("--config", "",
                  "Read flags from a file (TOML: name = value)");
  app->add_option("--listen", spec.listen, "HOST:PORT; port 0: any free one")
      ->capture_default_str();
  app->add_option("--address", spec.address,
                  "Where other nodes reach this one, HOST:PORT (without it: "
                  "the address of --listen)");
  app->add_option("--bootstrap", spec.bootstrap,
                  "HOST:PORT of a node that is in the DHT; repeatable")
      ->allow_extra_args(false);
  app->add_option("--state-dir", spec.state_dir,
                  "Records live here, and in plaintext the node's key; this "
                  "node's alone")
      ->required();
  app->add_option("--federation", spec.federation,
                  "The federation's name, as in its certificates")
      ->capture_default_str();
  app->add_option("--tls-cert", spec.tls.certificate,
                  "This node's certificate chain, PEM");
  app->add_option("--tls-key", spec.tls.key, "Its private keys, PEM");
  app->add_option("--tls-ca", spec.tls.ca, "The federation's CA, PEM");
  app->add_flag(
      "--insecure", spec.insecure,
      "Plaintext: no TLS, no identities, everybody may do everything");
  app->add_option("--site", spec.site,
                  "Where this node is, with --insecure; otherwise its "
                  "certificate says so");
  app->add_flag("--reflection", spec.reflection,
                "Serve gRPC reflection on an address that is not loopback too");
  app->add_option("--port-file", flags->port_file,
                  "Write the port here once serving");
  AddBounds(app, &spec);
  app->add_option("--log-format", flags->log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app->add_option("--log-level", flags->log_level,
                  "debug, info, warning, error or off")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "off"}))
      ->capture_default_str();
  app->footer(
      "Examples:\n"
      "  koinon-dht --listen 0.0.0.0:7171 --address dht.example:7171 \\\n"
      "    --bootstrap fl.example:7070 --state-dir /var/lib/koinon-dht \\\n"
      "    --tls-cert node.pem --tls-key node.key --tls-ca ca.pem\n"
      "  koinon-dht --state-dir node-1 --insecure    # loopback, plaintext\n"
      "\n"
      "Exit codes: 0 stopped as asked; 1 could not start; 2 flags, "
      "configuration or\ncertificates are wrong; 3 another process uses the "
      "state directory; 4 stopped\nat once by a second signal.");
}

int ExitCodeFor(const absl::Status& status) {
  const bool usage =
      absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) ||
      absl::IsNotFound(status) || absl::IsPermissionDenied(status);
  return usage ? kExitUsage : kExitFailed;
}

// Waits for a signal; a second one ends the process at once.
void WaitForSignal(const sigset_t& signals) {
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  LogInfo("stopping", {{"signal", signal_number}});
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    std::_Exit(kExitSecondSignal);
  }).detach();
}

// Runs until a signal comes.
int Serve(const Flags& flags, const sigset_t& signals) {
  const RealClock clock;
  const ClockWatch clock_watch(&clock);
  const auto server = Server::Start(flags.spec, {.clock = &clock});
  if (!server.ok()) {
    LogError("cannot start", {{"error", server.status()}});
    return ExitCodeFor(server.status());
  }
  LogInfo("serving", {{"listen", flags.spec.listen},
                      {"port", (*server)->port()},
                      {"node", (*server)->peer()->self().id.ToHex()},
                      {"address", (*server)->peer()->self().address},
                      {"federation", flags.spec.federation},
                      {"version", kSoftwareVersion}});
  if (!flags.port_file.empty()) {
    const absl::Status written = WriteFileAtomically(
        RealEnv(), flags.port_file, absl::StrCat((*server)->port(), "\n"));
    if (!written.ok()) {
      LogError("cannot write the port file", {{"error", written}});
      return kExitFailed;
    }
  }
  WaitForSignal(signals);
  (*server)->Stop();
  LogInfo("stopped");
  return kExitOk;
}

int Run(const Flags& flags) {
  const absl::Status valid = flags.spec.Validate();
  if (!valid.ok()) {
    std::cerr << "koinon-dht: " << valid.message() << "\n";
    return kExitUsage;
  }
  // Before any thread is made, so that all inherit the mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  const absl::Status made = RealEnv()->MakeDirs(flags.spec.state_dir);
  if (!made.ok()) {
    LogError("cannot start", {{"error", made}});
    return kExitFailed;
  }
  const auto lock = StateLock::Acquire(flags.spec.state_dir);
  if (!lock.ok()) {
    LogError("cannot start", {{"error", lock.status()}});
    return absl::IsFailedPrecondition(lock.status()) ? kExitStateInUse
                                                     : kExitFailed;
  }
  return Serve(flags, signals);
}

}  // namespace
}  // namespace koinon::dht

int main(int argc, char** argv) {
  using namespace koinon;       // NOLINT
  using namespace koinon::dht;  // NOLINT
  StopSearchForDeadlocks();
  RaiseDescriptorLimit();
  CLI::App app(
      "A stand-alone node of a Koinon federation's DHT: keeps records, and is "
      "where others find their first node.");
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
