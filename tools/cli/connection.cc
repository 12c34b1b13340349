#include "tools/cli/connection.h"

#include <CLI/CLI.hpp>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "tools/cli/certs_folder.h"

namespace koinon::cli {
namespace {

constexpr size_t kMaxPemBytes = 1 << 20;

}  // namespace

void AddConnectionFlags(CLI::App* app, ConnectionOptions* options) {
  const std::string group = "Connection";
  app->add_option("--coordinator", options->coordinator,
                  "The coordinator's HOST:PORT")
      ->envname("KOINON_COORDINATOR")
      ->group(group);
  app->add_option("--certs", options->certs_dir,
                  "Folder that `koinon certs` made")
      ->envname("KOINON_CERTS")
      ->group(group);
  app->add_option("--identity", options->identity,
                  "Whose certificate in --certs: client-NAME.pem")
      ->capture_default_str()
      ->group(group);
  app->add_option("--tls-cert", options->tls.certificate,
                  "Own certificate (PEM)")
      ->group(group);
  app->add_option("--tls-key", options->tls.key, "Its private key (PEM)")
      ->group(group);
  app->add_option("--tls-ca", options->tls.ca, "The federation's CA (PEM)")
      ->group(group);
  app->add_flag("--insecure", options->insecure,
                "Plaintext, without any authentication")
      ->group(group);
}

absl::StatusOr<TlsFiles> ResolveTlsFiles(const ConnectionOptions& options) {
  const int ways = (options.insecure ? 1 : 0) +
                   (options.certs_dir.empty() ? 0 : 1) +
                   (options.tls.empty() ? 0 : 1);
  if (ways != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        ways == 0 ? "how to authenticate is not said"
                  : "more than one way to authenticate is given",
        ": give one of --certs DIR, --tls-cert with --tls-key and --tls-ca, or "
        "--insecure for plaintext"));
  }
  if (options.insecure) return TlsFiles();
  if (!options.tls.empty()) {
    if (options.tls.certificate.empty() || options.tls.key.empty() ||
        options.tls.ca.empty()) {
      return absl::InvalidArgumentError(
          "--tls-cert, --tls-key and --tls-ca go together");
    }
    return options.tls;
  }
  ABSL_RETURN_IF_ERROR(ValidateId("--identity", options.identity));
  return FilesInCertsFolder(options.certs_dir,
                            absl::StrCat("client-", options.identity));
}

absl::StatusOr<std::unique_ptr<FederationTrust>> ConnectionAuthority(
    const ConnectionOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const TlsFiles files, ResolveTlsFiles(options));
  if (options.insecure) return nullptr;
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity identity,
                        IdentityOfCertificate(RealEnv(), files.certificate));
  ABSL_ASSIGN_OR_RETURN(const std::string ca,
                        ReadFile(RealEnv(), files.ca, kMaxPemBytes));
  return FederationTrust::Create(identity.federation, ca);
}

absl::StatusOr<std::unique_ptr<Client>> Connect(
    const ConnectionOptions& options) {
  if (options.coordinator.empty()) {
    return absl::InvalidArgumentError(
        "which coordinator is not said: give --coordinator HOST:PORT or set "
        "KOINON_COORDINATOR");
  }
  ABSL_ASSIGN_OR_RETURN(const TlsFiles files, ResolveTlsFiles(options));
  if (options.insecure) {
    return Client::Create(options.coordinator,
                          MakeInsecureChannelCredentials());
  }
  ABSL_ASSIGN_OR_RETURN(
      auto credentials,
      MakeChannelCredentials(RealEnv(), files, RealClock().Now()));
  return Client::Create(options.coordinator, std::move(credentials));
}

}  // namespace koinon::cli
