#include "dht/query/lookup.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/random.h"
#include "dht/key.h"
#include "dht/routing/routing_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);

Key Self() { return Sha256Of("self"); }
Key Target() { return Sha256Of("target"); }

Contact At(const Key& id) {
  return {.id = id, .address = absl::StrCat(id.ToShortHex(), ":1"), .site = ""};
}

// The node at the i-th place from the target: 0 is the nearest there can be.
Contact Near(uint64_t i) {
  std::string distance(Key::kSizeBytes, '\0');
  for (size_t byte = 0; byte < sizeof(i); ++byte) {
    distance[Key::kSizeBytes - 1 - byte] = static_cast<char>(i >> (8 * byte));
  }
  return At(Distance(Target(), *Key::FromBytes(distance)));
}

std::vector<Contact> Near(uint64_t first, uint64_t end) {
  std::vector<Contact> nodes;
  for (uint64_t i = first; i < end; ++i) nodes.push_back(Near(i));
  return nodes;
}

std::vector<Contact> RandomNodes(Random* random, size_t count) {
  std::vector<Contact> nodes;
  for (size_t i = 0; i < count; ++i) {
    nodes.push_back(At(Sha256Of(absl::StrCat(random->NextUint64()))));
  }
  return nodes;
}

std::vector<Contact> Nearest(std::vector<Contact> nodes, const Key& target,
                             size_t count) {
  std::sort(nodes.begin(), nodes.end(),
            [&](const Contact& a, const Contact& b) {
              return Closer(target, a.id, b.id);
            });
  nodes.resize(std::min(count, nodes.size()));
  return nodes;
}

// A network that answers from a table: what each node names.
using Network = std::map<Key, std::vector<Contact>>;

// Each node knows a random few of the others and those nearest to itself.
Network RandomNetwork(const std::vector<Contact>& nodes, Random* random) {
  Network network;
  for (const Contact& node : nodes) {
    std::vector<Contact> known = Nearest(nodes, node.id, 8);
    const size_t more = random->NextBelow(20);
    for (size_t i = 0; i < more; ++i) {
      known.push_back(nodes[random->NextBelow(nodes.size())]);
    }
    network[node.id] = known;
  }
  return network;
}

// Drives a lookup, answers coming in random order, and checks on the way what
// holds for every walk.
class Drive {
 public:
  Drive(Lookup* lookup, const Lookup::Options& options, const Network* network,
        Random* random)
      : lookup_(lookup),
        options_(options),
        network_(network),
        random_(random) {}

  std::set<Key> dead;    // they fail
  std::set<Key> silent;  // neither answer nor fail
  absl::Time now = kStart;

