#include "tools/cli/client_peer.h"

#include <optional>
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

constexpr size_t kMaxPemBytes = 1 << 20;

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

}  // namespace

absl::StatusOr<std::unique_ptr<ClientPeer>> ClientPeer::Join(
    const Options& options) {
  ABSL_RETURN_IF_ERROR(CheckBootstrap(options.bootstrap));
  ABSL_ASSIGN_OR_RETURN(const TlsFiles files,
                        ResolveTlsFiles(options.connection));
  std::unique_ptr<ClientPeer> client(new ClientPeer());
  std::optional<LocalNode> local;
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (options.connection.insecure) {
    ABSL_ASSIGN_OR_RETURN(const std::string federation,
                          AskFederation(options.bootstrap, options.patience));
    local = MakeAnonymousNode(federation);
  } else {
    const absl::Time now = client->clock_.Now();
    ABSL_ASSIGN_OR_RETURN(local, LoadLocalNode(RealEnv(), files, now));
    ABSL_ASSIGN_OR_RETURN(credentials,
                          MakeChannelCredentials(RealEnv(), files, now));
    ABSL_ASSIGN_OR_RETURN(const std::string ca,
                          ReadFile(RealEnv(), files.ca, kMaxPemBytes));
    ABSL_ASSIGN_OR_RETURN(client->authority_,
                          FederationTrust::Create(local->federation, ca));
  }
  ABSL_ASSIGN_OR_RETURN(
      client->peer_, dht::Peer::Create({.local = *std::move(local),
                                        .credentials = std::move(credentials),
                                        .authority = client->authority_.get(),
                                        .state_dir = "",
                                        .leech_only = true,
                                        .cross_site = true,
                                        .coordinator = "",
                                        .store = {},
                                        .node = {},
                                        .clock = &client->clock_}));
  client->peer_->Start("", options.bootstrap);
  ABSL_RETURN_IF_ERROR(client->peer_->WaitUntilJoined(options.patience));
  return client;
}

ClientPeer::~ClientPeer() = default;

}  // namespace koinon::cli
