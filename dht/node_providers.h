#ifndef KOINON_DHT_NODE_PROVIDERS_H_
#define KOINON_DHT_NODE_PROVIDERS_H_

#include <cstddef>
#include <functional>
#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/node_core.h"

namespace koinon::dht {

// What this node announces that it serves. Lives on the node's loop.
class Announcer {
 public:
  explicit Announcer(NodeCore* core) : core_(core) {}

  void Provide(const Key& content);
  void Stop(const Key& content);
  // Announces again what is due. To be called every second or so.
  void Tick();
  size_t size() const { return due_.size(); }

 private:
  void Announce(const Key& content);
  void OnAnnounced(const Key& content, bool settled);
  // More than nodes remember of one provider, as many as there are of them.
  bool ServesTooMany() const;
  void OnTooMany();

  NodeCore* const core_;
  std::map<Key, absl::Time> due_;  // when to announce again
  bool said_too_many_ = false;
};

// Who serves the content, at most `count`, without this node. Nodes that serve
// announce themselves to the k closest, and nothing that anybody says of others
// can be verified: all k of them are heard, of each as many are taken as of any
// other, and if none names anybody, disjoint paths hear all that were not
// asked.
using ProvidersFound =
    std::function<void(absl::StatusOr<std::vector<Contact>>)>;
void FindProviders(NodeCore* core, const Key& content, size_t count,
                   ProvidersFound done);

}  // namespace koinon::dht

#endif  // KOINON_DHT_NODE_PROVIDERS_H_