  void Run() {
    for (int step = 0; !lookup_->done(); ++step) {
      ASSERT_LT(step, 10'000) << "does not end";
      ASSERT_NO_FATAL_FAILURE(Ask());
      if (lookup_->done()) break;
      const bool wait = random_->NextDouble() < 0.1;  // a slow answer
      const absl::Time deadline = lookup_->next_deadline();
      ASSERT_NE(deadline, absl::InfiniteFuture());
      if (out_.empty() || (wait && deadline < kStart + options_.deadline)) {
        now = std::max(now, deadline);
      } else {
        Report(random_->NextBelow(out_.size()));
      }
    }
    EXPECT_THAT(lookup_->Next(now), IsEmpty());
    EXPECT_EQ(lookup_->next_deadline(), absl::InfiniteFuture());
  }

 private:
  void Ask() {
    for (const Contact& contact : lookup_->Next(now)) {
      ASSERT_TRUE(asked_.insert(contact.id).second) << "asked twice";
      ASSERT_FALSE(contact.id == Self());
      if (!silent.contains(contact.id)) out_.push_back(contact.id);
    }
    std::vector<size_t> in_flight(options_.paths);
    std::vector<size_t> questions(options_.paths);
    for (const Lookup::Step& step : lookup_->steps()) {
      ++questions[step.path];
      in_flight[step.path] += step.outcome == Lookup::Step::kWaiting &&
                              now - step.asked < options_.hedge;
    }
    for (size_t path = 0; path < options_.paths; ++path) {
      ASSERT_LE(in_flight[path], options_.alpha);
      ASSERT_LE(questions[path], options_.max_questions);
    }
    ASSERT_EQ(lookup_->questions(), asked_.size());
  }

  void Report(size_t which) {
    const Key id = out_[which];
    out_.erase(out_.begin() + which);
    now += absl::Milliseconds(1);
    if (dead.contains(id)) {
      lookup_->OnFailure(id, now);
    } else {
      lookup_->OnAnswer(id, network_->at(id), now);
    }
  }

  Lookup* const lookup_;
  const Lookup::Options options_;
  const Network* const network_;
  Random* const random_;
  std::set<Key> asked_;
  std::vector<Key> out_;
};

TEST(LookupTest, New_NoSeeds_IsDone) {
  Lookup lookup(Target(), Self(), {}, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Next(kStart), IsEmpty());
  EXPECT_THAT(lookup.Closest(), IsEmpty());
  EXPECT_EQ(lookup.next_deadline(), absl::InfiniteFuture());
  EXPECT_EQ(lookup.depth(), 0u);
}

TEST(LookupTest, New_OnlyItselfAndClients_IsDone) {
  Contact client = Near(1);
  client.address.clear();
  Lookup lookup(Target(), Self(), {At(Self()), client}, {}, kStart);
  EXPECT_TRUE(lookup.done());
}

TEST(LookupTest, Next_ManySeeds_AlphaOfTheClosest) {
  Lookup lookup(Target(), Self(), Near(10, 40), {.alpha = 3}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(10), Near(11), Near(12)));
  EXPECT_THAT(lookup.Next(kStart), IsEmpty());
  lookup.OnAnswer(Near(11).id, {Near(5), Near(50)}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(5)));
  EXPECT_FALSE(lookup.done());
}

TEST(LookupTest, OnAnswer_ClosestKAnswered_IsDone) {
  Lookup lookup(Target(), Self(), Near(0, 5), {.k = 3, .beta = 3}, kStart);
  EXPECT_THAT(lookup.Next(kStart), SizeIs(3));
  lookup.OnAnswer(Near(0).id, {}, kStart);
  lookup.OnAnswer(Near(2).id, {}, kStart);
  EXPECT_FALSE(lookup.done());
  // Nobody else would be among the closest three.
  EXPECT_THAT(lookup.Next(kStart), IsEmpty());
  lookup.OnAnswer(Near(1).id, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_EQ(lookup.Closest(), Near(0, 3));
  EXPECT_EQ(lookup.questions(), 3u);
}

TEST(LookupTest, OnFailure_AmongTheClosest_TheNextOneTakesItsPlace) {
  Lookup lookup(Target(), Self(), Near(0, 5), {.k = 3, .beta = 3}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(0).id, {}, kStart);
  lookup.OnFailure(Near(1).id, kStart);
  lookup.OnAnswer(Near(2).id, {}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(3)));
  lookup.OnAnswer(Near(3).id, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(0), Near(2), Near(3)));
  EXPECT_THAT(lookup.Heard(), ElementsAre(Near(0), Near(2), Near(3)));
}

TEST(LookupTest, Beta_LessThanK_EndsEarly) {
  Lookup lookup(Target(), Self(), Near(0, 20), {.alpha = 10, .beta = 3},
                kStart);
  EXPECT_THAT(lookup.Next(kStart), SizeIs(10));
  lookup.OnAnswer(Near(9).id, {}, kStart);
  lookup.OnAnswer(Near(0).id, {}, kStart);
  lookup.OnAnswer(Near(2).id, {}, kStart);
  EXPECT_FALSE(lookup.done());
  lookup.OnAnswer(Near(1).id, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Closest(),
              ElementsAre(Near(0), Near(1), Near(2), Near(9)));
}

TEST(LookupTest, Hedge_SlowQuestion_AnotherIsAskedBesideIt) {
  Lookup lookup(Target(), Self(), Near(0, 5),
                {.alpha = 1, .hedge = absl::Milliseconds(100)}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(0)));
  const absl::Time slow = kStart + absl::Milliseconds(100);
  EXPECT_EQ(lookup.next_deadline(), slow);
  EXPECT_THAT(lookup.Next(slow - absl::Nanoseconds(1)), IsEmpty());
  EXPECT_THAT(lookup.Next(slow), ElementsAre(Near(1)));
  EXPECT_EQ(lookup.next_deadline(), slow + absl::Milliseconds(100));
  // It comes all the same, and counts.
  lookup.OnAnswer(Near(0).id, {}, slow);
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(0)));
  EXPECT_THAT(lookup.Next(slow), IsEmpty());  // Near(1) is in flight
}

