#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/node_identity.h"
#include "base/signing.h"
#include "dht/simulation/scenarios.h"

// The scenarios in which time passes: churn, holders that die, a split.

namespace koinon::dht {
namespace {

// Somebody who signs in the simulation, always the same.
LocalNode Signer() {
  LocalNode signer = {.key = *SigningKey::FromSeed(std::string(32, 's')),
                      .identity = {},
                      .id = {},
                      .federation = SimulatedFleet::kFederation,
                      .owner = "server",
                      .certificate_der = ""};
  signer.identity.key = signer.key.public_key();
  signer.identity.nonce = std::string(NodeIdentity::kNonceBytes, 'n');
  signer.id = NodeIdOf(signer.federation, signer.identity);
  return signer;
}

// Longer than a get takes.
constexpr absl::Duration kLastGets = absl::Seconds(30);

struct Shelved {
  Key key;
  absl::Time expires;
};

// Every tenth record is signed and expires at `expiry`.
std::vector<Shelved> PutOfBothKinds(SimulatedFleet* fleet, uint64_t seed,
                                    size_t records, absl::Time expiry) {
  std::vector<Shelved> shelf;
  const LocalNode signer = Signer();
  for (size_t i = 0; i < records; ++i) {
    Shelved shelved;
    v1::Record record;
    if (i % 10 == 9) {
      v1::MutableRecord body;
      body.set_name(absl::StrCat("head/job-", i));
      body.set_epoch(1);
      body.set_sequence(i);
      body.set_expires_ms(absl::ToUnixMillis(expiry));
      body.set_value("a head");
      shelved.key = MutableKey(signer.federation, signer.owner, body.name());
      shelved.expires = expiry;
      auto signed_record = SignRecord(body, signer);
      if (!signed_record.ok()) continue;
      record = *std::move(signed_record);
    } else {
      record = SimulatedRecord(seed, i, 500);
      shelved.key = ImmutableKey(record.immutable());
      shelved.expires = absl::InfiniteFuture();
    }
    if (fleet->Put(fleet->Any(), shelved.key, std::move(record)).ok()) {
      shelf.push_back(shelved);
    }
  }
  return shelf;
}

// A get that somebody has begun.
struct Begun {
  size_t asker = 0;
  bool done = false;
};

std::shared_ptr<Begun> GetOne(SimulatedFleet* fleet, const Shelved& shelved,
                              ChurnFigures* figures) {
  auto begun = std::make_shared<Begun>();  // and the callback
  begun->asker = fleet->Any();
  const bool expired = fleet->network().Now() >= shelved.expires;
  fleet->node(begun->asker)
      .Get(shelved.key, {}, [=](const absl::StatusOr<Node::GetResult>& result) {
        begun->done = true;
        // What expires while it is looked for may be found or not.
        if (!expired && fleet->network().Now() >= shelved.expires) return;
        if (expired) {
          ++figures->expired_gets;
          figures->outlived += result.ok();
        } else {
          ++figures->gets;
          figures->found += result.ok();
        }
      });
  return begun;
}

}  // namespace

ChurnFigures ChurnScenario(SimulatedFleet* fleet, double share,
                           absl::Duration duration, size_t records) {
  const auto nodes = static_cast<double>(fleet->AliveHonest().size());
  SimulatedNetwork& network = fleet->network();
  const absl::Time end = network.Now() + duration;
  const std::vector<Shelved> shelf =
      PutOfBothKinds(fleet, fleet->seed(), records, end - duration / 2);
  ChurnFigures figures;
  figures.stored = shelf.size();
  const absl::Duration between = absl::Minutes(1) / (share * nodes);
  std::vector<std::shared_ptr<Begun>> begun;
  while (network.Now() < end) {
    fleet->Kill(fleet->Any());
    fleet->Add();
    ++figures.replaced_nodes;
    begun.push_back(GetOne(
        fleet, shelf[fleet->random().NextBelow(shelf.size())], &figures));
    network.RunFor(between);
  }
  network.RunFor(kLastGets);
  // Whoever has died meanwhile need not be answered.
  for (const std::shared_ptr<Begun>& get : begun) {
    if (!get->done && fleet->alive(get->asker)) ++figures.gets;
  }
  for (const Shelved& shelved : shelf) {
    if (shelved.expires < network.Now()) continue;
    figures.lost += !fleet->Get(fleet->Any(), shelved.key).ok();
  }
  return figures;
}

HolderFigures KilledHoldersScenario(SimulatedFleet* fleet, size_t kills) {
  Library library(fleet, fleet->seed());
  library.Put(1);
  fleet->network().RunFor(absl::Seconds(5));
  const Key key = library.keys()[0];
  HolderFigures figures;
  std::vector<size_t> holders = fleet->Holders(key);
  const std::set<size_t> first(holders.begin(), holders.end());
  figures.fewest_holders = holders.size();
  for (size_t i = 0; i < kills && !holders.empty(); ++i) {
    fleet->Kill(*std::min_element(
        holders.begin(), holders.end(), [&](size_t a, size_t b) {
          return Closer(key, fleet->contact(a).id, fleet->contact(b).id);
        }));
    ++figures.killed;
    fleet->network().RunFor(absl::Seconds(10));
    ++figures.gets;
    figures.found += fleet->Get(fleet->Any(), key).ok();
    holders = fleet->Holders(key);
    figures.fewest_holders = std::min(figures.fewest_holders, holders.size());
  }
  figures.holders_at_the_end = holders.size();
  for (const size_t i : first) figures.first_holders_left += fleet->alive(i);
  return figures;
}

SplitFigures SplitScenario(SimulatedFleet* fleet, absl::Duration apart) {
  const size_t nodes = fleet->size();
  const auto half_of = [](size_t i) { return static_cast<int>(i % 2); };
  for (size_t i = 0; i < nodes; ++i) fleet->SetGroup(i, half_of(i));
  fleet->network().RunFor(apart / 2);
  std::vector<Key> stored;
  for (size_t i = 0; i < 20; ++i) {
    v1::Record record = SimulatedRecord(fleet->seed(), i, 500);
    const Key key = ImmutableKey(record.immutable());
    stored.push_back(key);
    size_t by = fleet->Any();
    while (half_of(by) != half_of(i)) by = fleet->Any();
    (void)fleet->Put(by, key, std::move(record));
  }
  fleet->network().RunFor(apart / 2);
  SplitFigures figures;
  figures.recall_apart = LookUpAtRandom(fleet, 50).recall;

  for (size_t i = 0; i < nodes; ++i) fleet->SetGroup(i, 0);
  const absl::Time healed = fleet->network().Now();
  figures.until_one_again = absl::InfiniteDuration();
  while (fleet->network().Now() < healed + absl::Minutes(20)) {
    if (LookUpAtRandom(fleet, 100).recall >= 0.999) {
      figures.until_one_again = fleet->network().Now() - healed;
      break;
    }
    fleet->network().RunFor(absl::Seconds(15));
  }
  for (size_t i = 0; i < stored.size(); ++i) {
    size_t by = fleet->Any();
    while (half_of(by) == half_of(i)) by = fleet->Any();
    ++figures.gets;
    figures.found += fleet->Get(by, stored[i]).ok();
  }
  return figures;
}

}  // namespace koinon::dht
