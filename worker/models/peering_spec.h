#ifndef KOINON_WORKER_MODELS_PEERING_SPEC_H_
#define KOINON_WORKER_MODELS_PEERING_SPEC_H_

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace koinon::worker {

// What an operator says of a worker's part in spreading model versions, as
// flags of koinon-worker. A value.
struct PeeringSpec {
  // "host:port" to serve other nodes on; port 0: any free one. Empty: this
  // worker fetches from others and serves nobody.
  std::string listen;
  // "host:port" that others are told. Empty: `listen`, with the port in use.
  std::string address;
  bool cross_site = false;
  // Over TLS both are the certificate's; empty then means that.
  std::string site;
  std::string federation;
  // "host:port" of nodes to join by, beside the coordinator.
  std::vector<std::string> bootstrap;
  int64_t keep_versions = 2;        // newest of each job; 0: all
  int64_t keep_every = 0;           // versions divisible by it; 0: none
  std::vector<std::string> pinned;  // "JOB@VERSION"
  bool no_deltas = false;

  // INVALID_ARGUMENT that names the flag and says what is allowed.
  absl::Status Validate() const;
  // What others are told if this worker listens on `port`. Empty if it does
  // not. Requires a valid spec.
  std::string AddressFor(int port) const;
  // Requires a valid spec.
  std::set<std::pair<std::string, int64_t>> Pinned() const;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_MODELS_PEERING_SPEC_H_
