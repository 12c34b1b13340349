#ifndef KOINON_DHT_PEER_H_
#define KOINON_DHT_PEER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/tls.h"
#include "base/trust.h"
#include "dht/node.h"
#include "dht/records/signed.h"
#include "dht/store/record_store.h"
#include "dht/swarm/content_board.h"
#include "dht/swarm/host.h"
#include "dht/swarm/liar_book.h"
#include "proto/dht.pb.h"

namespace grpc {
class AuthContext;
class Channel;
class ChannelCredentials;
class Service;
}  // namespace grpc

namespace koinon::dht {

// A process's part in the distribution layer: its DHT node, the calls to other
// nodes, and what it serves of models. The host (worker, coordinator,
// koinon-dht) registers service() with its own gRPC server; a process that
// serves nobody (koinon pull) registers nothing.
//
//   ABSL_ASSIGN_OR_RETURN(auto peer, Peer::Create(std::move(options)));
//   server_builder.RegisterService(peer->service());
//   ... the server listens ...
//   peer->Start("10.0.0.5:7171", {"10.0.0.1:7070"});
//
// Thread-safe. Blocking calls must not come from its own callbacks.
class Peer final : public SwarmHost {
 public:
  struct Options {
    // Who this is; owned.
    LocalNode local;
    // Null: plaintext, asked for by name. Both or none.
    std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr;
    const FederationTrust* authority = nullptr;  // borrowed
    std::string state_dir = {};  // for records; empty: in memory only
    // Fetches, but serves nobody and is in nobody's table.
    bool leech_only = false;
    // Whether model bytes may go to and come from nodes of other sites. The
    // coordinator serves every site.
    bool cross_site = false;
    bool is_origin = false;  // the coordinator
    // Of the coordinator, if this is none: its certificate says by its own name
    // who it is, and may be of an authority that knows no nodes.
    std::string coordinator = {};
    // Whether others may put this node into their tables and ask it: false
    // where the certificate carries no node. Then only the origin's Fetch
    // works.
    bool has_node = true;
    RecordStore::Options store = {};  // the seed is filled in
    Node::Options node = {};          // self, seed and trust are filled in
    // Questions of each peer: so many a second, and a burst of so many.
    double questions_per_second = 500;
    double question_burst = 1'000;
    size_t max_channels = 256;
    size_t max_upload_streams = 64;
    Env* env = RealEnv();
    const Clock* clock = nullptr;  // required
  };

  static absl::StatusOr<std::unique_ptr<Peer>> Create(Options options);
  // As Stop.
  ~Peer() override;

  // To be registered before the host's server starts; lives as long as this.
  grpc::Service* service();

  // Joins in the background, and goes on trying. `address`: where others reach
  // this node ("host:port"); ignored if leech_only.
  void Start(const std::string& address, std::vector<std::string> bootstrap);
  // Asks nobody any more; calls that wait end with CANCELLED. The host's server
  // must be shut down before the destructor.
  void Stop();

  // What this process has of versions, and serves.
  ContentBoard* board() override;
  // Whom nothing is fetched from; status() names the worst.
  LiarBook* liars() override;

  const LocalNode& local() const;
  Contact self() const override;
  bool cross_site() const override;
  const Clock& clock() const override;
  // Of what this process uses itself. AddPinned: the key of the coordinator
  // that one is connected to. Gets of records go by what was pinned before
  // Start. What the node keeps for others goes by no pinned key, but that in
  // plaintext its records are kept before those of other keys.
  RecordTrust trust() const;
  void AddPinned(const PublicKey& key);
  RejectionCounts* rejections();

  // As Node's, from any thread; `done` runs on a thread of the peer's.
  void Put(const Key& key, v1::Record record,
           std::function<void(absl::StatusOr<Node::PutResult>)> done);
  void Get(const Key& key, Node::GetOptions options,
           std::function<void(absl::StatusOr<Node::GetResult>)> done);
  void FindClosest(const Key& target,
                   std::function<void(absl::StatusOr<Node::Closest>)> done);
  void FindProviders(
      const Key& content, size_t count,
      std::function<void(absl::StatusOr<std::vector<Contact>>)> done) override;
  void Provide(const Key& content, int64_t importance = 0) override;
  void StopProviding(const Key& content) override;

  // The same, waiting.
  absl::StatusOr<Node::PutResult> PutNow(const Key& key, v1::Record record);
  // Also for those that are slower than the quorum.
  absl::StatusOr<Node::PutResult> PutToAllNow(const Key& key,
                                              v1::Record record);
  absl::StatusOr<Node::GetResult> GetNow(const Key& key,
                                         Node::GetOptions options = {});
  absl::StatusOr<Node::Closest> FindClosestNow(const Key& target);
  absl::StatusOr<std::vector<Contact>> FindProvidersNow(const Key& content,
                                                        size_t count);
  // Waits until the node has joined: the first Start's outcome, or
  // DEADLINE_EXCEEDED.
  absl::Status WaitUntilJoined(absl::Duration patience);

  // A channel to a node, shared with the DHT's own questions; callers check who
  // answers (PeerIdentityOf) against the contact's id (NodeIdOf).
  std::shared_ptr<grpc::Channel> ChannelTo(const std::string& address) override;
  // OK if the peer of this call is the contact; UNAUTHENTICATED otherwise. In
  // plaintext everybody is who they claim to be.
  absl::Status CheckIs(const Contact& contact,
                       const grpc::AuthContext& context) const override;
  // PERMISSION_DENIED for a node of another site, unless cross_site is set; the
  // coordinator is of every site.
  absl::Status MayFetchFrom(const Contact& contact) const override;

  v1::NodeStatus status() const;

 private:
  struct State;
  explicit Peer(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_PEER_H_