TEST(LookupTest, Hedge_SlowAmongTheClosest_IsWaitedForAndSomebodyElseAsked) {
  Lookup lookup(Target(), Self(), Near(0, 4),
                {.k = 2, .beta = 2, .hedge = absl::Milliseconds(100)}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(0), Near(1)));
  lookup.OnAnswer(Near(1).id, {}, kStart);
  const absl::Time slow = kStart + absl::Milliseconds(100);
  EXPECT_EQ(lookup.next_deadline(), slow);
  EXPECT_THAT(lookup.Next(slow), IsEmpty());  // it most likely answers yet
  const absl::Time doubtful = slow + absl::Milliseconds(100);
  EXPECT_EQ(lookup.next_deadline(), doubtful);
  EXPECT_THAT(lookup.Next(doubtful), ElementsAre(Near(2)));
  lookup.OnAnswer(Near(2).id, {}, doubtful);
  EXPECT_FALSE(lookup.done());  // Near(0) may still answer
  EXPECT_THAT(lookup.Next(slow + absl::Seconds(1)), IsEmpty());
  lookup.OnFailure(Near(0).id, doubtful);
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(1), Near(2)));
}

TEST(LookupTest, OnAnswer_AfterItsFailure_CountsAgain) {
  Lookup lookup(Target(), Self(), Near(3, 6), {.alpha = 1}, kStart);
  lookup.Next(kStart);
  lookup.OnFailure(Near(3).id, kStart);
  EXPECT_EQ(lookup.steps()[0].outcome, Lookup::Step::kFailed);
  lookup.OnAnswer(Near(3).id, {Near(0)}, kStart + absl::Seconds(2));
  EXPECT_EQ(lookup.steps()[0].outcome, Lookup::Step::kAnswered);
  EXPECT_EQ(lookup.steps()[0].took, absl::Seconds(2));
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(3)));
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(0)));
}

// rust-libp2p's failure_can_not_overwrite_previous_success.
TEST(LookupTest, OnFailure_AfterItsAnswer_ChangesNothing) {
  Lookup lookup(Target(), Self(), Near(3, 6), {.alpha = 1}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(3).id, {}, kStart);
  lookup.OnFailure(Near(3).id, kStart);
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(3)));
  EXPECT_EQ(lookup.steps()[0].outcome, Lookup::Step::kAnswered);
}

TEST(LookupTest, OnAnswer_NotAsked_IsIgnored) {
  Lookup lookup(Target(), Self(), Near(0, 5), {.alpha = 1}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(4).id, {Near(100)}, kStart);
  lookup.OnAnswer(Near(99).id, {Near(101)}, kStart);
  lookup.OnFailure(Near(3).id, kStart);
  EXPECT_THAT(lookup.Closest(), IsEmpty());
  EXPECT_EQ(lookup.Heard(), Near(0, 5));
}

TEST(LookupTest, OnAnswer_NamesTooManyItselfAndClients_OnlyUsefulOnesCount) {
  Lookup lookup(Target(), Self(), {Near(50)}, {.k = 4}, kStart);
  lookup.Next(kStart);
  Contact client = Near(1);
  client.address.clear();
  const std::vector<Contact> named = {At(Self()), client, Near(50), Near(7),
                                      Near(6)};
  lookup.OnAnswer(Near(50).id, named, kStart);
  EXPECT_THAT(lookup.Heard(), ElementsAre(Near(7), Near(50)));
}

TEST(LookupTest, Candidates_OverTheCap_NearerOnesStayAndTheCapIsCounted) {
  Lookup lookup(Target(), Self(), {Near(50)}, {.max_candidates = 3}, kStart);
  lookup.Next(kStart);
  EXPECT_EQ(lookup.caps(), Lookup::kNone);
  lookup.OnAnswer(Near(50).id, {Near(60), Near(61), Near(10), Near(70)},
                  kStart);
  EXPECT_EQ(lookup.caps(), Lookup::kCandidates);
  EXPECT_THAT(lookup.Heard(), ElementsAre(Near(10), Near(50), Near(60)));
}

