#include "dht/peer.h"

#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "dht/peer_policy.h"
#include "dht/peer_service.h"
#include "dht/routing/key_prefix.h"
#include "dht/swarm/serve.h"
#include "dht/transport/callback_threads.h"
#include "dht/transport/channels.h"
#include "dht/transport/grpc_transport.h"
#include "dht/transport/strand.h"

namespace koinon::dht {
namespace {

// More than any table of a small fleet holds.
constexpr size_t kMaxStatusContacts = 4'096;
constexpr size_t kMaxLiarsNamed = 20;

// Runs `done` once: with what it is told, or, if it is destroyed before, with
// CANCELLED.
template <typename T>
class Reply {
 public:
  using Done = std::function<void(absl::StatusOr<T>)>;
  explicit Reply(Done done) : done_(std::move(done)) {}
  ~Reply() { Tell(absl::CancelledError("this node is stopping")); }
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  void Tell(absl::StatusOr<T> result) {
    const Done done = std::exchange(done_, nullptr);
    if (done) done(std::move(result));
  }

 private:
  Done done_;
};

// One result, waited for.
template <typename T>
class Waiting {
 public:
  std::function<void(absl::StatusOr<T>)> Done() {
    return [state = state_](absl::StatusOr<T> result) {
      MutexLock lock(&state->mutex);
      state->result = std::move(result);
      state->changed.SignalAll();
    };
  }
  absl::StatusOr<T> Wait() {
    MutexLock lock(&state_->mutex);
    while (!state_->result.has_value()) state_->changed.Wait(&state_->mutex);
    return *std::move(state_->result);
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    std::optional<absl::StatusOr<T>> result ABSL_GUARDED_BY(mutex);
  };
  // And the callback's.
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

PeerPolicy::Options PolicyOf(const Peer::Options& options) {
  PeerPolicy::Options policy;
  policy.federation = options.local.federation;
  policy.require_tls = options.credentials != nullptr;
  policy.site = options.local.identity.site;
  policy.cross_site = options.cross_site;
  policy.is_origin = options.is_origin;
  policy.leech_only = options.leech_only;
  policy.coordinator = options.coordinator;
  return policy;
}

Seeder::Options SeederOf(const Peer::Options& options) {
  Seeder::Options seeder;
  seeder.is_origin = options.is_origin;
  seeder.max_streams = options.max_upload_streams;
  // The fewer, the sooner whole pieces are passed on. A peer has pieces for
  // many at a time, and whoever waits for it asks another as well.
  seeder.slots.slots = options.is_origin ? 8 : 16;
  return seeder;
}

}  // namespace

// Members are destroyed in the reverse order: what uses goes before what is
// used.
struct Peer::State {
  explicit State(Peer::Options given)
      : options(std::move(given)),
        policy(PolicyOf(options)),
        channels({.credentials = options.credentials,
                  .coordinator = options.coordinator,
                  .max_channels = options.max_channels}),
        strand(options.clock),
        seeder(&board, SeederOf(options)),
        service(PartsOf()) {
    trust.federation = options.local.federation;
    trust.authority = options.authority;
  }

  PeerServiceImpl::Parts PartsOf();
  // Calls `start` with the node, on the strand.
  template <typename T>
  void OnNode(
      std::function<void(absl::StatusOr<T>)> done,
      std::function<void(Node*, std::function<void(absl::StatusOr<T>)>)> start);
  // On the strand.
  absl::Status CheckRuns() const;
  v1::NodeStatus StatusNow();
  void FillFromNode(v1::NodeStatus* status) const;
  void CountLies(v1::NodeStatus* status) const;

  void Start(const Contact& me, std::vector<std::string> bootstrap);
  void SetJoined(const absl::Status& status);
  void Stop();

  const Peer::Options options;
  const PeerPolicy policy;
  const CallbackThreads callback_threads;
  ContentBoard board;
  LiarBook liars;
  RejectionCounts rejections;
  Channels channels;
  Strand strand;
  Seeder seeder;
  PeerServiceImpl service;

  // Made by Start; the strand's.
  std::unique_ptr<RecordStore> store;
  std::unique_ptr<GrpcTransport> transport;
  std::unique_ptr<Node> node;
  // With its importance, from before the node was there, too; the strand's.
  std::map<Key, int64_t> provided;

