#ifndef KOINON_TOOLS_CLI_CERTS_FOLDER_H_
#define KOINON_TOOLS_CLI_CERTS_FOLDER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/tls.h"

namespace koinon::cli {

// A federation's certificates in one folder:
//
//   ca.pem ca.key                    the authority; its key stays with the
//                                    operator
//   server.pem server.key            for the coordinator's machine
//   worker-NAME.pem worker-NAME.key  one pair for each worker
//   node-NAME.pem node-NAME.key      one pair for each koinon-dht
//   client-NAME.pem client-NAME.key  one pair for each person or program
//
// Each key file but ca.key holds two private keys (base/certs.h).
struct CertsPlan {
  std::string dir;
  std::string federation;
  // What the coordinator is called by: DNS names and IP addresses. Empty: no
  // certificate for a server (when extending).
  std::vector<std::string> hosts;
  // "NAME", or "NAME@SITE" for one that stands in a site.
  std::vector<std::string> workers;
  std::vector<std::string> nodes;
  std::vector<std::string> clients;
  int days = 0;  // of all but the authority
  int authority_days = 0;
  // Use the authority that lies in `dir` instead of making one.
  bool extend = false;
};

// Makes all that the plan names; keys can be read by their owner only.
// ALREADY_EXISTS, naming the file, before anything is written if one of them is
// there; INVALID_ARGUMENT for names, sites, hosts or days that are none, or a
// name that is there twice; NOT_FOUND when extending a folder without an
// authority.
absl::Status MakeCertsFolder(Env* env, const CertsPlan& plan, absl::Time now);

// The files in `dir` of "server", "worker-NAME", "node-NAME" or "client-NAME".
TlsFiles FilesInCertsFolder(const std::string& dir, const std::string& stem);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_CERTS_FOLDER_H_
