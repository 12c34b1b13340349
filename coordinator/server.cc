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
#include "coordinator/engine/engine.h"
#include "coordinator/models/catalog.h"
#include "coordinator/models/model_store.h"
#include "coordinator/service/client_service.h"
#include "coordinator/service/model_chunks.h"
#include "coordinator/service/worker_service.h"
#include "coordinator/spool/spool.h"
#include "coordinator/uploads/upload_desk.h"
#include "grpcpp/grpcpp.h"

namespace koinon::coordinator {
namespace {

// Beside a chunk's data, a message holds its offset and a few tags; a submitted
// job or a Hello with many held updates is smaller than this too.
constexpr size_t kMessageOverheadBytes = 1 << 20;
constexpr uint64_t kStreamChargeBytes = uint64_t{2} << 20;
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

// INVALID_ARGUMENT for a name that is none, or is not this processor's.
absl::StatusOr<aggregation::InstructionSet> ParseInstructionSet(
    const std::string& name) {
  auto set = aggregation::InstructionSetFromName(name);
  if (set.ok()) set = aggregation::ResolveInstructionSet(*set);
  if (set.ok()) return set;
  return absl::InvalidArgumentError(
      absl::StrCat("--instruction-set: ", set.status().message()));
}

}  // namespace

absl::Status Server::Spec::Validate() const {
  // Beyond it, sums of such bounds would not be numbers any more.
  constexpr int64_t kMost = int64_t{1} << 50;
  const auto positive = [kMost](absl::string_view flag, int64_t value) {
    if (value > 0 && value <= kMost) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " is ", value, ", expected 1 to ", kMost));
  };
  constexpr int kMostThreads = 1024;
  constexpr size_t kMostStreams = 1 << 20;
  if (threads > kMostThreads) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--threads is ", threads, ", expected at most ", kMostThreads));
  }
  if (max_streams_per_connection > kMostStreams) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--max-streams-per-connection is ", max_streams_per_connection,
        ", expected at most ", kMostStreams));
  }
  ABSL_ASSIGN_OR_RETURN(const auto address, ParseHostPort(listen));
  ABSL_RETURN_IF_ERROR(ValidateId("--federation", federation));
  if (state_dir.empty()) {
    return absl::InvalidArgumentError("--state-dir is required");
  }
  if (tls.empty() && !insecure) {
    return absl::InvalidArgumentError(
        "--tls-cert, --tls-key and --tls-ca are required (koinon certs makes "
        "them); plaintext has to be asked for with --insecure");
  }
  if (!tls.empty() && insecure) {
    return absl::InvalidArgumentError(
        "--insecure contradicts --tls-cert, --tls-key and --tls-ca");
  }
  for (const auto& [flag, value] : std::vector<std::pair<const char*, int64_t>>{
           {"max-connections", static_cast<int64_t>(max_connections)},
           {"max-streams-per-connection",
            static_cast<int64_t>(max_streams_per_connection)},
           {"max-workers", static_cast<int64_t>(max_workers)},
           {"max-jobs", static_cast<int64_t>(max_jobs)},
           {"max-watchers", static_cast<int64_t>(max_watchers)},
           {"max-model-bytes", max_model_bytes},
           {"max-spool-bytes", static_cast<int64_t>(max_spool_bytes)},
           {"upload-window-bytes", static_cast<int64_t>(upload_window_bytes)},
           {"threads", threads}}) {
    ABSL_RETURN_IF_ERROR(positive(flag, value));
  }
  ABSL_RETURN_IF_ERROR(ParseInstructionSet(instruction_set).status());
  constexpr int64_t kMinChunk = 4 << 10, kMaxChunk = 16 << 20;
  if (chunk_bytes < kMinChunk || chunk_bytes > kMaxChunk) {
    return absl::InvalidArgumentError(
        absl::StrCat("--chunk-bytes is ", chunk_bytes, ", expected ", kMinChunk,
                     " to ", kMaxChunk));
  }
  if (keep_versions < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--keep-versions is ", keep_versions, ", expected at least 0"));
  }
  constexpr absl::Duration kLongest = absl::Hours(24);
  for (const auto& [flag, value] :
       std::vector<std::pair<const char*, absl::Duration>>{
           {"lease-seconds", lease},
           {"handshake-seconds", handshake_timeout},
           {"upload-patience-seconds", upload_patience}}) {
    if (value <= absl::ZeroDuration() || value > kLongest) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, " is ", absl::ToDoubleSeconds(value),
                       ", expected more than 0 and at most ",
                       absl::ToDoubleSeconds(kLongest)));
    }
  }
  if (drain_patience < absl::ZeroDuration() || drain_patience > kLongest) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--drain-seconds is ", absl::ToDoubleSeconds(drain_patience),
        ", expected 0 to ", absl::ToDoubleSeconds(kLongest)));
  }
  return absl::OkStatus();
}

// Members are destroyed in the reverse order: what uses goes before what is
// used.
struct Server::State {
  Spec spec;
  Options options;
  std::unique_ptr<DirLock> lock;
  std::unique_ptr<Journal> journal;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<ModelStore> store;
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
  absl::Status StartEngine(const JournalContents& contents);
  absl::Status Serve(std::shared_ptr<grpc::ServerCredentials> credentials);
  void Stop();
};

absl::Status Server::State::OpenState() {
  Env* const env = options.env;
  ABSL_RETURN_IF_ERROR(env->MakeDirs(spec.state_dir));
  ABSL_ASSIGN_OR_RETURN(lock, DirLock::Take(spec.state_dir));
  journal = std::move(options.journal);
  if (journal == nullptr) {
    ABSL_ASSIGN_OR_RETURN(journal, OpenSqliteJournal(absl::StrCat(
                                       spec.state_dir, "/journal.db")));
  }
  ABSL_ASSIGN_OR_RETURN(const JournalContents contents, journal->Load());
  ABSL_ASSIGN_OR_RETURN(
      spool, Spool::Open(env, absl::StrCat(spec.state_dir, "/spool.bin"),
                         {.max_bytes = spec.max_spool_bytes},
                         Engine::TakenExtents(contents)));
  store = std::make_unique<ModelStore>(
      env, absl::StrCat(spec.state_dir, "/models"), spec.chunk_bytes);
  chunks = std::make_unique<ModelChunks>(store.get(), spec.model_cache_bytes);
  desk = std::make_unique<UploadDesk>(
      spool.get(),
      UploadDesk::Options{.window_bytes = spec.upload_window_bytes,
                          .stream_charge_bytes = kStreamChargeBytes,
                          .patience = spec.upload_patience});
  return StartEngine(contents);
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
  engine_options.keep_versions = spec.keep_versions;
  engine_options.registry = {.lease = spec.lease,
                             .max_workers = spec.max_workers};
  engine_options.threads = spec.threads;
  ABSL_ASSIGN_OR_RETURN(engine_options.publish.aggregator.instruction_set,
                        ParseInstructionSet(spec.instruction_set));
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
      rpc,
      RpcServer::Start(
          std::move(rpc_options),
          {{worker_service.get(), v1::WorkerService::service_full_name()},
           {client_service.get(), v1::ClientService::service_full_name()}}));
  return absl::OkStatus();
}

void Server::State::Stop() {
  if (std::exchange(stopped, true)) return;
  if (rpc != nullptr) rpc->Drain();
  if (engine != nullptr) engine->Stop(spec.drain_patience);
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
