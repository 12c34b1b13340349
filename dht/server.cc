#include "dht/server.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/acceptor.h"
#include "base/ids.h"
#include "base/local_node.h"
#include "base/log.h"
#include "base/rpc_server.h"
#include "base/status_macros.h"
#include "base/trust.h"
#include "dht/key.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {
namespace {

constexpr absl::Duration kShutdown = absl::Seconds(2);
constexpr size_t kMaxCaBytes = 1 << 20;
// Questions are small, and nodes ask many at once.
constexpr size_t kMaxStreamsPerConnection = 256;

absl::Status OutOfRange(absl::string_view flag, uint64_t value, uint64_t min,
                        uint64_t max) {
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is ", value, ", expected ", min, " to ", max));
}

// What is listened on, with the port in use.
std::string ListenedAddress(const std::string& listen, int port) {
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

absl::Status ValidateOwnAddress(const Server::Spec& spec) {
  ABSL_ASSIGN_OR_RETURN(const auto listen, ParseHostPort(spec.listen));
  if (spec.address.empty() && IsWildcardHost(listen.first)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen ", spec.listen,
                     " does not say where other nodes reach this one: give "
                     "--address HOST:PORT"));
  }
  const bool is_said = !spec.address.empty();
  // What others refuse in a contact is to be known before they do. Of what is
  // listened on any port will do; the one in use is known later.
  const absl::Status status = ValidateAdvertised(
      is_said ? spec.address : ListenedAddress(spec.listen, 1));
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(
      is_said ? "--address " : "--listen ",
      is_said ? spec.address : spec.listen, ": ", status.message()));
}

absl::Status ValidateAddresses(const Server::Spec& spec) {
  ABSL_RETURN_IF_ERROR(ValidateOwnAddress(spec));
  const auto reachable = [](absl::string_view flag, const std::string& text) {
    const auto parsed = ParseHostPort(text);
    const absl::Status status =
        !parsed.ok() ? parsed.status()
        : parsed->second == 0
            ? absl::InvalidArgumentError("expected a port other than 0")
            : absl::OkStatus();
    if (status.ok()) return status;
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, " ", text, ": ", status.message()));
  };
  for (const std::string& address : spec.bootstrap) {
    ABSL_RETURN_IF_ERROR(reachable("bootstrap", address));
  }
  return absl::OkStatus();
}

absl::Status ValidateCredentials(const Server::Spec& spec) {
  if (spec.insecure != spec.tls.empty()) {
    return absl::InvalidArgumentError(
        spec.insecure
            ? "--insecure contradicts --tls-cert, --tls-key and --tls-ca"
            : "--tls-cert, --tls-key and --tls-ca are required (koinon certs "
              "makes them); plaintext has to be asked for with --insecure");
  }
  if (spec.site.empty()) return absl::OkStatus();
  if (!spec.insecure) {
    return absl::InvalidArgumentError(
        absl::StrCat("--site ", spec.site,
                     " is for plaintext: the certificate says the site"));
  }
  return ValidateId("--site", spec.site);
}

Peer::Options OptionsOf(LocalNode local) { return {.local = std::move(local)}; }

// A worker's certificate would make two nodes of one identity.
absl::Status CheckRole(Env* env, const Server::Spec& spec) {
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity own,
                        IdentityOfCertificate(env, spec.tls.certificate));
  if (own.role == PeerIdentity::Role::kNode &&
      own.federation == spec.federation) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      spec.tls.certificate, " is of a ", RoleName(own.role), " in federation '",
      own.federation, "'; needed is a node's in federation '", spec.federation,
      "' (--federation)"));
}

}  // namespace

absl::Status Server::Spec::Validate() const {
  constexpr size_t kMost = size_t{1} << 24;
  constexpr uint64_t kMostBytes = uint64_t{1} << 40;
  ABSL_RETURN_IF_ERROR(ValidateAddresses(*this));
  ABSL_RETURN_IF_ERROR(ValidateId("--federation", federation));
  if (state_dir.empty()) {
    return absl::InvalidArgumentError("--state-dir is required");
  }
  ABSL_RETURN_IF_ERROR(ValidateCredentials(*this));
  if (max_connections < 1 || max_connections > kMost) {
    return OutOfRange("max-connections", max_connections, 1, kMost);
  }
  if (max_records < 1 || max_records > kMost) {
    return OutOfRange("max-records", max_records, 1, kMost);
  }
  if (max_record_bytes < kMaxRecordBytes || max_record_bytes > kMostBytes) {
    return OutOfRange("max-record-bytes", max_record_bytes, kMaxRecordBytes,
                      kMostBytes);
  }
  if (!(questions_per_second >= 1 && questions_per_second <= 1e9)) {
    return absl::InvalidArgumentError(absl::StrCat("--questions-per-second is ",
                                                   questions_per_second,
                                                   ", expected 1 to 1e9"));
  }
  return absl::OkStatus();
}

