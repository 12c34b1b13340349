#ifndef KOINON_DHT_NODE_PROVIDERS_H_
#define KOINON_DHT_NODE_PROVIDERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <utility>
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

  void Provide(const Key& content, int64_t importance);
  void Stop(const Key& content);
  // Announces again what is due. To be called every second or so.
  void Tick();
  size_t size() const { return served_.size(); }
  // Served, but not announced.
  size_t unannounced() const;

 private:
  struct Served {
    int64_t importance = 0;
    absl::Time due;  // when to announce it again
  };
  using Rank = std::pair<int64_t, Key>;  // the larger is the more important

  void Announce(const Key& content);
  void OnAnnounced(const Key& content, bool settled);
  // As many as all nodes together remember of this one, less some that were
  // announced and are no longer, and are not forgotten yet.
  size_t Bound() const;
  // Of those that are announced, the least important; if not all are.
  std::optional<Rank> Least() const;
  void SayTooMany();

  NodeCore* const core_;
  std::map<Key, Served> served_;
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
