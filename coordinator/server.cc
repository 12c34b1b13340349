#include "coordinator/server.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/instruction_set.h"
#include "base/acceptor.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/rpc_server.h"
#include "base/status_macros.h"
#include "base/trust.h"
#include "coordinator/distribution/distributor.h"
#include "coordinator/distribution/own_node.h"
#include "coordinator/distribution/peer_network.h"
#include "coordinator/distribution/recovery.h"
#include "coordinator/distribution/sign_versions.h"
#include "coordinator/engine/engine.h"
#include "coordinator/models/catalog.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/model_store.h"
#include "coordinator/server_spec.h"
#include "coordinator/service/client_service.h"
#include "coordinator/service/model_chunks.h"
#include "coordinator/service/worker_service.h"
#include "coordinator/spool/spool.h"
#include "coordinator/uploads/upload_desk.h"
#include "dht/peer.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::coordinator {
namespace {

// Beside a chunk's data, a message holds its offset and a few tags; a submitted
// job or a Hello with many held updates is smaller than this too.
constexpr size_t kMessageOverheadBytes = 1 << 20;
constexpr uint64_t kStreamChargeBytes = uint64_t{2} << 20;
// Streams at once on which versions are fetched from here; others find peers.
constexpr size_t kMaxFetches = 256;
constexpr absl::Duration kGrpcShutdown = absl::Seconds(2);

uint64_t DrawSeed() {
  uint64_t seed = 0;
  // Zero means "draw one".
  while (seed == 0) {
    if (RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof(seed)) !=
        1) {
      continue;
    }
  }
  return seed;
}

// An exclusive lock on the state directory for as long as this lives.
class DirLock {
 public:
  static absl::StatusOr<std::unique_ptr<DirLock>> Take(const std::string& dir) {
    const std::string path = absl::StrCat(dir, "/lock");
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": ", std::strerror(errno)));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      close(fd);
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": another coordinator uses this state directory"));
    }
    return std::unique_ptr<DirLock>(new DirLock(fd));
  }
  ~DirLock() { close(fd_); }

 private:
  explicit DirLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace

// Members are destroyed in the reverse order: what uses goes before what is
// used.
struct Server::State {
  Spec spec;
  Options options;
  std::unique_ptr<DirLock> lock;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<ModelStore> store;
  std::unique_ptr<FederationTrust> authority;  // null in plaintext
  std::unique_ptr<dht::Peer> peer;
  std::unique_ptr<ManifestSigner> signer;
  std::unique_ptr<PeerNetwork> network;  // null without a DHT
  std::unique_ptr<Distributor> distributor;
  ModelCatalog catalog;
  std::unique_ptr<ModelChunks> chunks;
  std::unique_ptr<UploadDesk> desk;
  std::unique_ptr<AccessPolicy> policy;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<WorkerServiceImpl> worker_service;
  std::unique_ptr<ClientServiceImpl> client_service;
  std::unique_ptr<RpcServer> rpc;
  bool stopped = false;

  absl::Status OpenState();
  OwnNodeSpec NodeSpec() const {
    return {spec.federation, spec.tls, spec.state_dir};
  }
  absl::Status MakeNode();
  absl::Status Recover(JournalContents* contents);
  absl::Status SignVersions(JournalContents* contents);
  absl::Status CommitAtStart(const std::vector<Mutation>& rows,
                             JournalContents* contents);
  absl::Status StartEngine(const JournalContents& contents);
  absl::Status Serve(std::shared_ptr<grpc::ServerCredentials> credentials);
  absl::Status JoinOthers();
  void Stop();
};

absl::Status Server::State::OpenState() {
  Env* const env = options.env;
  ABSL_RETURN_IF_ERROR(env->MakeDirs(spec.state_dir));
  ABSL_ASSIGN_OR_RETURN(lock, DirLock::Take(spec.state_dir));
  journal = std::move(options.journal);
  if (journal == nullptr) {
    ABSL_ASSIGN_OR_RETURN(
        journal, OpenSqliteJournal(absl::StrCat(spec.state_dir, "/journal.db"),
                                   options.clock->Now()));
  }
  ABSL_ASSIGN_OR_RETURN(JournalContents contents, journal->Load());
  ABSL_ASSIGN_OR_RETURN(
      spool, Spool::Open(env, absl::StrCat(spec.state_dir, "/spool.bin"),
                         {.max_bytes = spec.max_spool_bytes},
                         Engine::TakenExtents(contents)));
  store = std::make_unique<ModelStore>(
      env, absl::StrCat(spec.state_dir, "/models"), spec.chunk_bytes);
  ABSL_RETURN_IF_ERROR(MakeNode());
  ABSL_RETURN_IF_ERROR(Recover(&contents));
  ABSL_RETURN_IF_ERROR(SignVersions(&contents));
  chunks = std::make_unique<ModelChunks>(store.get(), spec.model_cache_bytes);
  desk = std::make_unique<UploadDesk>(
      spool.get(),
      UploadDesk::Options{.window_bytes = spec.upload_window_bytes,
                          .stream_charge_bytes = kStreamChargeBytes,
                          .patience = spec.upload_patience});
  return StartEngine(contents);
}

