#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "tools/cli/client_peer.h"
#include "tools/cli/commands.h"
#include "tools/cli/connection.h"
#include "tools/cli/manifest_signer.h"
#include "tools/cli/model_part.h"
#include "tools/cli/proto_json.h"
#include "tools/cli/pull.h"
#include "tools/cli/swarm_pull.h"
#include "tools/cli/text.h"
#include "tools/cli/traffic.h"

namespace koinon::cli {
namespace {

struct Options {
  ConnectionOptions connection;
  std::vector<std::string> bootstrap;
  std::string signer;  // hex
  bool json = false;
  std::string model;
  std::string output;
  int64_t max_bytes = int64_t{1} << 40;
  bool model_only = false;

  // The manifest speaks of the whole version: what is to be cut is fetched
  // under another name.
  std::string path() const { return model_only ? output + ".whole" : output; }
};

// A bar on standard error, if that is a terminal. Thread-safe.
class PullBar {
 public:
  void operator()(int64_t done, int64_t total) {
    MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    if (!terminal_ || (done < total && now - last_ < absl::Milliseconds(100))) {
      return;
    }
    last_ = now;
    const double fraction =
        total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1;
    std::fprintf(stderr, "\r%s %s of %s\x1b[K%s",
                 ProgressBar(fraction, 40).c_str(), FormatBytes(done).c_str(),
                 FormatBytes(total).c_str(), done >= total ? "\n" : "");
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  Mutex mutex_;
  absl::Time last_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

struct Pulled {
  OpenedManifest opened;
  v1::SwarmTraffic traffic;
};

absl::StatusOr<SignerTrust> TrustOf(const Options& options) {
  SignerTrust trust;
  if (options.signer.empty()) return trust;
  const auto key = PublicKey::FromHex(options.signer);
  if (!key.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--signer: ", key.status().message()));
  }
  trust.signer = *key;
  return trust;
}

// Over the coordinator's own connection, so that a signer without a
// certificate is at least the one whom the connection was made to.
absl::StatusOr<Pulled> PullFromCoordinator(const Options& options,
                                           const ModelRef& model,
                                           SignerTrust trust) {
  ABSL_ASSIGN_OR_RETURN(const auto client, Connect(options.connection));
  ABSL_ASSIGN_OR_RETURN(const auto authority,
                        ConnectionAuthority(options.connection));
  trust.authority = authority.get();
  trust.take_uncertified = true;
  Pulled pulled;
  const ModelSource source = [&](const v1::PullModelRequest& request,
                                 const Client::OnPart& on_part) {
    return client->PullModel(request, on_part);
  };
  const ManifestCheck check = [&](const v1::ModelManifest& manifest) {
    ABSL_ASSIGN_OR_RETURN(pulled.opened,
                          CheckSignedModel(manifest, trust, RealClock().Now()));
    return absl::OkStatus();
  };
  PullBar bar;
  int64_t kept = -1;  // from an earlier attempt
  const PullProgress progress = [&](int64_t done, int64_t total) {
    if (kept < 0) kept = done;
    bar(done, total);
  };
  ABSL_RETURN_IF_ERROR(PullModelToFile(RealEnv(), source, model, options.path(),
                                       options.max_bytes, progress, check)
                           .status());
  pulled.traffic.set_from_origin(pulled.opened.manifest.content().size_bytes() -
                                 kept);
  return pulled;
}

absl::StatusOr<Pulled> PullFromNodes(const Options& options,
                                     const ModelRef& model, SignerTrust trust) {
  ClientPeer::Options join;
  join.connection = options.connection;
  join.bootstrap = options.bootstrap;
  ABSL_ASSIGN_OR_RETURN(const auto client, ClientPeer::Join(join));
  trust.authority = client->authority();
  trust.take_uncertified = options.connection.insecure;
  ABSL_ASSIGN_OR_RETURN(
      FoundVersion found,
      FindVersion(client->peer(), model, trust, RealClock().Now()));
  Pulled pulled;
  pulled.opened = std::move(found.opened);
  PullBar bar;
  ABSL_ASSIGN_OR_RETURN(
      pulled.traffic,
      PullFromSwarm(RealEnv(), client->peer(), pulled.opened.manifest,
                    options.path(), options.max_bytes, std::ref(bar)));
  return pulled;
}

void Print(const Options& options, const Pulled& pulled) {
  const v1::VersionManifest& manifest = pulled.opened.manifest;
  if (options.json) {
    std::printf(
        "%s\n",
        absl::StrCat("{\"manifest\":", ToJsonLine(manifest), ",\"signer\":\"",
                     pulled.opened.signer.ToHex(), "\",\"certified\":",
                     pulled.opened.certified ? "true" : "false",
                     ",\"traffic\":", ToJsonLine(pulled.traffic), "}")
            .c_str());
    return;
  }
  std::printf("%s@%lld, %s, in %s\n", Printable(manifest.job()).c_str(),
              static_cast<long long>(manifest.version()),
              FormatBytes(manifest.content().size_bytes()).c_str(),
              options.output.c_str());
  std::printf("%s\n", DescribeSigner(pulled.opened).c_str());
  std::printf("%s\n", DescribeTraffic(pulled.traffic).c_str());
}

ExitCode RunPull(const Options& options) {
  const auto model = ParseModelRef(options.model);
  if (!model.ok()) return Report(model.status());
  const auto trust = TrustOf(options);
  if (!trust.ok()) return Report(trust.status());
  const auto pulled = options.bootstrap.empty()
                          ? PullFromCoordinator(options, *model, *trust)
                          : PullFromNodes(options, *model, *trust);
  if (!pulled.ok()) return Report(pulled.status());
  if (options.model_only) {
    const absl::Status kept =
        KeepModelPart(RealEnv(), options.path(), options.output);
    if (!kept.ok()) return Report(kept);
  }
  Print(options, *pulled);
  return ExitCode::kOk;
}

}  // namespace

void AddPullCommand(CLI::App* app, ExitCode* exit_code) {
  const auto options = std::make_shared<Options>();  // shared with the callback
  CLI::App* pull = app->add_subcommand(
      "pull", "Fetches a model version and verifies every byte");
  AddConnectionFlags(pull, &options->connection);
  pull->add_option("MODEL", options->model,
                   "JOB or JOB@VERSION; without a version, the newest")
      ->required();
  pull->add_option("--output,-o", options->output, "The file to make")
      ->required();
  pull->add_option("--bootstrap", options->bootstrap,
                   "HOST:PORT of a node (a worker, koinon-dht): fetch from "
                   "whichever nodes have it, without the coordinator; "
                   "repeatable")
      ->allow_extra_args(false);
  pull->add_option("--signer", options->signer,
                   "The key, in hex, that must have signed the version");
  pull->add_option("--max-bytes", options->max_bytes,
                   "Refuse a model larger than this")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  pull->add_flag("--model-only", options->model_only,
                 "Leave out what follows the model in versions of jobs with\n"
                 "training.scaffold");
  pull->add_flag("--json", options->json, "Print the manifest as JSON");
  pull->footer(
      "What has arrived is kept in FILE.partial: after an interruption the "
      "same\n"
      "command goes on where it stopped. The file is safetensors:\n"
      "  koinon pull digits@12 -o digits.safetensors\n"
      "  koinon pull digits --bootstrap ward-a:7171 -o digits.safetensors\n"
      "  python3 -c 'from safetensors.numpy import load_file;\n"
      "              print(load_file(\"digits.safetensors\").keys())'\n"
      "Over TLS the version must be signed by the federation's server. In\n"
      "plaintext anybody can sign: the key is printed, and --signer insists on "
      "one.");
  pull->callback([options, exit_code] { *exit_code = RunPull(*options); });
}

}  // namespace koinon::cli
