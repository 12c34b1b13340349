#include "dht/simulation/scenarios.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "dht/records/signed.h"

namespace koinon::dht {
namespace {

constexpr size_t kProvidersOfEach = 5;
constexpr size_t kProvidersWanted = 20;  // as fetches want

// Of the k that are truly closest, without `asker`, how many were found.
size_t Recalled(const SimulatedFleet& fleet, size_t asker, const Key& target,
                const std::vector<Contact>& found, size_t k, bool* nearest) {
  std::set<Key> ids;
  for (const Contact& contact : found) ids.insert(contact.id);
  size_t recalled = 0;
  size_t wanted = 0;
  for (const size_t i : fleet.TrueClosest(target, k + 1)) {
    if (i == asker || wanted == k) continue;
    const bool hit = ids.contains(fleet.contact(i).id);
    if (wanted++ == 0) *nearest = hit;
    recalled += hit;
  }
  return recalled;
}

// So many ask at the same time that they hardly meet, and simulated time, in
// which all the others go on with their upkeep, is not spent on each of them
// alone.
size_t AtOnce(const SimulatedFleet& fleet) {
  return std::max<size_t>(1, fleet.size() / 100);
}

// Contents that a few nodes serve, and looking for those.
class Announced {
 public:
  Announced(SimulatedFleet* fleet, absl::string_view names, size_t contents)
      : fleet_(fleet) {
    for (size_t i = 0; i < contents; ++i) {
      Content& content = contents_.emplace_back();
      content.key = Sha256Of(absl::StrCat(names, " ", i));
      while (content.servers.size() < kProvidersOfEach) {
        const size_t server = fleet->Any();
        if (!content.servers.insert(server).second) continue;
        fleet->node(server).Provide(content.key);
      }
    }
    fleet->network().RunFor(absl::Seconds(10));
  }

  ProviderFigures Search(size_t searches) {
    ProviderFigures figures;
    std::vector<double> milliseconds;
    fleet_->InTurns(searches, AtOnce(*fleet_), [&](size_t, auto done) {
      const Content& content = AnyContent();
      size_t asker = fleet_->Any();
      while (content.servers.contains(asker)) asker = fleet_->Any();
      const absl::Time start = fleet_->network().Now();
      ++figures.searches;
      fleet_->node(asker).FindProviders(
          content.key, kProvidersWanted,
          [this, done, start, &content, &figures,
           &milliseconds](const auto& found) {
            done();
            milliseconds.push_back(
                absl::ToDoubleMilliseconds(fleet_->network().Now() - start));
            if (found.ok()) Count(content, *found, &figures);
          });
    });
    figures.milliseconds = QuantilesOf(milliseconds);
    return figures;
  }

 private:
  struct Content {
    Key key;
    std::set<size_t> servers;
  };

  // One that somebody honest serves.
  const Content& AnyContent() {
    while (true) {
      const Content& content =
          contents_[fleet_->random().NextBelow(contents_.size())];
      for (const size_t server : content.servers) {
        if (!fleet_->lies(server)) return content;
      }
    }
  }

  void Count(const Content& content, const std::vector<Contact>& found,
             ProviderFigures* figures) const {
    std::set<Key> serving;
    for (const size_t server : content.servers) {
      if (!fleet_->lies(server)) serving.insert(fleet_->contact(server).id);
    }
    size_t good = 0;
    for (const Contact& contact : found) good += serving.contains(contact.id);
    figures->found += good > 0;
    figures->named += found.size();
    figures->false_ones += found.size() - good;
  }

  SimulatedFleet* const fleet_;
  std::vector<Content> contents_;
};

}  // namespace

Quantiles QuantilesOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  return {values[(values.size() - 1) / 2],
          values[(values.size() - 1) * 19 / 20]};
}