TEST(LookupTest, Questions_OverTheCap_EndsAndTheCapIsCounted) {
  Lookup lookup(Target(), Self(), Near(0, 9), {.max_questions = 4}, kStart);
  EXPECT_EQ(lookup.Next(kStart), Near(0, 3));
  for (const Contact& node : Near(0, 3)) lookup.OnAnswer(node.id, {}, kStart);
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(3)));
  EXPECT_FALSE(lookup.done());
  lookup.OnFailure(Near(3).id, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_EQ(lookup.caps(), Lookup::kQuestions);
  EXPECT_EQ(lookup.Closest(), Near(0, 3));
}

TEST(LookupTest, Deadline_NobodyAnswers_EndsAndTheCapIsCounted) {
  Lookup lookup(Target(), Self(), Near(0, 9), {}, kStart);
  absl::Time now = kStart;
  while (!lookup.done()) {
    lookup.Next(now);
    now = lookup.next_deadline();
  }
  EXPECT_EQ(lookup.caps(), Lookup::kDeadline);
  EXPECT_EQ(lookup.steps().back().asked, kStart + absl::Seconds(1));
}

TEST(LookupTest, Stop_Midway_AsksNobodyMore) {
  Lookup lookup(Target(), Self(), Near(0, 9), {}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(1).id, {}, kStart);
  lookup.Stop();
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Next(kStart), IsEmpty());
  lookup.OnAnswer(Near(0).id, {}, kStart);  // late
  EXPECT_EQ(lookup.Closest(), Near(0, 2));
}