// Members are destroyed in the reverse order: what uses goes before what is
// used.
struct Server::State {
  Spec spec;
  Options options;
  std::unique_ptr<FederationTrust> authority;
  std::unique_ptr<Peer> peer;
  std::unique_ptr<RpcServer> rpc;

  absl::StatusOr<LocalNode> Identity() const;
  absl::Status AddCredentials(Peer::Options* peer_options);
  absl::Status MakePeer();
  absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> ServerSide() const;
  absl::Status Serve();
};

absl::StatusOr<LocalNode> Server::State::Identity() const {
  Env* const env = options.env;
  if (spec.insecure) {
    return LoadOrMakeLocalNode(env, absl::StrCat(spec.state_dir, "/node.key"),
                               spec.federation, "node/koinon-dht", spec.site);
  }
  ABSL_RETURN_IF_ERROR(CheckTlsFiles(env, spec.tls, options.clock->Now()));
  ABSL_RETURN_IF_ERROR(CheckRole(env, spec));
  return LoadLocalNode(env, spec.tls, options.clock->Now());
}

absl::Status Server::State::AddCredentials(Peer::Options* peer_options) {
  if (spec.insecure) {
    LogWarning("plaintext: anybody who reaches the port may do anything",
               {{"listen", spec.listen}});
    return absl::OkStatus();
  }
  ABSL_ASSIGN_OR_RETURN(
      peer_options->credentials,
      MakeChannelCredentials(options.env, spec.tls, options.clock->Now()));
  ABSL_ASSIGN_OR_RETURN(const std::string ca,
                        ReadFile(options.env, spec.tls.ca, kMaxCaBytes));
  ABSL_ASSIGN_OR_RETURN(authority,
                        FederationTrust::Create(spec.federation, ca));
  peer_options->authority = authority.get();
  return absl::OkStatus();
}

absl::Status Server::State::MakePeer() {
  ABSL_ASSIGN_OR_RETURN(LocalNode local, Identity());
  Peer::Options peer_options = OptionsOf(std::move(local));
  ABSL_RETURN_IF_ERROR(AddCredentials(&peer_options));
  peer_options.state_dir = spec.state_dir;
  peer_options.store.max_keys = spec.max_records;
  peer_options.store.max_bytes = spec.max_record_bytes;
  peer_options.questions_per_second = spec.questions_per_second;
  peer_options.question_burst = 2 * spec.questions_per_second;
  peer_options.env = options.env;
  peer_options.clock = options.clock;
  ABSL_ASSIGN_OR_RETURN(peer, Peer::Create(std::move(peer_options)));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>>
Server::State::ServerSide() const {
  if (spec.insecure) return MakeInsecureServerCredentials();
  return MakeServerCredentials(options.env, spec.tls, options.clock->Now());
}

absl::Status Server::State::Serve() {
  RpcServer::Options rpc_options;
  rpc_options.listen = spec.listen;
  ABSL_ASSIGN_OR_RETURN(rpc_options.credentials, ServerSide());
  rpc_options.reflection = spec.reflection;
  rpc_options.max_connections = spec.max_connections;
  rpc_options.max_streams_per_connection = kMaxStreamsPerConnection;
  ABSL_ASSIGN_OR_RETURN(
      rpc, RpcServer::Start(
               std::move(rpc_options),
               {{peer->service(), v1::PeerService::service_full_name()}}));
  std::string address = spec.address;
  if (address.empty()) {
    address = ListenedAddress(spec.listen, rpc->port());
  }
  peer->Start(address, spec.bootstrap);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Spec spec,
                                                      Options options) {
  ABSL_RETURN_IF_ERROR(spec.Validate());
  auto state = std::make_unique<State>();
  state->spec = std::move(spec);
  state->options = options;
  ABSL_RETURN_IF_ERROR(options.env->MakeDirs(state->spec.state_dir));
  ABSL_RETURN_IF_ERROR(state->MakePeer());
  ABSL_RETURN_IF_ERROR(state->Serve());
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() { Stop(); }

int Server::port() const { return state_->rpc->port(); }

Peer* Server::peer() { return state_->peer.get(); }

void Server::Stop() {
  state_->rpc->Drain();
  state_->peer->Stop();
  state_->rpc->Stop(kShutdown);
}

}  // namespace koinon::dht
