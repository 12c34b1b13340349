#ifndef KOINON_TOOLS_BENCH_DHT_FLEET_H_
#define KOINON_TOOLS_BENCH_DHT_FLEET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/certs.h"
#include "base/clock.h"
#include "base/rpc_server.h"
#include "base/trust.h"
#include "dht/peer.h"

namespace koinon::tools {

// Nodes of a DHT in one process, each with its own identity, port of the
// loopback and connections, over real gRPC. Not thread-safe.
class DhtFleet {
 public:
  struct Options {
    size_t nodes = 128;
    bool tls = false;  // mutual, with certificates made for this fleet
    // The first nodes, from which the operations are asked, keep a connection
    // to everybody; the others to so many, more than they ping again and again.
    // (All to all is more descriptors than processes get: 32,512 for 128.)
    size_t askers = 8;
    size_t other_connections = 48;
    std::string dir;  // for certificates; must exist
    // Of each node: in memory only if empty.
    std::string state_dir;
    dht::Node::Options node;
    double questions_per_second = 1e6;
  };

  // Makes and joins all; returns once each knows all others.
  // DEADLINE_EXCEEDED, saying how many a node knows, if they do not within
  // `patience`.
  static absl::StatusOr<std::unique_ptr<DhtFleet>> Start(
      Options options, absl::Duration patience);
  ~DhtFleet();

  size_t size() const { return members_.size(); }
  // Null once it has been stopped.
  dht::Peer* peer(size_t i) { return members_[i].peer.get(); }
  const std::string& address(size_t i) const { return members_[i].address; }

  // It is gone, without a word to anybody.
  void Stop(size_t i);
  // Again, at the same address and with what it had kept on disk.
  absl::Status Restart(size_t i);
  // Waits until every node that runs knows at least `count` others.
  absl::Status AwaitKnown(size_t count, absl::Duration patience);

  // Another identity under the fleet's authority (or self-made, in plaintext).
  absl::StatusOr<LocalNode> NewIdentity(const std::string& name);
  // Credentials of NewIdentity(name); null in plaintext.
  absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> CredentialsOf(
      const std::string& name) const;
  const FederationTrust* authority() const { return authority_.get(); }

 private:
  struct Member {
    std::string name;
    std::string address;
    std::unique_ptr<dht::Peer> peer;
    std::unique_ptr<RpcServer> rpc;
  };

  explicit DhtFleet(Options options) : options_(std::move(options)) {}
  absl::Status MakeAuthority();
  TlsFiles FilesOf(const std::string& name) const;
  absl::Status Run(size_t i, int port);
  absl::Status AwaitKnown(size_t i, size_t count, absl::Duration patience);

  const Options options_;
  const RealClock clock_;
  CertificateAndKey ca_;
  std::unique_ptr<FederationTrust> authority_;
  std::vector<Member> members_;
};

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_DHT_FLEET_H_
