#ifndef KOINON_TOOLS_BENCH_SWARM_H_
#define KOINON_TOOLS_BENCH_SWARM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace koinon::bench {

// Many workers of one process, each with a connection and a session of its own,
// that speak the real protocol over real sockets and train by doing nothing:
// all of them push the same prepared update. What they pull they count and
// throw away unchecked, so that what is measured is the coordinator.
// Thread-safe.
class Swarm {
 public:
  struct Options {
    std::string address;  // HOST:PORT, plaintext
    size_t workers = 0;
    std::string dataset;
    // Of the update that everyone pushes; zero for workers that stay idle.
    size_t parameters = 0;
    size_t chunk_bytes = 1 << 20;
  };

  // Connects all workers; returns when each has its Welcome. DEADLINE_EXCEEDED,
  // saying how many have, after `patience`.
  static absl::StatusOr<std::unique_ptr<Swarm>> Connect(
      const Options& options, absl::Duration patience);
  // Closes all connections.
  ~Swarm();

  uint64_t bytes_pulled() const;
  uint64_t bytes_pushed() const;
  uint64_t updates_accepted() const;
  // The first thing that went wrong, or OK.
  absl::Status error() const;

 private:
  struct Shared;
  explicit Swarm(std::shared_ptr<Shared> shared);
  std::shared_ptr<Shared> shared_;
};

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_SWARM_H_