LookupFigures LookUpAtRandom(SimulatedFleet* fleet, size_t lookups) {
  const size_t k = Node::Options().k;
  LookupFigures figures;
  std::vector<double> depth, questions, milliseconds;
  size_t recalled = 0;
  fleet->InTurns(lookups, AtOnce(*fleet), [&](size_t i, auto done) {
    const size_t asker = fleet->Any();
    const Key target = Sha256Of(absl::StrCat("place ", i));
    const absl::Time start = fleet->network().Now();
    ++figures.lookups;
    fleet->node(asker).FindClosest(
        target, [=, &figures, &recalled, &depth, &questions,
                 &milliseconds](const auto& closest) {
          done();
          if (!closest.ok()) return;
          bool nearest = false;
          recalled +=
              Recalled(*fleet, asker, target, closest->nodes, k, &nearest);
          figures.closest_found += nearest;
          depth.push_back(closest->depth);
          questions.push_back(closest->path.size());
          milliseconds.push_back(
              absl::ToDoubleMilliseconds(fleet->network().Now() - start));
        });
  });
  figures.recall = static_cast<double>(recalled) / (lookups * k);
  figures.depth = QuantilesOf(depth);
  figures.questions = QuantilesOf(questions);
  figures.milliseconds = QuantilesOf(milliseconds);
  const std::vector<size_t> alive = fleet->AliveHonest();
  for (const size_t i : alive) {
    figures.table += static_cast<double>(fleet->node(i).table().size()) /
                     static_cast<double>(alive.size());
  }
  return figures;
}

size_t Library::Put(size_t records, size_t size_bytes,
                    std::optional<size_t> not_by) {
  size_t stored = 0;
  fleet_->InTurns(records, AtOnce(*fleet_), [&](size_t, auto done) {
    v1::Record record = SimulatedRecord(seed_, keys_.size(), size_bytes);
    keys_.push_back(ImmutableKey(record.immutable()));
    size_t by = fleet_->Any();
    while (by == not_by) by = fleet_->Any();
    fleet_->node(by).Put(keys_.back(), std::move(record),
                         [done, &stored](const auto& result) {
                           done();
                           stored += result.ok();
                         });
  });
  return stored;
}

GetFigures Library::Get(size_t gets) {
  GetFigures figures;
  std::vector<double> milliseconds, questions;
  fleet_->InTurns(gets, AtOnce(*fleet_), [&](size_t, auto done) {
    const Key key = keys_[fleet_->random().NextBelow(keys_.size())];
    const absl::Time start = fleet_->network().Now();
    ++figures.gets;
    fleet_->node(fleet_->Any())
        .Get(key, {},
             [=, this, &figures, &milliseconds,
              &questions](const absl::StatusOr<Node::GetResult>& result) {
               done();
               milliseconds.push_back(
                   absl::ToDoubleMilliseconds(fleet_->network().Now() - start));
               if (!result.ok()) return;
               Count(key, *result, &figures);
               questions.push_back(result->path.size());
             });
  });
  figures.milliseconds = QuantilesOf(milliseconds);
  figures.questions = QuantilesOf(questions);
  return figures;
}

void Library::Count(const Key& key, const Node::GetResult& result,
                    GetFigures* figures) {
  ++figures->found;
  figures->on_first_path += result.paths == 1;
  figures->wrong += ImmutableKey(result.opened.value) != key;
  for (const auto& [reason, count] : result.rejections) {
    figures->refused += count;
  }
}

SimulatedFleet::Options LargeNetwork(uint64_t seed, size_t nodes) {
  SimulatedFleet::Options options;
  options.seed = seed;
  options.nodes = nodes;
  options.node.routing.full_table = 0;
  return options;
}

std::unique_ptr<SimulatedFleet> StartedFleet(uint64_t seed, size_t nodes) {
  auto fleet = std::make_unique<SimulatedFleet>(LargeNetwork(seed, nodes));
  return fleet->Start() ? std::move(fleet) : nullptr;
}

GetFigures HalfDeadScenario(SimulatedFleet* fleet, size_t records,
                            size_t gets) {
  Library library(fleet, fleet->seed());
  library.Put(records);
  std::vector<size_t> alive = fleet->AliveHonest();
  fleet->random().Shuffle(&alive);
  for (size_t i = 0; i < alive.size() / 2; ++i) fleet->Kill(alive[i]);
  return library.Get(gets);
}

LiarFigures LiarScenario(SimulatedFleet* fleet, double liars, Lie lie,
                         size_t records, size_t gets) {
  Library before(fleet, fleet->seed());
  before.Put(records);
  fleet->StartLying(liars, lie);
  LiarFigures figures;
  figures.stored = before.Get(gets);
  Library after(fleet, ~fleet->seed());
  after.Put(records);
  figures.while_lying = after.Get(gets);
  return figures;
}

