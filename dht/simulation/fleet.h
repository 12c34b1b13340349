#ifndef KOINON_DHT_SIMULATION_FLEET_H_
#define KOINON_DHT_SIMULATION_FLEET_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "dht/key.h"
#include "dht/node.h"
#include "dht/records/signed.h"
#include "dht/simulation/liar.h"
#include "dht/store/record_store.h"
#include "dht/transport/simulated.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// Many nodes on one simulated network, and somebody who sees all of them. The
// nodes' tables are filled by their own joining, not from global knowledge.
// Nodes have numbers in the order in which they were added; numbers of the dead
// are not used again. Not thread-safe.
//
//   SimulatedFleet fleet({.seed = 1, .nodes = 1000});
//   fleet.Start();
//   fleet.Put(3, key, record);
//   fleet.Kill(17);
//   fleet.Get(5, key);
class SimulatedFleet {
 public:
  struct Options {
    uint64_t seed = 1;
    size_t nodes = 100;
    // The seed is filled in.
    SimulatedNetwork::Options network = {};
    // self, seed and trust are filled in.
    Node::Options node = {};
    RecordStore::Options store = {};  // the seed is filled in
    // Nodes that join at once wait for so long one after the other.
    absl::Duration between_joins = absl::Milliseconds(20);
    // What is left to the tables to settle after the last has joined.
    absl::Duration settling = absl::Seconds(30);
  };
  explicit SimulatedFleet(Options options);
  ~SimulatedFleet();

  // Adds the nodes and lets them join. Says whether all have.
  bool Start();

  SimulatedNetwork& network() { return network_; }
  Random& random() { return random_; }
  uint64_t seed() const { return options_.seed; }
  static constexpr char kFederation[] = "simulation";

  // From now on a share of the nodes, [0, 1), lie when asked: all in the same
  // way, or a third of them in each. Until now they have joined and answered as
  // the others do, and they go on to answer pings. The first node is honest.
  void StartLying(double share, Lie lie);

  // Ever added.
  size_t size() const { return members_.size(); }
  bool alive(size_t i) const { return members_[i]->node != nullptr; }
  bool lies(size_t i) const { return members_[i]->lie.has_value(); }
  const Contact& contact(size_t i) const;
  Node& node(size_t i) { return *members_[i]->node; }

  // Another node, which joins by an honest one that is alive. Its id is drawn
  // unless given.
  size_t Add(std::optional<Key> id = std::nullopt);
  void Kill(size_t i);
  // Nodes of different groups hear nothing of each other.
  void SetGroup(size_t i, int group);

  std::vector<size_t> AliveHonest() const;
  // One that is alive, honest, and has joined.
  size_t Any();
  // The alive nodes that are nearest to the key, nearest first, liars too.
  std::vector<size_t> TrueClosest(const Key& key, size_t count) const;
  // The alive honest nodes that hold the record.
  std::vector<size_t> Holders(const Key& key) const;

  // Starts `count` things, `at_once` of them at a time, and returns when all
  // have called what they were given: each must, within minutes.
  void InTurns(
      size_t count, size_t at_once,
      const std::function<void(size_t i, std::function<void()> done)>& start);

  // What a node does, and the network runs until it is done.
  absl::StatusOr<Node::PutResult> Put(size_t i, const Key& key,
                                      v1::Record record);
  absl::StatusOr<Node::GetResult> Get(size_t i, const Key& key,
                                      Node::GetOptions options = {});
  absl::StatusOr<Node::Closest> FindClosest(size_t i, const Key& key);
  absl::StatusOr<std::vector<Contact>> FindProviders(size_t i, const Key& key,
                                                     size_t count);

 private:
  struct Member {
    SimulatedNetwork::Host* host;
    std::optional<Lie> lie;
    std::unique_ptr<RecordStore> store;
    std::unique_ptr<Node> node;  // null: dead
    bool joined = false;
  };
  size_t AddMember(std::optional<Key> id);
  void Join(size_t i);
  SimulatedNetwork::Answer AnswerOf(size_t i);
  template <typename Result>
  absl::StatusOr<Result> RunUntilDone(
      const std::function<void(std::function<void(absl::StatusOr<Result>)>)>&
          start);

  const Options options_;
  Random random_;
  SimulatedNetwork network_;
  Colluders colluders_;
  std::vector<std::unique_ptr<Member>> members_;
};

// An immutable record that nobody else has: `index` and the seed say what is in
// it.
v1::Record SimulatedRecord(uint64_t seed, uint64_t index, size_t size_bytes);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SIMULATION_FLEET_H_
