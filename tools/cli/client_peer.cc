#include "tools/cli/client_peer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/acceptor.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/status_macros.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::cli {
namespace {

absl::Status CheckBootstrap(const std::vector<std::string>& bootstrap) {
  if (bootstrap.empty()) {
    return absl::InvalidArgumentError(
        "no node to join by: give --bootstrap HOST:PORT");
  }
  for (const std::string& node : bootstrap) {
    const auto address = ParseHostPort(node);
    if (!address.ok() || address->second == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--bootstrap: expected HOST:PORT, found \"", node, "\""));
    }
  }
  return absl::OkStatus();
}

// In plaintext: what the first node that answers calls its federation.
absl::StatusOr<std::string> AskFederation(
    const std::vector<std::string>& bootstrap, absl::Duration patience) {
  std::vector<std::string> failures;
  grpc::ChannelArguments arguments;
  // The connection goes where the user said.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  for (const std::string& node : bootstrap) {
    const auto stub = v1::PeerService::NewStub(grpc::CreateCustomChannel(
        node, MakeInsecureChannelCredentials(), arguments));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(
        RealClock().Now() + patience / static_cast<double>(bootstrap.size())));
    v1::NodeStatus status;
    const grpc::Status asked =
        stub->GetNodeStatus(&context, v1::NodeStatusRequest(), &status);
    if (asked.ok()) return status.federation();
    failures.push_back(absl::StrCat(node, ": ", asked.error_message()));
  }
  return absl::UnavailableError(
      absl::StrCat("no node answers: ", absl::StrJoin(failures, "; ")));
}

LocalNode MakeAnonymousNode(const std::string& federation) {
  SigningKey key = SigningKey::Generate();
  NodeIdentity identity = SelfMadeIdentity(key.public_key(), /*site=*/"");
  const Digest id = NodeIdOf(federation, identity);
  return LocalNode{.key = std::move(key),
                   .identity = std::move(identity),
                   .id = id,
                   .federation = federation,
                   .owner = "",
                   .certificate_der = ""};
}

absl::StatusOr<LocalNode> LocalNodeFor(const ClientPeer::Options& options,
                                       const TlsFiles& files, absl::Time now) {
  if (!options.connection.insecure) {
    return LoadLocalNode(RealEnv(), files, now);
  }
  ABSL_ASSIGN_OR_RETURN(const std::string federation,
                        AskFederation(options.bootstrap, options.patience));
  return MakeAnonymousNode(federation);
}

dht::Peer::Options PeerOptions(
    LocalNode local, std::shared_ptr<grpc::ChannelCredentials> credentials,
    const FederationTrust* authority, const Clock* clock) {
  dht::Peer::Options options{.local = std::move(local)};
  options.credentials = std::move(credentials);
  options.authority = authority;
  options.leech_only = true;
  options.cross_site = true;
  options.clock = clock;
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ClientPeer>> ClientPeer::Join(
    const Options& options) {
  ABSL_RETURN_IF_ERROR(CheckBootstrap(options.bootstrap));
  ABSL_ASSIGN_OR_RETURN(const TlsFiles files,
                        ResolveTlsFiles(options.connection));
  std::unique_ptr<ClientPeer> client(new ClientPeer());
  const absl::Time now = client->clock_.Now();
  ABSL_ASSIGN_OR_RETURN(LocalNode local, LocalNodeFor(options, files, now));
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (!options.connection.insecure) {
    ABSL_ASSIGN_OR_RETURN(credentials,
                          MakeChannelCredentials(RealEnv(), files, now));
    ABSL_ASSIGN_OR_RETURN(client->authority_,
                          ConnectionAuthority(options.connection));
  }
  ABSL_ASSIGN_OR_RETURN(client->peer_,
                        dht::Peer::Create(PeerOptions(
                            std::move(local), std::move(credentials),
                            client->authority_.get(), &client->clock_)));
  client->peer_->Start("", options.bootstrap);
  ABSL_RETURN_IF_ERROR(client->peer_->WaitUntilJoined(options.patience));
  return client;
}

ClientPeer::~ClientPeer() = default;

}  // namespace koinon::cli
