#ifndef KOINON_DHT_ROUTING_LOST_NODES_H_
#define KOINON_DHT_ROUTING_LOST_NODES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "base/random.h"
#include "dht/key.h"

namespace koinon::dht {

// Nodes that left the routing table because they did not answer. They may not
// be dead: this node, or the network between, may have been down, for a night
// or for the days of a holiday. Nobody says goodbye, and most of them have
// stopped for good; so each is asked the more rarely the longer it has been
// away, and all of those that have been away for long share a few questions.
//
// Bounded. Of more than it has place for, one of the site that has most of them
// is forgotten: workers that come and go at one site do not make it forget the
// few of another. Among those, one that has been away for long, and of these
// any: what is left is as good a sample of a network's other half as the first
// or the last of it. Deterministic for a seed. Not thread-safe.
class LostNodes {
 public:
  struct Options {
    size_t limit = 128;
    // No two are named within this.
    absl::Duration pace = absl::Seconds(5);
    // One is named again once a sixteenth of the time that it has been away has
    // passed, but not before `pace` and not later than this.
    absl::Duration longest = absl::Minutes(10);
    // Who has been away for longer than this has been away for long: no two of
    // those are named within `long_pace`.
    absl::Duration recent = absl::Hours(1);
    absl::Duration long_pace = absl::Minutes(2);
    // One that has been away for so long is named once more and forgotten.
    absl::Duration forgotten = absl::Hours(7 * 24);
  };
  LostNodes(Options options, uint64_t seed)
      : options_(options), random_(seed) {}

  // It left at `now`. Whoever is among them already takes the new address.
  void Add(const Contact& contact, absl::Time now);
  // It is back. Says whether it was among them.
  bool Remove(const Key& id);

  size_t size() const { return nodes_.size(); }
  std::vector<Contact> All() const;
  // Whose turn it is to be asked whether it is back, if it is anybody's:
  // whoever has been due for longest. To be called every second or so.
  std::optional<Contact> Next(absl::Time now);

  // Those that have not been away for long.
  std::vector<Contact> Recent(absl::Time now) const;

 private:
  struct Lost {
    Contact contact;
    absl::Time left;
    absl::Time due;
    uint64_t rank;  // drawn; the greatest is the first to be forgotten
  };
  bool IsRecent(const Lost& lost, absl::Time now) const {
    return now - lost.left <= options_.recent;
  }
  void ForgetOne(absl::Time now);

  const Options options_;
  Random random_;
  std::vector<Lost> nodes_;
  absl::Time next_ = absl::InfinitePast();
  absl::Time next_long_ = absl::InfinitePast();
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_ROUTING_LOST_NODES_H_
