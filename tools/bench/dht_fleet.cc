#include "tools/bench/dht_fleet.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/absl_mutexes.h"
#include "base/descriptor_limit.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/status_macros.h"
#include "base/tls.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::tools {
namespace {

constexpr char kFederation[] = "bench";
constexpr int kDays = 2;
constexpr absl::Duration kPoll = absl::Milliseconds(10);
constexpr size_t kMaxStreams = 1'000;

dht::Peer::Options OptionsOf(LocalNode local) {
  return {.local = std::move(local)};
}

}  // namespace

absl::Status DhtFleet::MakeAuthority() {
  if (!options_.tls) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(
      ca_, MakeCertificateAuthority(kFederation, kDays, clock_.Now()));
  ABSL_RETURN_IF_ERROR(WriteFileAtomically(
      RealEnv(), absl::StrCat(options_.dir, "/ca.pem"), ca_.certificate_pem));
  ABSL_ASSIGN_OR_RETURN(
      authority_, FederationTrust::Create(kFederation, ca_.certificate_pem));
  return absl::OkStatus();
}

TlsFiles DhtFleet::FilesOf(const std::string& name) const {
  return {.certificate = absl::StrCat(options_.dir, "/", name, ".pem"),
          .key = absl::StrCat(options_.dir, "/", name, ".key"),
          .ca = absl::StrCat(options_.dir, "/ca.pem")};
}

absl::StatusOr<LocalNode> DhtFleet::NewIdentity(const std::string& name) {
  Env* const env = RealEnv();
  const TlsFiles files = FilesOf(name);
  if (!options_.tls) {
    return LoadOrMakeLocalNode(env, files.key, kFederation,
                               absl::StrCat("node/", name), "");
  }
  if (!env->Exists(files.key)) {
    ABSL_ASSIGN_OR_RETURN(
        const CertificateAndKey issued,
        IssueCertificate(ca_, {.role = PeerIdentity::Role::kNode, .name = name},
                         kDays - 1, clock_.Now()));
    ABSL_RETURN_IF_ERROR(
        WriteFileAtomically(env, files.certificate, issued.certificate_pem));
    ABSL_RETURN_IF_ERROR(
        WritePrivateFileAtomically(env, files.key, issued.key_pem));
  }
  return LoadLocalNode(env, files, clock_.Now());
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>>
DhtFleet::CredentialsOf(const std::string& name) const {
  if (!options_.tls) return nullptr;
  return MakeChannelCredentials(RealEnv(), FilesOf(name), clock_.Now());
}

absl::Status DhtFleet::Run(size_t i, int port) {
  Member& member = members_[i];
  ABSL_ASSIGN_OR_RETURN(LocalNode local, NewIdentity(member.name));
  dht::Peer::Options options = OptionsOf(std::move(local));
  ABSL_ASSIGN_OR_RETURN(options.credentials, CredentialsOf(member.name));
  options.authority = authority_.get();
  if (!options_.state_dir.empty()) {
    options.state_dir = absl::StrCat(options_.state_dir, "/", member.name);
  }
  options.node = options_.node;
  options.questions_per_second = options_.questions_per_second;
  options.question_burst = 2 * options_.questions_per_second;
  options.max_channels =
      i < options_.askers ? options_.nodes + 1 : options_.other_connections;
  options.clock = &clock_;
  ABSL_ASSIGN_OR_RETURN(member.peer, dht::Peer::Create(std::move(options)));

  RpcServer::Options rpc;
  rpc.listen = absl::StrCat("127.0.0.1:", port);
  rpc.credentials = MakeInsecureServerCredentials();
  if (options_.tls) {
    ABSL_ASSIGN_OR_RETURN(
        rpc.credentials,
        MakeServerCredentials(RealEnv(), FilesOf(member.name), clock_.Now()));
  }
  rpc.reflection_on_loopback = false;
  rpc.max_streams_per_connection = kMaxStreams;
  ABSL_ASSIGN_OR_RETURN(
      member.rpc, RpcServer::Start(std::move(rpc),
                                   {{member.peer->service(),
                                     v1::PeerService::service_full_name()}}));
  member.address = absl::StrCat("127.0.0.1:", member.rpc->port());
  // Any that runs will do.
  std::vector<std::string> bootstrap;
  for (size_t j = 0; j < members_.size() && bootstrap.size() < 2; ++j) {
    if (j != i && members_[j].peer != nullptr) {
      bootstrap.push_back(members_[j].address);
    }
  }
  member.peer->Start(member.address, std::move(bootstrap));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DhtFleet>> DhtFleet::Start(
    Options options, absl::Duration patience) {
  RaiseDescriptorLimit();  // both ends of every connection are ours
  StopSearchForDeadlocks();
  std::unique_ptr<DhtFleet> fleet(new DhtFleet(std::move(options)));
  ABSL_RETURN_IF_ERROR(fleet->MakeAuthority());
  fleet->members_.resize(fleet->options_.nodes);
  for (size_t i = 0; i < fleet->size(); ++i) {
    fleet->members_[i].name = absl::StrCat("n", i);
    ABSL_RETURN_IF_ERROR(fleet->Run(i, 0));
    // On a busy machine the first try may fail; there are others.
    const absl::Status first = fleet->peer(i)->WaitUntilJoined(patience);
    if (!first.ok() && !absl::IsUnavailable(first)) return first;
    // One after the other: a newcomer has a connection to and from everybody to
    // make, and certificates take their time.
    ABSL_RETURN_IF_ERROR(fleet->AwaitKnown(i, i, patience));
  }
  ABSL_RETURN_IF_ERROR(fleet->AwaitKnown(fleet->size() - 1, patience));
  return fleet;
}

DhtFleet::~DhtFleet() {
  for (size_t i = 0; i < size(); ++i) Stop(i);
}

void DhtFleet::Stop(size_t i) {
  Member& member = members_[i];
  if (member.peer != nullptr) member.peer->Stop();
  member.rpc.reset();
  member.peer.reset();
}

absl::Status DhtFleet::Restart(size_t i) {
  Stop(i);
  const std::string& address = members_[i].address;
  int port = 0;
  if (!absl::SimpleAtoi(address.substr(address.rfind(':') + 1), &port)) {
    return absl::InternalError(absl::StrCat("no port in ", address));
  }
  return Run(i, port);
}

absl::Status DhtFleet::AwaitKnown(size_t i, size_t count,
                                  absl::Duration patience) {
  const absl::Time end = clock_.Now() + patience;
  for (;;) {
    const auto known = static_cast<size_t>(peer(i)->status().nodes());
    if (known >= count) return absl::OkStatus();
    if (clock_.Now() > end) {
      return absl::DeadlineExceededError(
          absl::StrCat("node ", i, " knows ", known, " of ", count,
                       " others after ", absl::FormatDuration(patience)));
    }
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(kPoll));
  }
}

absl::Status DhtFleet::AwaitKnown(size_t count, absl::Duration patience) {
  for (size_t i = 0; i < size(); ++i) {
    if (peer(i) == nullptr) continue;
    ABSL_RETURN_IF_ERROR(AwaitKnown(i, count, patience));
  }
  return absl::OkStatus();
}

}  // namespace koinon::tools