absl::Status Server::State::MakeNode() {
  Env* const env = options.env;
  ABSL_ASSIGN_OR_RETURN(authority, LoadAuthority(env, NodeSpec()));
  ABSL_ASSIGN_OR_RETURN(
      dht::Peer::Options peer_options,
      MakePeerOptions(env, NodeSpec(), authority.get(), options.clock->Now()));
  peer_options.state_dir = absl::StrCat(spec.state_dir, "/dht");
  peer_options.is_origin = true;
  peer_options.cross_site = true;  // a coordinator is of every site
  peer_options.max_upload_streams = kMaxFetches;
  peer_options.clock = options.clock;
  const bool has_node = peer_options.has_node;
  ABSL_ASSIGN_OR_RETURN(peer, dht::Peer::Create(std::move(peer_options)));
  // What is looked for from here, of what the server wrote, is what it wrote.
  peer->AddPinned(peer->local().key.public_key());
  signer = std::make_unique<ManifestSigner>(&peer->local(), options.clock,
                                            spec.manifest_lifetime);
  if (has_node) network = std::make_unique<PeerNetwork>(peer.get());
  distributor = std::make_unique<Distributor>(
      Distributor::Options(), store.get(), peer->board(), network.get(),
      &peer->local(), options.clock);
  return absl::OkStatus();
}

absl::Status Server::State::CommitAtStart(const std::vector<Mutation>& rows,
                                          JournalContents* contents) {
  if (rows.empty()) return absl::OkStatus();
  ABSL_RETURN_IF_ERROR(journal->Commit(rows));
  ABSL_ASSIGN_OR_RETURN(*contents, journal->Load());
  return absl::OkStatus();
}

// By a node of its own that only asks: this one does not serve before it knows
// its jobs.
absl::Status Server::State::Recover(JournalContents* contents) {
  if (spec.recover.empty()) return absl::OkStatus();
  if (network == nullptr) {
    return absl::FailedPreconditionError(
        "--recover: there is no DHT, because the certificate carries no node");
  }
  ABSL_ASSIGN_OR_RETURN(dht::Peer::Options asking_options,
                        MakePeerOptions(options.env, NodeSpec(),
                                        authority.get(), options.clock->Now()));
  asking_options.leech_only = true;
  asking_options.cross_site = true;
  asking_options.clock = options.clock;
  ABSL_ASSIGN_OR_RETURN(const auto asking,
                        dht::Peer::Create(std::move(asking_options)));
  asking->Start("", spec.bootstrap);
  JobRecovery::Options recovery_options;
  recovery_options.max_model_bytes = spec.max_model_bytes;
  recovery_options.fetch_patience = options.recovery_patience;
  if (!spec.recover_signer.empty()) {
    ABSL_ASSIGN_OR_RETURN(recovery_options.head_signer,
                          PublicKey::FromHex(spec.recover_signer));
  }
  JobRecovery recovery(recovery_options, asking.get(), store.get(),
                       signer.get(), options.clock);
  for (const std::string& job : spec.recover) {
    ABSL_ASSIGN_OR_RETURN(const std::vector<Mutation> rows,
                          recovery.Recover(job, *contents));
    ABSL_RETURN_IF_ERROR(CommitAtStart(rows, contents));
  }
  return absl::OkStatus();
}

absl::Status Server::State::SignVersions(JournalContents* contents) {
  return CommitAtStart(coordinator::SignVersions(*contents, *store, *signer),
                       contents);
}

absl::Status Server::State::StartEngine(const JournalContents& contents) {
  Engine::Options engine_options;
  engine_options.federation = spec.federation;
  engine_options.lease = spec.lease;
  engine_options.hello_timeout = spec.handshake_timeout;
  engine_options.max_chunk_bytes = spec.chunk_bytes;
  engine_options.max_jobs = spec.max_jobs;
  engine_options.max_watchers = spec.max_watchers;
  engine_options.max_model_bytes = spec.max_model_bytes;
  engine_options.max_spool_bytes = spec.max_spool_bytes;
  engine_options.keep = {.newest = spec.keep_versions,
                         .every = spec.keep_every};
  engine_options.registry = {.lease = spec.lease,
                             .max_workers = spec.max_workers};
  engine_options.threads = spec.threads;
  ABSL_ASSIGN_OR_RETURN(engine_options.publish.aggregator.instruction_set,
                        ParseInstructionSet(spec.instruction_set));
  engine_options.publish.signer = signer.get();
  engine_options.publish.delta_min_bytes = spec.delta_min_bytes;
  engine_options.outlet = distributor.get();
  engine_options.draw_seed = options.draw_seed ? options.draw_seed : DrawSeed;
  engine_options.on_fatal = options.on_fatal;
  engine = std::make_unique<Engine>(std::move(engine_options), options.clock,
                                    journal.get(), spool.get(), store.get(),
                                    &catalog, desk.get());
  return engine->Start(contents);
}

