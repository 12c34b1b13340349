#ifndef KOINON_DHT_SIMULATION_LIAR_H_
#define KOINON_DHT_SIMULATION_LIAR_H_

#include <cstddef>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "base/random.h"
#include "dht/key.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// How a node of a simulated fleet answers falsely. All answer pings, so that
// they are in the tables of others.
enum class Lie {
  kDrop,  // says nothing
  // Names only others that lie, also as providers of whatever is wanted; has
  // nothing, keeps nothing.
  kCollude,
  // Names nodes that do not exist, also as providers, and has forged records.
  kGarbage,
  kMixed,  // each liar one of these
};

// Those that lie know each other.
class Colluders {
 public:
  void Add(const Contact& contact) { by_id_.emplace(contact.id, contact); }
  std::vector<Contact> Closest(const Key& target, size_t count) const;

 private:
  std::map<Key, Contact> by_id_;
};

// What a liar answers; CANCELLED is silence. Requires a lie other than kMixed.
absl::StatusOr<v1::AskReply> AnswerFalsely(Lie lie, const Colluders& colluders,
                                           const v1::AskRequest& question,
                                           Random* random);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SIMULATION_LIAR_H_
