#include "dht/node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "dht/node_answers.h"
#include "dht/node_core.h"
#include "dht/node_get.h"
#include "dht/node_membership.h"
#include "dht/node_providers.h"
#include "dht/node_repair.h"
#include "dht/node_spread.h"
#include "dht/node_upkeep.h"
#include "dht/node_walk.h"

namespace koinon::dht {
namespace {

// Says to the node's own upkeep that somebody waits, until it is done.
template <typename Result>
std::function<void(Result)> Awaited(const NodeCore& core,
                                    std::function<void(Result)> done) {
  return [awaited = core.Await(), done = std::move(done)](Result result) {
    done(std::move(result));
  };
}

}  // namespace

struct Node::State {
  State(Options options, Loop* loop, Transport* transport, RecordStore* store)
      : core(std::make_shared<NodeCore>(std::move(options), loop, transport,
                                        store)),
        membership(core.get()),
        upkeep(core.get()),
        repair(core.get()),
        announcer(core.get()) {
    core->on_entered = [this](const Contact& contact) {
      membership.OnEntered(contact);
      repair.OnEntered(contact);
    };
    core->on_left = [this](const Contact& contact) { repair.OnLeft(contact); };
    // Nodes that start together do not all tick together.
    core->After(core->random().NextDouble() * core->options().maintenance,
                [this] { Tick(); });
  }
  ~State() { core->Stop(); }

  void Tick() {
    upkeep.Tick();
    membership.Tick();
    repair.Tick();
    announcer.Tick();
    core->After(core->options().maintenance, [this] { Tick(); });
  }

  // Shared with what is running while a callback ends the node.
  const std::shared_ptr<NodeCore> core;
  Membership membership;
  Upkeep upkeep;
  Repair repair;
  Announcer announcer;
};

Node::Node(Options options, Loop* loop, Transport* transport,
           RecordStore* store)
    : state_(std::make_unique<State>(std::move(options), loop, transport,
                                     store)) {}

Node::~Node() = default;

absl::StatusOr<v1::AskReply> Node::Answer(const Contact& from,
                                          const v1::AskRequest& question) {
  return AnswerQuestion(state_->core.get(), from, question);
}

void Node::Join(std::vector<std::string> addresses, Joined done) {
  state_->membership.Join(std::move(addresses), std::move(done));
}

void Node::Put(const Key& key, v1::Record record,
               std::function<void(absl::StatusOr<PutResult>)> done) {
  PutRecord(state_->core.get(), key, std::move(record),
            state_->core->options().write_quorum,
            Awaited(*state_->core, std::move(done)));
}

void Node::PutToAll(const Key& key, v1::Record record,
                    std::function<void(absl::StatusOr<PutResult>)> done) {
  PutRecord(state_->core.get(), key, std::move(record),
            state_->core->options().k, Awaited(*state_->core, std::move(done)));
}

void Node::Get(const Key& key, GetOptions options,
               std::function<void(absl::StatusOr<GetResult>)> done) {
  dht::Get::Start(state_->core.get(), key, options,
                  Awaited(*state_->core, std::move(done)));
}

void Node::FindClosest(const Key& target,
                       std::function<void(absl::StatusOr<Closest>)> done) {
  const Options& options = state_->core->options();
  Walk::Plan plan =
      FindNodePlan(state_->core.get(), target, options.store_alpha, options.k);
  plan.done = [done = Awaited(*state_->core, std::move(done))](
                  Walk::Outcome outcome) {
    Closest closest;
    closest.nodes = std::move(outcome.closest);
    closest.path = std::move(outcome.path);
    closest.depth = outcome.depth;
    closest.caps = outcome.caps;
    if (closest.nodes.empty()) {
      done(absl::UnavailableError(absl::StrCat("no node of the DHT answered (",
                                               closest.path.size(),
                                               " were asked)")));
    } else {
      done(std::move(closest));
    }
  };
  Walk::Start(state_->core.get(), std::move(plan));
}

void Node::Provide(const Key& content, int64_t importance) {
  state_->announcer.Provide(content, importance);
}

void Node::StopProviding(const Key& content) {
  state_->announcer.Stop(content);
}

void Node::FindProviders(
    const Key& content, size_t count,
    std::function<void(absl::StatusOr<std::vector<Contact>>)> done) {
  dht::FindProviders(state_->core.get(), content, count,
                     Awaited(*state_->core, std::move(done)));
}

Node::Status Node::status() const {
  Status status;
  status.nodes = state_->core->table().size();
  status.providing = state_->announcer.size();
  const size_t unannounced = state_->announcer.unannounced();
  status.store = state_->core->store().totals();
  status.counters = state_->core->counters();
  if (unannounced > 0) {
    status.counters["unannounced"] = static_cast<int64_t>(unannounced);
  }
  for (const auto& [reason, count] :
       state_->core->store().rejections().ToMap()) {
    status.counters[absl::StrCat("refused_", reason)] += count;
  }
  return status;
}

const RoutingTable& Node::table() const { return state_->core->table(); }

}  // namespace koinon::dht
