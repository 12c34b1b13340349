#ifndef KOINON_BASE_RPC_SERVER_H_
#define KOINON_BASE_RPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace grpc {
class ServerCredentials;
class Service;
}  // namespace grpc

namespace koinon {

// A gRPC server as every daemon here runs one: our own acceptor, bounds on
// connections, streams, messages, metadata and buffers, dead peers noticed,
// standard health checks.
//
//   ABSL_ASSIGN_OR_RETURN(
//       auto server, RpcServer::Start({.listen = "127.0.0.1:0",
//                                      .credentials = credentials},
//                                     {{&service, "koinon.v1.PeerService"}}));
//   LogInfo("serving", {{"port", server->port()}});
//
// Thread-safe. Owns the listening socket and its threads; the services are
// borrowed until Stop has returned.
class RpcServer {
 public:
  struct Options {
    std::string listen;  // "host:port"; port 0: any free one
    std::shared_ptr<grpc::ServerCredentials> credentials;
    bool reflection = false;
    bool reflection_on_loopback = true;  // though it is not asked for
    size_t max_connections = 10'000;
    size_t max_streams_per_connection = 100;
    size_t max_message_bytes = 1 << 20;  // of those that come in
    absl::Duration handshake_timeout = absl::Seconds(10);
    // A peer that vanished without closing is noticed within twice this time.
    absl::Duration keepalive = absl::Seconds(15);
  };
  struct Service {
    grpc::Service* service;
    std::string name;  // as health checks ask for it
  };

  // INVALID_ARGUMENT (listen), UNAVAILABLE (the address cannot be listened on).
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      Options options, const std::vector<Service>& services);
  // As Stop with no time.
  ~RpcServer();

  int port() const;
  // Connections closed because there were too many.
  uint64_t refused() const;

  // Health checks say "not serving", and nobody new is let in; calls go on.
  void Drain();
  // Drains; calls that are still open after `grace` are cancelled. Returns when
  // all have ended. Again: at once.
  void Stop(absl::Duration grace);

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace koinon

#endif  // KOINON_BASE_RPC_SERVER_H_
