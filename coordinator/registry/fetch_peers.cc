#include "coordinator/registry/fetch_peers.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "base/random.h"

namespace koinon::coordinator {
namespace {

// Draws from `places` until `wanted` are in `chosen` or each has been drawn:
// the first steps of a Fisher-Yates shuffle, with what it has moved kept apart.
void Draw(absl::Span<const size_t> places, size_t wanted, Random* random,
          absl::flat_hash_set<size_t>* taken, std::vector<size_t>* chosen) {
  std::map<size_t, size_t> moved;
  const auto at = [&](size_t i) {
    const auto it = moved.find(i);
    return it == moved.end() ? places[i] : it->second;
  };
  for (size_t i = 0; i < places.size() && chosen->size() < wanted; ++i) {
    const size_t j = i + random->NextBelow(places.size() - i);
    const size_t place = at(j);
    moved[j] = at(i);
    if (taken->insert(place).second) chosen->push_back(place);
  }
}

}  // namespace

FetchPeers::FetchPeers(const std::map<WorkerId, Registry::Worker>& workers,
                       absl::Span<const WorkerId> cohort) {
  for (const auto& [id, worker] : workers) {
    if (!worker.connected || !worker.peer.has_value() ||
        worker.peer->address.empty()) {
      continue;
    }
    const size_t place = all_.size();
    all_.push_back(*worker.peer);
    if (std::binary_search(cohort.begin(), cohort.end(), id)) {
      cohort_.push_back(place);
      cohort_of_site_[worker.peer->site].push_back(place);
    } else {
      others_.push_back(place);
    }
  }
}

std::vector<dht::Contact> FetchPeers::Choose(const dht::Key& self,
                                             const std::string& site,
                                             size_t count,
                                             uint64_t seed) const {
  Random random(seed);
  absl::flat_hash_set<size_t> taken;
  std::vector<size_t> chosen;
  // One more, in case it is the worker itself.
  const size_t wanted = count + 1;
  const auto near = cohort_of_site_.find(site);
  if (near != cohort_of_site_.end()) {
    Draw(near->second, wanted, &random, &taken, &chosen);
  }
  Draw(cohort_, wanted, &random, &taken, &chosen);
  Draw(others_, wanted, &random, &taken, &chosen);
  std::vector<dht::Contact> contacts;
  for (const size_t place : chosen) {
    if (all_[place].id == self) continue;
    if (contacts.size() < count) contacts.push_back(all_[place]);
  }
  return contacts;
}

std::vector<dht::Contact> FetchPeers::Sample(size_t count,
                                             uint64_t seed) const {
  Random random(seed);
  absl::flat_hash_set<size_t> taken;
  std::vector<size_t> chosen;
  Draw(cohort_.empty() ? others_ : cohort_, count, &random, &taken, &chosen);
  std::vector<dht::Contact> contacts;
  for (const size_t place : chosen) contacts.push_back(all_[place]);
  return contacts;
}

}  // namespace koinon::coordinator
