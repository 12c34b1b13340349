#include "dht/simulation/fleet.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/digest.h"
#include "base/env.h"

namespace koinon::dht {
namespace {

// Longer than anything that a node does for anybody.
constexpr absl::Duration kPatience = absl::Minutes(5);

SimulatedNetwork::Options NetworkOptions(const SimulatedFleet::Options& o) {
  SimulatedNetwork::Options network = o.network;
  network.seed = DeriveSeed(o.seed, "network");
  return network;
}

}  // namespace

SimulatedFleet::SimulatedFleet(Options options)
    : options_(std::move(options)),
      random_(DeriveSeed(options_.seed, "fleet")),
      network_(NetworkOptions(options_)) {}

SimulatedFleet::~SimulatedFleet() = default;

bool SimulatedFleet::Start() {
  for (size_t i = 0; i < options_.nodes; ++i) AddMember(std::nullopt);
  for (size_t i = 0; i < options_.nodes; ++i) {
    network_.After(static_cast<double>(i) * options_.between_joins,
                   [this, i] { Join(i); });
  }
  const bool all = network_.RunUntilTrue(
      [this, next = size_t{0}]() mutable {
        while (next < size() && members_[next]->joined) ++next;
        return next == size();
      },
      options_.nodes * options_.between_joins + kPatience);
  network_.RunFor(options_.settling);
  return all;
}

void SimulatedFleet::StartLying(double share, Lie lie) {
  for (size_t i = 1; i < size(); ++i) {
    if (!alive(i) || random_.NextDouble() >= share) continue;
    members_[i]->lie =
        lie == Lie::kMixed ? static_cast<Lie>(random_.NextBelow(3)) : lie;
    colluders_.Add(contact(i));
  }
}

size_t SimulatedFleet::AddMember(std::optional<Key> id) {
  const size_t i = members_.size();
  Contact self;
  self.id = id.value_or(Sha256Of(absl::StrCat("node ", options_.seed, "/", i)));
  self.address = absl::StrCat("n", i, ":1");
  members_.push_back(std::make_unique<Member>());
  Member& member = *members_.back();
  member.host = network_.AddHost(self);
  RecordTrust trust;
  trust.federation = kFederation;
  RecordStore::Options kept = options_.store;
  kept.seed = DeriveSeed(options_.seed, absl::StrCat("store ", i));
  auto store = RecordStore::Open(RealEnv(), "", kept, trust, network_.Now());
  KOINON_CHECK(store.ok());
  member.store = *std::move(store);
  Node::Options node = options_.node;
  node.self = self;
  node.seed = DeriveSeed(options_.seed, i);
  node.trust = trust;
  member.node =
      std::make_unique<Node>(std::move(node), member.host->loop(),
                             member.host->transport(), member.store.get());
  member.host->Serve(AnswerOf(i));
  return i;
}

SimulatedNetwork::Answer SimulatedFleet::AnswerOf(size_t i) {
  Member* const member = members_[i].get();
  return [this, member](
             const Contact& from,
             const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
    if (member->lie.has_value() && !question.has_ping()) {
      return AnswerFalsely(*member->lie, colluders_, question, &random_);
    }
    return member->node->Answer(from, question);
  };
}

void SimulatedFleet::Join(size_t i) {
  // By one that was there before, and is what an operator would name: honest.
  std::vector<std::string> addresses;
  for (int tries = 0; i > 0 && addresses.empty() && tries < 1'000; ++tries) {
    const size_t by = random_.NextBelow(i);
    if (alive(by) && !lies(by) && (members_[by]->joined || by == 0)) {
      addresses.push_back(contact(by).address);
    }
  }
  members_[i]->node->Join(addresses, [this, i](const absl::Status& status) {
    members_[i]->joined = status.ok();
  });
}

const Contact& SimulatedFleet::contact(size_t i) const {
  return members_[i]->host->contact();
}

size_t SimulatedFleet::Add(std::optional<Key> id) {
  const size_t i = AddMember(id);
  Join(i);
  return i;
}

void SimulatedFleet::Kill(size_t i) {
  members_[i]->host->Crash();
  members_[i]->node.reset();
  members_[i]->store.reset();
}

void SimulatedFleet::SetGroup(size_t i, int group) {
  network_.SetGroup(members_[i]->host, group);
}

std::vector<size_t> SimulatedFleet::AliveHonest() const {
  std::vector<size_t> found;
  for (size_t i = 0; i < size(); ++i) {
    if (alive(i) && !lies(i)) found.push_back(i);
  }
  return found;
}

size_t SimulatedFleet::Any() {
  while (true) {
    const size_t i = random_.NextBelow(size());
    if (alive(i) && !lies(i) && members_[i]->joined) return i;
  }
}

std::vector<size_t> SimulatedFleet::TrueClosest(const Key& key,
                                                size_t count) const {
  std::vector<size_t> nodes;
  for (size_t i = 0; i < size(); ++i) {
    if (alive(i)) nodes.push_back(i);
  }
  count = std::min(count, nodes.size());
  std::partial_sort(nodes.begin(), nodes.begin() + count, nodes.end(),
                    [&](size_t a, size_t b) {
                      return Closer(key, contact(a).id, contact(b).id);
                    });
  nodes.resize(count);
  return nodes;
}

std::vector<size_t> SimulatedFleet::Holders(const Key& key) const {
  std::vector<size_t> holders;
  for (size_t i = 0; i < size(); ++i) {
    if (alive(i) && !lies(i) &&
        members_[i]->store->Get(key, network_.Now()).has_value()) {
      holders.push_back(i);
    }
  }
  return holders;
}

void SimulatedFleet::InTurns(
    size_t count, size_t at_once,
    const std::function<void(size_t i, std::function<void()> done)>& start) {
  size_t out = 0;
  for (size_t i = 0; i < count; ++i) {
    KOINON_CHECK(
        network_.RunUntilTrue([&] { return out < at_once; }, kPatience));
    ++out;
    start(i, [&out] { --out; });
  }
  KOINON_CHECK(network_.RunUntilTrue([&] { return out == 0; }, kPatience));
}

template <typename Result>
absl::StatusOr<Result> SimulatedFleet::RunUntilDone(
    const std::function<void(std::function<void(absl::StatusOr<Result>)>)>&
        start) {
  // Shared with the callback, which may outlive this call's patience.
  auto result = std::make_shared<std::optional<absl::StatusOr<Result>>>();
  start([result](absl::StatusOr<Result> r) { *result = std::move(r); });
  network_.RunUntilTrue([&] { return result->has_value(); }, kPatience);
  if (!result->has_value()) return absl::InternalError("never done");
  return **std::move(result);
}

absl::StatusOr<Node::PutResult> SimulatedFleet::Put(size_t i, const Key& key,
                                                    v1::Record record) {
  return RunUntilDone<Node::PutResult>(
      [&](auto done) { node(i).Put(key, std::move(record), done); });
}

absl::StatusOr<Node::GetResult> SimulatedFleet::Get(size_t i, const Key& key,
                                                    Node::GetOptions options) {
  return RunUntilDone<Node::GetResult>(
      [&](auto done) { node(i).Get(key, options, done); });
}

absl::StatusOr<Node::Closest> SimulatedFleet::FindClosest(size_t i,
                                                          const Key& key) {
  return RunUntilDone<Node::Closest>(
      [&](auto done) { node(i).FindClosest(key, done); });
}

absl::StatusOr<std::vector<Contact>> SimulatedFleet::FindProviders(
    size_t i, const Key& key, size_t count) {
  return RunUntilDone<std::vector<Contact>>(
      [&](auto done) { node(i).FindProviders(key, count, done); });
}

v1::Record SimulatedRecord(uint64_t seed, uint64_t index, size_t size_bytes) {
  std::string value = absl::StrCat("record ", seed, "/", index, " ");
  Random random(DeriveSeed(seed, index));
  while (value.size() < size_bytes) {
    value.push_back(static_cast<char>(random.NextBelow(256)));
  }
  return ImmutableRecord(std::move(value));
}

}  // namespace koinon::dht