ProviderLiarFigures ProviderLiarScenario(SimulatedFleet* fleet, double liars,
                                         Lie lie, size_t contents,
                                         size_t searches) {
  Announced before(fleet, "content", contents);
  fleet->StartLying(liars, lie);
  ProviderLiarFigures figures;
  figures.announced = before.Search(searches);
  Announced after(fleet, "later content", contents);
  figures.while_lying = after.Search(searches);
  return figures;
}

SmallFleetFigures SmallFleetScenario(uint64_t seed, size_t nodes,
                                     size_t records, size_t gets) {
  SimulatedFleet::Options options;
  options.seed = seed;
  options.nodes = nodes;
  SimulatedFleet fleet(options);
  fleet.Start();
  SmallFleetFigures figures;
  figures.nodes = nodes;
  for (size_t i = 0; i < nodes; ++i) {
    figures.table += static_cast<double>(fleet.node(i).table().size()) /
                     static_cast<double>(nodes);
  }
  Library library(&fleet, seed);
  std::vector<double> milliseconds;
  for (size_t i = 0; i < records; ++i) {
    const absl::Time start = fleet.network().Now();
    figures.stored += library.Put(1);
    milliseconds.push_back(
        absl::ToDoubleMilliseconds(fleet.network().Now() - start));
  }
  figures.puts = records;
  figures.put_milliseconds = QuantilesOf(milliseconds);
  figures.gets = library.Get(gets);
  for (size_t i = 0; i < gets; ++i) {
    const auto result =
        fleet.Get(fleet.Any(), library.keys()[i % library.keys().size()]);
    figures.one_step_gets +=
        result.ok() &&
        std::all_of(result->path.begin(), result->path.end(),
                    [](const Lookup::Step& step) { return step.depth == 1; });
  }
  return figures;
}

FloodFigures FloodScenario(uint64_t seed, size_t nodes) {
  SimulatedFleet::Options options = LargeNetwork(seed, nodes);
  options.store.max_keys_per_writer = 50;
  options.store.max_bytes_per_writer = 50 << 10;
  SimulatedFleet fleet(options);
  fleet.Start();
  FloodFigures figures;
  // Ten times the flood's keys would be twice that; what others store is
  // little.
  figures.bound_bytes = options.store.max_bytes_per_writer;
  // Of the flood's records, each node is given the share k/nodes.
  const size_t quota = options.store.max_keys_per_writer * nodes / 20;
  const size_t writer = fleet.Any();
  Library library(&fleet, seed);
  for (size_t i = 0; i < 10 * quota; ++i) {
    v1::Record record = SimulatedRecord(~seed, i, 200);
    const Key key = ImmutableKey(record.immutable());
    // Answers are not waited for: as fast as it can.
    fleet.node(writer).Put(key, std::move(record), [](const auto&) {});
    ++figures.flooded;
    if (i % 50 == 0) {
      ++figures.puts;
      // The flood pushes out what else the same writer has stored.
      figures.stored += library.Put(1, 500, writer);
    }
  }
  fleet.network().RunFor(absl::Seconds(30));
  const GetFigures gets = library.Get(2 * figures.puts);
  figures.gets = gets.gets;
  figures.found = gets.found;
  for (size_t i = 0; i < nodes; ++i) {
    const Node::Status status = fleet.node(i).status();
    const auto refused = status.counters.find("refused_quota");
    if (refused != status.counters.end()) figures.refused += refused->second;
    figures.most_bytes =
        std::max(figures.most_bytes, status.store.record_bytes);
  }
  return figures;
}

std::string LogOfABusyFleet(uint64_t seed, size_t nodes) {
  SimulatedFleet::Options options = LargeNetwork(seed, nodes);
  options.network.loss = 0.01;
  SimulatedFleet fleet(options);
  fleet.Start();
  fleet.StartLying(0.1, Lie::kMixed);
  Library library(&fleet, seed);
  library.Put(5);
  fleet.Kill(fleet.Any());
  fleet.Add();
  fleet.network().RunFor(absl::Minutes(1));
  library.Get(10);
  return fleet.network().log_digest();
}

}  // namespace koinon::dht
