#ifndef KOINON_DHT_SWARM_SEED_POLICY_H_
#define KOINON_DHT_SWARM_SEED_POLICY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dht/swarm/bitmap.h"

namespace koinon::dht {

// Which piece an origin gives to whom: the one that fewest hold, and of those
// the one that it has given out least (ties drawn by seed); none that `copies`
// peers hold which can pass it on. So what leaves the origin does not grow with
// the number of workers. Pure. Not thread-safe. One for each content.
//
// For each peer, the copies count that it can get: those of its own site and,
// if it crosses sites, those of all peers that do. A peer that serves nobody
// counts for nobody, and is left to those from which it can get pieces, if
// there are any.
//
// An origin that chooses when it is about to send, and sends few pieces at a
// time, chooses best, and has its first pieces passed on soonest.
class SeedPolicy {
 public:
  struct Options {
    size_t pieces = 0;
    size_t copies = 2;
    uint64_t seed = 0;
    // Last resorts that a peer is refused before it is believed that others
    // cannot give it what they hold.
    size_t refusals = 2;
  };
  using Peer = uint64_t;

  explicit SeedPolicy(Options options);
  ~SeedPolicy();

  // Whom a peer exchanges with: those of its site, and if it crosses sites, all
  // others that do.
  struct Place {
    std::string site = {};
    bool crosses = false;
  };
  // `serves`: others can fetch from it. A peer that is there already, or was
  // once, is taken anew: what was on its way to it is forgotten. `have`: of as
  // many pieces as `options` says.
  void AddPeer(Peer peer, const Place& place, bool serves, const Bitmap& have);
  // It has gone, and with it, if `lost`, what it had: those copies do not count
  // any more. A peer that finished and still serves is not lost; it may be lost
  // later. Calls about peers that never were there do nothing, here and below.
  void RemovePeer(Peer peer, bool lost);
  void OnHave(Peer peer, uint32_t piece);

  // A piece for `peer`, counted as given; none if every piece that it lacks is
  // held by, or on its way to, `copies` serving peers that it can get it from.
  std::optional<uint32_t> Choose(Peer peer);
  // `peer` asks for this very piece as its last resort. True: given, and
  // counted apart. False if it has it already or is being given it, and, the
  // first `refusals` times since a peer gave it anything, if Choose would not
  // give the piece.
  bool Grant(Peer peer, uint32_t piece);
  // The piece did not get there.
  void OnBroken(Peer peer, uint32_t piece);

  // Pieces that Choose gave out, and that Grant did.
  int64_t chosen() const;
  int64_t granted() const;

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SEED_POLICY_H_