TEST(LookupTest, Depth_NamedByOthers_CountsTheHops) {
  Lookup lookup(Target(), Self(), {Near(50)}, {.alpha = 1}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(50).id, {Near(20)}, kStart);
  lookup.Next(kStart);
  EXPECT_EQ(lookup.depth(), 1u);
  lookup.OnAnswer(Near(20).id, {Near(5)}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(5).id, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_EQ(lookup.depth(), 3u);
  EXPECT_EQ(lookup.steps()[2].depth, 3u);
}

TEST(LookupTest, Paths_Seeds_DealtInTurnClosestFirst) {
  Lookup lookup(Target(), Self(), Near(0, 5), {.alpha = 9, .paths = 2}, kStart);
  EXPECT_THAT(lookup.Next(kStart), SizeIs(5));
  for (const Lookup::Step& step : lookup.steps()) {
    const size_t place = step.contact == Near(0)   ? 0
                         : step.contact == Near(1) ? 1
                         : step.contact == Near(2) ? 2
                         : step.contact == Near(3) ? 3
                                                   : 4;
    EXPECT_EQ(step.path, place % 2);
  }
}

TEST(LookupTest, Paths_SameNodeNamedOnBoth_BelongsToWhoHeardOfItFirst) {
  Lookup lookup(Target(), Self(), {Near(50), Near(51)}, {.paths = 2}, kStart);
  EXPECT_THAT(lookup.Next(kStart), SizeIs(2));
  lookup.OnAnswer(Near(51).id, {Near(3)}, kStart);  // the second path
  lookup.OnAnswer(Near(50).id, {Near(3)}, kStart);
  EXPECT_FALSE(lookup.done());  // the first has nobody left; the second has
  EXPECT_THAT(lookup.Next(kStart), ElementsAre(Near(3)));
  EXPECT_EQ(lookup.steps().back().path, 1u);
  lookup.OnAnswer(Near(3).id, {}, kStart);
  EXPECT_TRUE(lookup.done());
  EXPECT_THAT(lookup.Closest(), ElementsAre(Near(3), Near(50), Near(51)));
}

// rust-libp2p's disjoint_query_does_not_finish_before_all_paths_did.
TEST(LookupTest, Paths_OneIsDone_TheWalkWaitsForTheOther) {
  Lookup lookup(Target(), Self(), Near(0, 2), {.beta = 1, .paths = 2}, kStart);
  lookup.Next(kStart);
  lookup.OnAnswer(Near(0).id, {Near(7)}, kStart);
  EXPECT_FALSE(lookup.done());
  EXPECT_THAT(lookup.Next(kStart), IsEmpty());  // the first path is done
  lookup.OnFailure(Near(1).id, kStart);
  EXPECT_TRUE(lookup.done());
}

// The scenarios of rust-libp2p's closest.rs and disjoint.rs over random
// networks: termination, bounded parallelism, no duplicates.
class RandomWalkTest : public ::testing::TestWithParam<size_t> {};

TEST_P(RandomWalkTest,
       RandomNetworks_SomeDeadSomeSilent_EveryWalkEndsAsItMust) {
  const size_t paths = GetParam();
  for (uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed, ", paths ", paths));
    Random random(DeriveSeed(seed, paths));
    const std::vector<Contact> nodes =
        RandomNodes(&random, 1 + random.NextBelow(80));
    const Network network = RandomNetwork(nodes, &random);
    Lookup::Options options;
    options.k = 1 + random.NextBelow(20);
    options.beta = 1 + random.NextBelow(options.k);
    options.alpha = 1 + random.NextBelow(10);
    options.paths = paths;
    options.max_questions = random.NextBelow(4) == 0 ? 10 : 1'000;
    options.max_candidates = random.NextBelow(4) == 0 ? 12 : 1'000;
    std::vector<Contact> seeds(
        nodes.begin(), nodes.begin() + random.NextBelow(nodes.size() + 1));
    Lookup lookup(Target(), Self(), seeds, options, kStart);
    Drive drive(&lookup, options, &network, &random);
    const double dead = random.NextDouble() / 2;
    for (const Contact& node : nodes) {
      if (random.NextDouble() < dead) drive.dead.insert(node.id);
      if (random.NextBelow(50) == 0) drive.silent.insert(node.id);
    }
    drive.Run();
    if (HasFatalFailure()) return;

    std::set<Key> good;
    for (const Lookup::Step& step : lookup.steps()) {
      const bool is_dead = drive.dead.contains(step.contact.id);
      if (step.outcome == Lookup::Step::kAnswered) {
        EXPECT_FALSE(is_dead);
        good.insert(step.contact.id);
      } else if (step.outcome == Lookup::Step::kFailed) {
        EXPECT_TRUE(is_dead);
      }
    }
    const std::vector<Contact> closest = lookup.Closest();
    EXPECT_EQ(closest.size(), std::min(good.size(), options.k));
    EXPECT_EQ(closest, Nearest(closest, Target(), options.k));
    for (const Contact& contact : closest) {
      EXPECT_TRUE(good.contains(contact.id));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Paths, RandomWalkTest, ::testing::Values(1, 2, 3));

// Without dead nodes and caps, over everything that can be reached from the
// seeds, a walk of one path ends with the closest k that it has heard of.
TEST(LookupTest, RandomNetworks_NobodyDies_ClosestHeardAllAnswered) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    const std::vector<Contact> nodes = RandomNodes(&random, 60);
    const Network network = RandomNetwork(nodes, &random);
    Lookup::Options options;
    options.k = options.beta = 1 + random.NextBelow(20);
    options.deadline = absl::Hours(1);
    Lookup lookup(Target(), Self(), {nodes[0], nodes[1]}, options, kStart);
    Drive drive(&lookup, options, &network, &random);
    drive.Run();
    if (HasFatalFailure()) return;
    EXPECT_EQ(lookup.caps(), Lookup::kNone);
    EXPECT_EQ(lookup.Closest(), lookup.Heard());
  }
}

// Everybody knows everybody: exactly the k closest, by two hops, whatever dies,
// by one path or by several (rust-libp2p's
// closest_and_disjoint_closest_yield_same_result).
TEST(LookupTest, CompleteNetwork_HalfDead_OneAndMorePathsFindTheClosestAlive) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    const std::vector<Contact> nodes = RandomNodes(&random, 50);
    Network network;
    std::set<Key> dead;
    std::vector<Contact> alive;
    for (const Contact& node : nodes) {
      network[node.id] = Nearest(nodes, Target(), nodes.size());
      if (random.NextBelow(2) == 0) {
        dead.insert(node.id);
      } else {
        alive.push_back(node);
      }
    }
    for (const size_t paths : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat("seed ", seed, ", paths ", paths));
      Lookup::Options options;
      options.k = options.beta = 50;
      options.deadline = absl::Hours(1);
      options.paths = paths;
      Lookup lookup(Target(), Self(), Nearest(nodes, Self(), 20), options,
                    kStart);
      Drive drive(&lookup, options, &network, &random);
      drive.dead = dead;
      drive.Run();
      if (HasFatalFailure()) return;
      if (lookup.Closest().empty()) continue;  // none of the seeds was alive
      // A seed that is alive names everybody, on the path that it is on.
      EXPECT_EQ(lookup.Closest(), Nearest(alive, Target(), 50));
      EXPECT_LE(lookup.depth(), 2u);
    }
  }
}

