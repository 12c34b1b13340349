#ifndef KOINON_COORDINATOR_SERVER_H_
#define KOINON_COORDINATOR_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/tls.h"
#include "coordinator/journal/journal.h"

namespace koinon::coordinator {

// A coordinator that runs: started by Start, stopped by Stop or the destructor.
//
//   ABSL_ASSIGN_OR_RETURN(auto server, Server::Start(spec, options));
//   LogInfo("serving", {{"port", server->port()}});
//
// Thread-safe. Owns the listening socket, the journal, the spool and all
// threads.
class Server {
 public:
  // What an operator configures. docs/operations.md describes each field under
  // the flag of its name.
  struct Spec {
    std::string listen = "127.0.0.1:7070";  // port 0: any free one
    std::string state_dir;
    std::string federation = "koinon";
    TlsFiles tls;
    bool insecure = false;
    bool reflection = false;  // always on for loopback addresses
    absl::Duration lease = absl::Seconds(15);
    absl::Duration handshake_timeout = absl::Seconds(10);
    absl::Duration upload_patience = absl::Seconds(30);
    absl::Duration drain_patience = absl::Seconds(30);
    size_t max_connections = 10'000;
    size_t max_streams_per_connection = 100;
    size_t max_workers = 10'000;
    size_t max_jobs = 100;
    size_t max_watchers = 1'000;
    int64_t max_model_bytes = int64_t{16} << 30;
    uint64_t max_spool_bytes = uint64_t{64} << 30;
    uint64_t upload_window_bytes = uint64_t{32} << 20;
    uint64_t model_cache_bytes = uint64_t{64} << 20;
    int64_t chunk_bytes = int64_t{1} << 20;
    int64_t keep_versions = 0;                   // 0: all
    int64_t keep_every = 0;                      // 0: none
    int64_t delta_min_bytes = int64_t{1} << 20;  // 0: no deltas
    absl::Duration manifest_lifetime = absl::Hours(24 * 30);
    std::string peer_address;            // empty: where it listens
    std::vector<std::string> bootstrap;  // "host:port" of nodes
    std::vector<std::string> recover;    // jobs
    std::string recover_signer;          // a key in hex; empty: none given
    int threads = 2;                     // for aggregation
    std::string instruction_set = "best";

    // INVALID_ARGUMENT names the flag, its value and what is allowed.
    absl::Status Validate() const;
  };

  // What a test injects.
  struct Options {
    Env* env = RealEnv();
    const Clock* clock = nullptr;         // required
    std::unique_ptr<Journal> journal;     // null: SQLite in state_dir
    std::function<uint64_t()> draw_seed;  // null: OpenSSL
    // How long a recovery waits while no bytes come.
    absl::Duration recovery_patience = absl::Seconds(60);
    // Called once, from any thread, when the process must not go on.
    std::function<void(absl::Status)> on_fatal = [](absl::Status) {};
  };

  // INVALID_ARGUMENT (spec), UNAVAILABLE (the address), FAILED_PRECONDITION
  // (another coordinator has the state directory, or a newer Koinon wrote it),
  // DATA_LOSS (the state is damaged; names the file); of a job to be recovered
  // as JobRecovery::Recover, the jobs before it being recovered.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Spec spec,
                                                       Options options);
  ~Server();

  int port() const;
  // Accepts no more work, waits for what runs (at most drain_patience), stops.
  void Stop();

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVER_H_
