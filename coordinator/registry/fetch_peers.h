#ifndef KOINON_COORDINATOR_REGISTRY_FETCH_PEERS_H_
#define KOINON_COORDINATOR_REGISTRY_FETCH_PEERS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/ids.h"
#include "coordinator/registry/registry.h"
#include "dht/key.h"

namespace koinon::coordinator {

// Whom a worker is told to fetch a version from: a few others, drawn by a seed,
// so that together they make a random graph in which pieces spread evenly.
// Those of the same cohort come first, because they fetch the same version at
// the same time; among them those of the same site, because others may not
// serve it. A value: what the registry said when it was made.
class FetchPeers {
 public:
  FetchPeers() = default;
  // Of the workers that are connected and can be reached. `cohort` ascends.
  FetchPeers(const std::map<WorkerId, Registry::Worker>& workers,
             absl::Span<const WorkerId> cohort);

  size_t size() const { return all_.size(); }
  // At most `count` others than the node `self`, at a cost that does not grow
  // with the number of workers. The same seed gives the same ones.
  std::vector<dht::Contact> Choose(const dht::Key& self,
                                   const std::string& site, size_t count,
                                   uint64_t seed) const;
  // At most `count` of the cohort, or of all if it has none.
  std::vector<dht::Contact> Sample(size_t count, uint64_t seed) const;

 private:
  std::vector<dht::Contact> all_;
  // Places in `all_`.
  std::vector<size_t> cohort_;
  std::vector<size_t> others_;
  std::map<std::string, std::vector<size_t>> cohort_of_site_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_REGISTRY_FETCH_PEERS_H_