  mutable Mutex mutex;
  CondVar changed;
  std::string address ABSL_GUARDED_BY(mutex);
  RecordTrust trust ABSL_GUARDED_BY(mutex);
  std::optional<absl::Status> joined ABSL_GUARDED_BY(mutex);
  bool started ABSL_GUARDED_BY(mutex) = false;
  bool stopped ABSL_GUARDED_BY(mutex) = false;
};

PeerServiceImpl::Parts Peer::State::PartsOf() {
  PeerServiceImpl::Parts parts;
  parts.policy = &policy;
  parts.strand = &strand;
  parts.seeder = &seeder;
  parts.rejections = &rejections;
  parts.clock = options.clock;
  parts.rate = {.per_second = options.questions_per_second,
                .burst = options.question_burst};
  parts.answer =
      [this](const Contact& from,
             const v1::AskRequest& question) -> absl::StatusOr<v1::AskReply> {
    if (node == nullptr) {
      return absl::UnavailableError("this node takes no part in the DHT now");
    }
    ABSL_ASSIGN_OR_RETURN(v1::AskReply reply, node->Answer(from, question));
    *reply.mutable_sender() = ContactToProto(transport->self());
    return reply;
  };
  parts.status = [this] { return StatusNow(); };
  return parts;
}

absl::Status Peer::State::CheckRuns() const {
  if (node != nullptr) return absl::OkStatus();
  if (!options.has_node) {
    return absl::FailedPreconditionError(
        "this process's certificate carries no node's identity, so it takes no "
        "part in the DHT; koinon certs makes certificates that do");
  }
  return absl::FailedPreconditionError("this node has not been started");
}

template <typename T>
void Peer::State::OnNode(
    std::function<void(absl::StatusOr<T>)> done,
    std::function<void(Node*, std::function<void(absl::StatusOr<T>)>)> start) {
  // Shared by the strand and then by the node's callback.
  auto reply = std::make_shared<Reply<T>>(std::move(done));
  strand.Run([this, reply = std::move(reply), start = std::move(start)] {
    const absl::Status runs = CheckRuns();
    if (!runs.ok()) return reply->Tell(runs);
    start(node.get(), [reply](absl::StatusOr<T> result) {
      reply->Tell(std::move(result));
    });
  });
}

v1::NodeStatus Peer::State::StatusNow() {
  v1::NodeStatus status;
  *status.mutable_self() =
      ContactToProto({options.local.id, "", options.local.identity.site});
  status.set_federation(options.local.federation);
  status.set_software_version(std::string(kSoftwareVersion));
  for (const auto& [reason, count] : rejections.ToMap()) {
    (*status.mutable_counters())[reason] += count;
  }
  CountLies(&status);
  if (board.lost() > 0)
    (*status.mutable_counters())["lost_piece"] = board.lost();
  if (node != nullptr) FillFromNode(&status);
  status.set_client_only(status.self().address().empty());
  *status.mutable_traffic() = board.traffic();
  for (const Digest& root : board.roots()) status.add_contents(root.ToHex());
  return status;
}

void Peer::State::CountLies(v1::NodeStatus* status) const {
  auto& counters = *status->mutable_counters();
  if (liars.lies() > 0) counters["wrong_leaf"] = liars.lies();
  for (const auto& [liar, lies] : liars.Worst(kMaxLiarsNamed)) {
    counters[absl::StrCat("wrong_leaf of ", liar.ToShortHex())] = lies;
  }
}

void Peer::State::FillFromNode(v1::NodeStatus* status) const {
  *status->mutable_self() = ContactToProto(transport->self());
  const Node::Status known = node->status();
  status->set_nodes(static_cast<int64_t>(known.nodes));
  status->set_records(static_cast<int64_t>(known.store.records));
  status->set_record_bytes(static_cast<int64_t>(known.store.record_bytes));
  status->set_provider_keys(static_cast<int64_t>(known.store.provider_keys));
  status->set_providers(static_cast<int64_t>(known.store.providers));
  for (const auto& [reason, count] : known.counters) {
    (*status->mutable_counters())[reason] += count;
  }
  for (const Contact& contact : node->table().All()) {
    if (status->contacts_size() >= static_cast<int>(kMaxStatusContacts)) break;
    *status->add_contacts() = ContactToProto(contact);
  }
}

void Peer::State::Start(const Contact& me, std::vector<std::string> bootstrap) {
  // A node does not ask itself.
  std::erase(bootstrap, me.address);
  Node::Options node_options = options.node;
  node_options.self = me;
  if (node_options.seed == 0) {
    std::random_device draw;
    node_options.seed = (uint64_t{draw()} << 32) | draw();
  }
  {
    MutexLock lock(&mutex);
    node_options.trust = trust;
  }
  strand.Run([this, node_options = std::move(node_options),
              bootstrap = std::move(bootstrap)] {
    transport = std::make_unique<GrpcTransport>(node_options.self, &strand,
                                                &channels, &policy);
    node = std::make_unique<Node>(node_options, &strand, transport.get(),
                                  store.get());
    node->Join(bootstrap, [this](absl::Status status) {
      if (!status.ok()) LogWarning("not in the DHT yet", {{"error", status}});
      SetJoined(status);
    });
    for (const auto& [content, importance] : provided) {
      node->Provide(content, importance);
    }
  });
}

void Peer::State::SetJoined(const absl::Status& status) {
  MutexLock lock(&mutex);
  if (!joined.has_value()) joined = status;
  changed.SignalAll();
}

void Peer::State::Stop() {
  {
    MutexLock lock(&mutex);
    if (std::exchange(stopped, true)) return;
  }
  SetJoined(absl::CancelledError("this node is stopping"));
  seeder.Stop();
  // The node's callbacks tell those who wait as they go.
  strand.RunAndWait([this] { node.reset(); });
  if (transport != nullptr) transport->Stop();
  strand.Stop();
}

absl::StatusOr<std::unique_ptr<Peer>> Peer::Create(Options options) {
  if ((options.credentials == nullptr) != (options.authority == nullptr)) {
    return absl::InvalidArgumentError(
        "a peer needs both credentials and the federation's authority, or "
        "neither for plaintext");
  }
  auto state = std::make_unique<State>(std::move(options));
  const Options& given = state->options;
  if (given.has_node) {
    const std::string dir = given.state_dir.empty()
                                ? std::string()
                                : absl::StrCat(given.state_dir, "/records");
    RecordStore::Options store = given.store;
    store.seed = PrefixOf(given.local.id);
    ABSL_ASSIGN_OR_RETURN(state->store,
                          RecordStore::Open(given.env, dir, store, state->trust,
                                            given.clock->Now()));
  }
  return std::unique_ptr<Peer>(new Peer(std::move(state)));
}

Peer::Peer(std::unique_ptr<State> state) : state_(std::move(state)) {}

Peer::~Peer() { Stop(); }

grpc::Service* Peer::service() { return &state_->service; }

void Peer::Start(const std::string& address,
                 std::vector<std::string> bootstrap) {
  if (!state_->options.has_node) {
    return state_->SetJoined(absl::FailedPreconditionError(
        "this process's certificate carries no node's identity"));
  }
  {
    MutexLock lock(&state_->mutex);
    if (std::exchange(state_->started, true)) return;
    if (!state_->options.leech_only) state_->address = address;
  }
  state_->Start(self(), std::move(bootstrap));
}

void Peer::Stop() { state_->Stop(); }

ContentBoard* Peer::board() { return &state_->board; }
LiarBook* Peer::liars() { return &state_->liars; }

const LocalNode& Peer::local() const { return state_->options.local; }

Contact Peer::self() const {
  MutexLock lock(&state_->mutex);
  return {local().id, state_->address, local().identity.site};
}

bool Peer::cross_site() const { return state_->options.cross_site; }

const Clock& Peer::clock() const { return *state_->options.clock; }

RecordTrust Peer::trust() const {
  MutexLock lock(&state_->mutex);
  return state_->trust;
}

void Peer::AddPinned(const PublicKey& key) {
  {
    MutexLock lock(&state_->mutex);
    state_->trust.pinned.insert(key);
  }
  state_->strand.Run([state = state_.get(), key] {
    if (state->store != nullptr) state->store->Prefer(key);
  });
}

RejectionCounts* Peer::rejections() { return &state_->rejections; }

void Peer::Put(const Key& key, v1::Record record,
               std::function<void(absl::StatusOr<Node::PutResult>)> done) {
  state_->OnNode<Node::PutResult>(
      std::move(done),
      [key, record = std::move(record)](Node* node, auto reply) mutable {
        node->Put(key, std::move(record), std::move(reply));
      });
}

void Peer::Get(const Key& key, Node::GetOptions options,
               std::function<void(absl::StatusOr<Node::GetResult>)> done) {
  state_->OnNode<Node::GetResult>(std::move(done),
                                  [key, options](Node* node, auto reply) {
                                    node->Get(key, options, std::move(reply));
                                  });
}

void Peer::FindClosest(
    const Key& target,
    std::function<void(absl::StatusOr<Node::Closest>)> done) {
  state_->OnNode<Node::Closest>(std::move(done),
                                [target](Node* node, auto reply) {
                                  node->FindClosest(target, std::move(reply));
                                });
}

void Peer::FindProviders(
    const Key& content, size_t count,
    std::function<void(absl::StatusOr<std::vector<Contact>>)> done) {
  state_->OnNode<std::vector<Contact>>(
      std::move(done), [content, count](Node* node, auto reply) {
        node->FindProviders(content, count, std::move(reply));
      });
}

void Peer::Provide(const Key& content, int64_t importance) {
  state_->strand.Run([state = state_.get(), content, importance] {
    state->provided[content] = importance;
    if (state->node != nullptr) state->node->Provide(content, importance);
  });
}

void Peer::StopProviding(const Key& content) {
  state_->strand.Run([state = state_.get(), content] {
    state->provided.erase(content);
    if (state->node != nullptr) state->node->StopProviding(content);
  });
}

absl::StatusOr<Node::PutResult> Peer::PutNow(const Key& key,
                                             v1::Record record) {
  Waiting<Node::PutResult> waiting;
  Put(key, std::move(record), waiting.Done());
  return waiting.Wait();
}

absl::StatusOr<Node::PutResult> Peer::PutToAllNow(const Key& key,
                                                  v1::Record record) {
  Waiting<Node::PutResult> waiting;
  state_->OnNode<Node::PutResult>(
      waiting.Done(),
      [key, record = std::move(record)](Node* node, auto reply) mutable {
        node->PutToAll(key, std::move(record), std::move(reply));
      });
  return waiting.Wait();
}

absl::StatusOr<Node::GetResult> Peer::GetNow(const Key& key,
                                             Node::GetOptions options) {
  Waiting<Node::GetResult> waiting;
  Get(key, options, waiting.Done());
  return waiting.Wait();
}

absl::StatusOr<Node::Closest> Peer::FindClosestNow(const Key& target) {
  Waiting<Node::Closest> waiting;
  FindClosest(target, waiting.Done());
  return waiting.Wait();
}

absl::StatusOr<std::vector<Contact>> Peer::FindProvidersNow(const Key& content,
                                                            size_t count) {
  Waiting<std::vector<Contact>> waiting;
  FindProviders(content, count, waiting.Done());
  return waiting.Wait();
}

absl::Status Peer::WaitUntilJoined(absl::Duration patience) {
  const RealClock clock;  // patience passes in real time
  const absl::Time end = clock.Now() + patience;
  MutexLock lock(&state_->mutex);
  while (!state_->joined.has_value()) {
    const absl::Duration left = end - clock.Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat(
          "not in the DHT after ", absl::FormatDuration(patience)));
    }
    state_->changed.WaitWithTimeout(&state_->mutex, left);
  }
  return *state_->joined;
}

std::shared_ptr<grpc::Channel> Peer::ChannelTo(const std::string& address) {
  return state_->channels.To(address)->channel;
}

absl::Status Peer::CheckIs(const Contact& contact,
                           const grpc::AuthContext& context) const {
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity who, PeerIdentityOf(context));
  return state_->policy.CheckSource(contact, who);
}

absl::Status Peer::MayFetchFrom(const Contact& contact) const {
  return state_->policy.MayFetchFrom(contact);
}

v1::NodeStatus Peer::status() const {
  v1::NodeStatus status;
  State* const state = state_.get();
  state->strand.RunAndWait([state, &status] { status = state->StatusNow(); });
  return status;
}

}  // namespace koinon::dht