absl::Status Server::State::Serve(
    std::shared_ptr<grpc::ServerCredentials> credentials) {
  policy = std::make_unique<AccessPolicy>(spec.federation, !spec.insecure);
  worker_service = std::make_unique<WorkerServiceImpl>(
      engine.get(), desk.get(), &catalog, chunks.get(), options.clock,
      policy.get());
  client_service = std::make_unique<ClientServiceImpl>(
      engine.get(), &catalog, chunks.get(), policy.get());
  RpcServer::Options rpc_options;
  rpc_options.listen = spec.listen;
  rpc_options.credentials = std::move(credentials);
  rpc_options.reflection = spec.reflection;
  rpc_options.max_connections = spec.max_connections;
  rpc_options.max_streams_per_connection = spec.max_streams_per_connection;
  rpc_options.max_message_bytes =
      static_cast<size_t>(spec.chunk_bytes) + kMessageOverheadBytes;
  rpc_options.handshake_timeout = spec.handshake_timeout;
  rpc_options.keepalive = spec.lease;
  ABSL_ASSIGN_OR_RETURN(
      rpc, RpcServer::Start(
               std::move(rpc_options),
               {{worker_service.get(), v1::WorkerService::service_full_name()},
                {client_service.get(), v1::ClientService::service_full_name()},
                {peer->service(), v1::PeerService::service_full_name()}}));
  return JoinOthers();
}

absl::Status Server::State::JoinOthers() {
  ABSL_ASSIGN_OR_RETURN(const auto address, ParseHostPort(spec.listen));
  peer->Start(OwnAddress(spec.peer_address, address.first, rpc->port()),
              spec.bootstrap);
  distributor->Start();
  return absl::OkStatus();
}

void Server::State::Stop() {
  if (std::exchange(stopped, true)) return;
  if (rpc != nullptr) rpc->Drain();
  if (engine != nullptr) engine->Stop(spec.drain_patience);
  // Whoever waits for the DHT waits no more.
  if (peer != nullptr) peer->Stop();
  if (distributor != nullptr) distributor->Stop();
  if (rpc != nullptr) rpc->Stop(kGrpcShutdown);
}

// A coordinator with another's certificate would start, and refuse everybody.
absl::Status CheckOwnIdentity(Env* env, const Server::Spec& spec) {
  const auto own = IdentityOfCertificate(env, spec.tls.certificate);
  if (absl::IsNotFound(own.status())) return absl::OkStatus();  // another CA's
  ABSL_RETURN_IF_ERROR(own.status());
  if (own->role == PeerIdentity::Role::kServer &&
      own->federation == spec.federation) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(spec.tls.certificate, " is of a ", RoleName(own->role),
                   " in federation '", own->federation,
                   "'; needed is a server's in federation '", spec.federation,
                   "' (--federation)"));
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Spec spec,
                                                      Options options) {
  ABSL_RETURN_IF_ERROR(spec.Validate());
  auto state = std::make_unique<State>();
  state->spec = std::move(spec);
  state->options = std::move(options);
  std::shared_ptr<grpc::ServerCredentials> credentials;
  if (state->spec.insecure) {
    credentials = MakeInsecureServerCredentials();
    LogWarning("plaintext: anybody who reaches the port may do anything",
               {{"listen", state->spec.listen}});
  } else {
    ABSL_ASSIGN_OR_RETURN(
        credentials, MakeServerCredentials(state->options.env, state->spec.tls,
                                           state->options.clock->Now()));
    ABSL_RETURN_IF_ERROR(CheckOwnIdentity(state->options.env, state->spec));
  }
  auto server = std::unique_ptr<Server>(new Server(std::move(state)));
  ABSL_RETURN_IF_ERROR(server->state_->OpenState());
  ABSL_RETURN_IF_ERROR(server->state_->Serve(std::move(credentials)));
  return server;
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() { Stop(); }

int Server::port() const { return state_->rpc->port(); }

void Server::Stop() { state_->Stop(); }

}  // namespace koinon::coordinator