// S/Kademlia's reason for disjoint paths: liars that name only each other hold
// the path that they are on, and none else.
TEST(LookupTest, Paths_LiarsNameOnlyThemselves_OtherPathFindsTheTruth) {
  Random random(9);
  const std::vector<Contact> honest = RandomNodes(&random, 50);
  // Nearer than every honest node: one path never gets past them.
  const std::vector<Contact> liars = Near(0, 30);
  Network network;
  for (const Contact& node : honest) {
    network[node.id] = Nearest(honest, Target(), 20);
  }
  for (const Contact& liar : liars) network[liar.id] = liars;
  const auto finds_truth = [&](size_t paths) {
    Lookup::Options options;
    options.k = options.beta = 5;
    options.paths = paths;
    Lookup lookup(Target(), Self(), {liars[0], honest[0]}, options, kStart);
    Drive drive(&lookup, options, &network, &random);
    drive.Run();
    const Key truth = Nearest(honest, Target(), 1)[0].id;
    return std::any_of(lookup.steps().begin(), lookup.steps().end(),
                       [&](const Lookup::Step& step) {
                         return step.contact.id == truth &&
                                step.outcome == Lookup::Step::kAnswered;
                       });
  };
  EXPECT_FALSE(finds_truth(1));
  EXPECT_TRUE(finds_truth(2));
}

// Nodes with real routing tables, everybody alive: walks find exactly the
// closest, in the few hops and questions that Kademlia promises.
TEST(LookupTest, KademliaNetwork_RandomTargets_ClosestInFewHopsAndQuestions) {
  Random random(12);
  std::vector<Contact> nodes = RandomNodes(&random, 600);
  RoutingTable::Options kademlia;
  kademlia.full_table = 0;
  std::map<Key, RoutingTable> tables;
  for (const Contact& node : nodes) {
    RoutingTable& table =
        tables.try_emplace(node.id, node.id, kademlia).first->second;
    // They come in another order to each.
    const size_t shift = random.NextBelow(nodes.size());
    for (size_t i = 0; i < nodes.size(); ++i) {
      table.OnAnswered(nodes[(i * 7 + shift) % nodes.size()], kStart);
    }
  }
  std::vector<size_t> questions;
  std::vector<size_t> depths;
  for (int walk = 0; walk < 300; ++walk) {
    const Key target = Sha256Of(absl::StrCat("target ", walk));
    const Key self = nodes[random.NextBelow(nodes.size())].id;
    Lookup lookup(target, self, tables.at(self).Closest(target, 20), {},
                  kStart);
    std::vector<Contact> out;
    while (!lookup.done()) {
      for (const Contact& asked : lookup.Next(kStart)) out.push_back(asked);
      ASSERT_FALSE(out.empty());
      const size_t which = random.NextBelow(out.size());
      const Key id = out[which].id;
      out.erase(out.begin() + which);
      lookup.OnAnswer(id, tables.at(id).Closest(target, 20), kStart);
    }
    std::vector<Contact> others = nodes;
    std::erase_if(others, [&](const Contact& c) { return c.id == self; });
    EXPECT_EQ(lookup.Closest(), Nearest(others, target, 20));
    EXPECT_EQ(lookup.caps(), Lookup::kNone);
    questions.push_back(lookup.questions());
    depths.push_back(lookup.depth());
  }
  std::sort(questions.begin(), questions.end());
  std::sort(depths.begin(), depths.end());
  EXPECT_LE(questions[questions.size() * 95 / 100], 25u);
  EXPECT_LE(depths[depths.size() * 95 / 100], 3u);
}

}  // namespace
}  // namespace koinon::dht
