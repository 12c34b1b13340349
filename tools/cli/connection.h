#ifndef KOINON_TOOLS_CLI_CONNECTION_H_
#define KOINON_TOOLS_CLI_CONNECTION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/tls.h"
#include "base/trust.h"
#include "tools/cli/client.h"

namespace CLI {
class App;
}

namespace koinon::cli {

// Where the coordinator is and who we are, as every command that talks to one
// takes it.
struct ConnectionOptions {
  std::string coordinator;  // HOST:PORT
  TlsFiles tls;
  std::string certs_dir;  // as `koinon certs` lays it out
  std::string identity = "operator";
  bool insecure = false;
};

// Adds --coordinator, --certs, --identity, --tls-* and --insecure. `options`
// must live as long as the app.
void AddConnectionFlags(CLI::App* app, ConnectionOptions* options);

// The files that the options mean; empty for --insecure. INVALID_ARGUMENT
// unless exactly one of --certs, --tls-* (all three) and --insecure is given.
absl::StatusOr<TlsFiles> ResolveTlsFiles(const ConnectionOptions& options);

// By whose word the federation's certificates stand. Null for --insecure.
// CheckTlsFiles' errors.
absl::StatusOr<std::unique_ptr<FederationTrust>> ConnectionAuthority(
    const ConnectionOptions& options);

// A client that will connect at its first call. INVALID_ARGUMENT for options
// that make no sense; CheckTlsFiles' errors.
absl::StatusOr<std::unique_ptr<Client>> Connect(
    const ConnectionOptions& options);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_CONNECTION_H_
