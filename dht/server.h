#ifndef KOINON_DHT_SERVER_H_
#define KOINON_DHT_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/tls.h"
#include "dht/peer.h"

namespace koinon::dht {

// A stand-alone node of the DHT: keeps records for others, and is where others
// find their first node. Started by Start, stopped by Stop or the destructor.
//
//   ABSL_ASSIGN_OR_RETURN(auto server, Server::Start(spec, options));
//   LogInfo("serving", {{"port", server->port()}});
//
// Thread-safe. Owns the listening socket, the records and all threads.
class Server {
 public:
  // What an operator configures. docs/operations.md describes each field under
  // the flag of its name.
  struct Spec {
    std::string listen = "127.0.0.1:7171";  // port 0: any free one
    std::string address;  // empty: the one that is listened on
    std::vector<std::string> bootstrap;
    std::string state_dir;  // the caller keeps others off it
    std::string federation = "koinon";
    TlsFiles tls;
    bool insecure = false;
    bool reflection = false;  // always on for loopback addresses
    std::string site;         // plaintext only: certificates say their own
    size_t max_connections = 10'000;
    size_t max_records = 65'536;
    uint64_t max_record_bytes = uint64_t{64} << 20;
    double questions_per_second = 500;

    // INVALID_ARGUMENT names the flag, its value and what is allowed.
    absl::Status Validate() const;
  };

  // What a test injects.
  struct Options {
    Env* env = RealEnv();
    const Clock* clock = nullptr;  // required
  };

  // INVALID_ARGUMENT (spec, certificates), UNAVAILABLE (the address),
  // FAILED_PRECONDITION (the certificate carries no node), otherwise what the
  // disk says. Nodes that do not answer are no failure: they are tried again.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Spec spec,
                                                       Options options);
  ~Server();

  int port() const;
  Peer* peer();
  void Stop();

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SERVER_H_
