#ifndef KOINON_TOOLS_CLI_CLIENT_PEER_H_
#define KOINON_TOOLS_CLI_CLIENT_PEER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/trust.h"
#include "dht/peer.h"
#include "tools/cli/connection.h"

namespace koinon::cli {

// A command's part in the DHT: it asks and fetches, and is in nobody's table.
// Works without the coordinator.
class ClientPeer {
 public:
  struct Options {
    ConnectionOptions connection;  // who we are; its coordinator is not used
    // "host:port" of any nodes of the federation; at least one.
    std::vector<std::string> bootstrap;
    absl::Duration patience = absl::Seconds(10);
  };

  // Joins. INVALID_ARGUMENT for options that make no sense; FAILED_PRECONDITION
  // for a certificate that is for no node; UNAVAILABLE if no node answers.
  //
  // Over TLS it is who the certificate says. In plaintext it makes itself a key
  // that ends with it, and believes what a node says of the federation's name.
  static absl::StatusOr<std::unique_ptr<ClientPeer>> Join(
      const Options& options);
  ~ClientPeer();

  dht::Peer* peer() { return peer_.get(); }
  // Null in plaintext.
  const FederationTrust* authority() const { return authority_.get(); }

 private:
  ClientPeer() = default;

  const RealClock clock_;
  std::unique_ptr<FederationTrust> authority_;
  std::unique_ptr<dht::Peer> peer_;  // uses the above
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_CLIENT_PEER_H_
