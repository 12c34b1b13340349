// Who may do what: a coordinator with mutual TLS, and peers with the right
// certificate, the wrong one, and none.

#include "base/tls.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/certs.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/node_identity.h"
#include "base/trust.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "tests/integration/coordinator_fixture.h"

namespace koinon::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Role = PeerIdentity::Role;

constexpr char kFederation[] = "north";

void SetPatience(grpc::ClientContext* context) {
  context->set_deadline(std::chrono::system_clock::now() +
                        std::chrono::seconds(60));
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

CertificateAndKey NewAuthority(const std::string& federation) {
  auto made = MakeCertificateAuthority(federation, 30, RealClock().Now());
  EXPECT_THAT(made, IsOk());
  return *made;
}

CertificateAndKey Issue(const CertificateAndKey& authority, Role role,
                        const std::string& name,
                        absl::Time now = RealClock().Now()) {
  CertificateSubject subject{.role = role, .name = name};
  if (role == Role::kServer) subject.ip_addresses = {"127.0.0.1"};
  auto made = IssueCertificate(authority, subject, 1, now);
  EXPECT_THAT(made, IsOk());
  return *made;
}

// What a peer shows, and whom it trusts. No checks of our own: a stranger does
// not ask whether its files make sense.
std::shared_ptr<grpc::ChannelCredentials> Showing(
    const std::optional<CertificateAndKey>& own,
    const CertificateAndKey& trusted) {
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = trusted.certificate_pem;
  if (own.has_value()) {
    options.pem_cert_chain = own->certificate_pem;
    options.pem_private_key = own->key_pem;
  }
  return grpc::SslCredentials(options);
}

class TlsTest : public CoordinatorFixture {
 protected:
  void SetUp() override {
    CoordinatorFixture::SetUp();
    dir_ = spec_.state_dir + ".certs";
    std::filesystem::remove_all(dir_);
    ASSERT_OK(RealEnv()->MakeDirs(dir_));
    spec_.insecure = false;
    spec_.federation = kFederation;
    const auto server = Issue(authority_, Role::kServer, "coordinator");
    spec_.tls = {dir_ + "/server.pem", dir_ + "/server.key", dir_ + "/ca.pem"};
    ASSERT_OK(WriteFileAtomically(RealEnv(), spec_.tls.certificate,
                                  server.certificate_pem));
    ASSERT_OK(
        WritePrivateFileAtomically(RealEnv(), spec_.tls.key, server.key_pem));
    ASSERT_OK(WriteFileAtomically(RealEnv(), spec_.tls.ca,
                                  authority_.certificate_pem));
  }

  std::shared_ptr<grpc::Channel> ChannelOf(Role role,
                                           const std::string& name) const {
    return NewChannel(Showing(Issue(authority_, role, name), authority_));
  }
  // A worker that says it is `name`, with a certificate for `certified`.
  std::unique_ptr<TestWorker> WorkerWith(const std::string& certified,
                                         const std::string& name) const {
    return std::make_unique<TestWorker>(ChannelOf(Role::kWorker, certified),
                                        name);
  }
  std::unique_ptr<TestWorker> JoinedWorker(const std::string& name) const {
    auto worker = WorkerWith(name, name);
    worker->Open();
    EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome), IsOk());
    return worker;
  }
  // How a session as "a" over this connection ends.
  static absl::Status SessionOver(std::shared_ptr<grpc::Channel> channel) {
    TestWorker worker(std::move(channel), "a");
    worker.Open();
    return worker.Await(v1::CoordinatorMessage::kWelcome).status();
  }
  static absl::Status GetJobOver(
      const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::GetJobRequest request;
    request.set_name("nothing");
    v1::JobStatus reply;
    return FromGrpc(
        v1::ClientService::NewStub(channel)->GetJob(&context, request, &reply));
  }

  const CertificateAndKey authority_ = NewAuthority(kFederation);
  std::string dir_;
};

TEST_F(TlsTest, Worker_UnderItsOwnName_TrainsARound) {
  Start();
  auto worker = JoinedWorker("a");
  auto client = v1::ClientService::NewStub(ChannelOf(Role::kClient, "alice"));
  grpc::ClientContext context;
  SetPatience(&context);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = SmallJob("job", 1, 1);
  v1::SubmitJobReply reply;
  ASSERT_OK(FromGrpc(client->SubmitJob(&context, request, &reply)));
  ASSERT_OK_AND_ASSIGN(auto pushed,
                       worker->TrainOnce(std::vector<float>(6, 1.0f), 10));
  EXPECT_TRUE(pushed.accepted());
}

TEST_F(TlsTest, Session_UnderAnotherName_IsRefusedWithBothNames) {
  Start();
  auto worker = WorkerWith("a", "b");
  worker->Open();
  EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("'a'"), HasSubstr("'b'"))));
}

// A worker's node is the one that its certificate is of, where that says.
TEST_F(TlsTest, Peer_ThatIsNotTheCertificates_IsRefusedWithBoth) {
  Start();
  auto issued = IssueCertificate(
      authority_, {.role = Role::kWorker, .name = "a", .site = "ward"}, 1,
      RealClock().Now());
  ASSERT_OK(issued);
  ASSERT_OK(
      WriteFileAtomically(RealEnv(), dir_ + "/a.pem", issued->certificate_pem));
  ASSERT_OK_AND_ASSIGN(const PeerIdentity identity,
                       IdentityOfCertificate(RealEnv(), dir_ + "/a.pem"));
  ASSERT_TRUE(identity.node.has_value());
  const Digest id = NodeIdOf(kFederation, *identity.node);
  const auto join = [&](const Digest& claimed, const std::string& site) {
    TestWorker worker(NewChannel(Showing(*issued, authority_)), "a");
    v1::Contact* peer = worker.hello().mutable_peer();
    peer->set_node_id(claimed.ToBytes());
    peer->set_address("127.0.0.1:7171");
    peer->set_site(site);
    worker.Open();
    return worker.Await(v1::CoordinatorMessage::kWelcome).status();
  };
  EXPECT_OK(join(id, "ward"));
  const Digest other = Sha256Of("another");
  EXPECT_THAT(join(other, "ward"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr(id.ToShortHex()),
                             HasSubstr(other.ToShortHex()))));
  EXPECT_THAT(join(id, "lab"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       AllOf(HasSubstr("'ward'"), HasSubstr("'lab'"))));
}

// Whoever has the authority's certificate can tell what the coordinator signed.
TEST_F(TlsTest, Manifest_VerifiesUnderTheAuthorityAlone) {
  Start();
  auto worker = JoinedWorker("a");
  auto client = v1::ClientService::NewStub(ChannelOf(Role::kClient, "alice"));
  grpc::ClientContext context;
  SetPatience(&context);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = SmallJob("job", 1, 1);
  v1::SubmitJobReply reply;
  ASSERT_OK(FromGrpc(client->SubmitJob(&context, request, &reply)));
  ASSERT_OK_AND_ASSIGN(const auto message,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK_AND_ASSIGN(
      const auto authority,
      FederationTrust::Create(kFederation, authority_.certificate_pem));
  dht::RecordTrust trust;
  trust.federation = kFederation;
  trust.authority = authority.get();
  const absl::Time now = RealClock().Now();
  const std::string& bytes = message.offer_task().signed_manifest();
  EXPECT_OK(dht::OpenManifest(bytes, trust, now));
  const CertificateAndKey stranger = NewAuthority(kFederation);
  ASSERT_OK_AND_ASSIGN(
      const auto another,
      FederationTrust::Create(kFederation, stranger.certificate_pem));
  trust.authority = another.get();
  EXPECT_EQ(dht::RejectionOf(dht::OpenManifest(bytes, trust, now).status()),
            dht::Rejection::kUntrustedSigner);
}

TEST_F(TlsTest, Push_OfAnotherWorkersUpdate_IsRefusedAndDoesNoHarm) {
  Start();
  auto a = JoinedWorker("a");
  auto client = v1::ClientService::NewStub(ChannelOf(Role::kClient, "alice"));
  grpc::ClientContext context;
  SetPatience(&context);
  v1::SubmitJobRequest request;
  *request.mutable_spec() = SmallJob("job", 1, 1);
  v1::SubmitJobReply reply;
  ASSERT_OK(FromGrpc(client->SubmitJob(&context, request, &reply)));
  ASSERT_OK_AND_ASSIGN(auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  const std::vector<float> values(6, 1.0f);
  const auto header = a->HeaderFor(offer.offer_task(), values, 10);
  a->Announce(header);
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));

  auto thief = WorkerWith("b", "b");
  EXPECT_THAT(thief->Push(header, TestWorker::BytesOf(values), 0, 64),
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("'b'")));
  ASSERT_OK_AND_ASSIGN(auto pushed,
                       a->Push(header, TestWorker::BytesOf(values), 0, 64));
  EXPECT_TRUE(pushed.accepted());
}

// Every call of the client's service, with the least of arguments.
absl::Status CallUnary(v1::ClientService::Stub* stub, const std::string& name) {
  grpc::ClientContext context;
  SetPatience(&context);
  v1::JobStatus status;
  if (name == "SubmitJob") {
    v1::SubmitJobReply reply;
    return FromGrpc(stub->SubmitJob(&context, {}, &reply));
  }
  if (name == "GetJob") return FromGrpc(stub->GetJob(&context, {}, &status));
  if (name == "ListJobs") {
    v1::ListJobsReply reply;
    return FromGrpc(stub->ListJobs(&context, {}, &reply));
  }
  if (name == "CancelJob") {
    return FromGrpc(stub->CancelJob(&context, {}, &status));
  }
  if (name == "PauseJob") {
    return FromGrpc(stub->PauseJob(&context, {}, &status));
  }
  if (name == "ResumeJob") {
    return FromGrpc(stub->ResumeJob(&context, {}, &status));
  }
  if (name == "ListRounds") {
    v1::ListRoundsReply reply;
    return FromGrpc(stub->ListRounds(&context, {}, &reply));
  }
  if (name == "ListNodes") {
    v1::ListNodesReply reply;
    return FromGrpc(stub->ListNodes(&context, {}, &reply));
  }
  if (name == "ListModels") {
    v1::ListModelsReply reply;
    return FromGrpc(stub->ListModels(&context, {}, &reply));
  }
  if (name == "PinModel") {
    v1::ModelManifest manifest;
    return FromGrpc(stub->PinModel(&context, {}, &manifest));
  }
  if (name == "WatchJob") {
    auto reader = stub->WatchJob(&context, {});
    v1::JobEvent event;
    while (reader->Read(&event)) {
    }
    return FromGrpc(reader->Finish());
  }
  auto reader = stub->PullModel(&context, {});
  v1::PullModelReply part;
  while (reader->Read(&part)) {
  }
  return FromGrpc(reader->Finish());
}

TEST_F(TlsTest, ClientService_EveryCall_RefusesWorkersAndServers) {
  Start();
  const auto* service =
      v1::SubmitJobRequest::descriptor()->file()->FindServiceByName(
          "ClientService");
  ASSERT_EQ(service->method_count(), 12);
  for (const Role role : {Role::kWorker, Role::kServer}) {
    auto stub = v1::ClientService::NewStub(ChannelOf(role, "a"));
    for (int i = 0; i < service->method_count(); ++i) {
      EXPECT_THAT(CallUnary(stub.get(), service->method(i)->name()),
                  StatusIs(absl::StatusCode::kPermissionDenied,
                           HasSubstr("needs role client")))
          << service->method(i)->name();
    }
  }
}

TEST_F(TlsTest, WorkerService_EveryCall_RefusesClients) {
  Start();
  const auto channel = ChannelOf(Role::kClient, "a");
  EXPECT_THAT(SessionOver(channel),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("needs role worker")));
  TestWorker worker(channel, "a");
  v1::UpdateHeader header;
  header.set_worker("a");
  EXPECT_THAT(worker.Push(header, "", 0, 64),
              StatusIs(absl::StatusCode::kPermissionDenied));
  v1::ModelManifest manifest;
  EXPECT_THAT(worker.Pull("job", 0, 0, &manifest),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_THAT(GetJobOver(channel), StatusIs(absl::StatusCode::kNotFound));
}

// The CA file may hold two federations' authorities; they stay two federations.
TEST_F(TlsTest, Certificate_OfAnotherFederation_IsRefusedWithBothNames) {
  const CertificateAndKey south = NewAuthority("south");
  ASSERT_OK(
      WriteFileAtomically(RealEnv(), spec_.tls.ca,
                          authority_.certificate_pem + south.certificate_pem));
  Start();
  const auto channel = [&](Role role, const std::string& name) {
    return NewChannel(Showing(Issue(south, role, name), authority_));
  };
  const auto both = AllOf(HasSubstr("'north'"), HasSubstr("'south'"));
  EXPECT_THAT(SessionOver(channel(Role::kWorker, "a")),
              StatusIs(absl::StatusCode::kPermissionDenied, both));
  EXPECT_THAT(GetJobOver(channel(Role::kClient, "alice")),
              StatusIs(absl::StatusCode::kPermissionDenied, both));
}

TEST_F(TlsTest, Start_WithACertificateForSomethingElse_SaysWhatItIsFor) {
  const RealClock clock;
  const auto start = [&] {
    coordinator::Server::Options options;
    options.clock = &clock;
    return coordinator::Server::Start(spec_, std::move(options)).status();
  };
  spec_.federation = "south";
  EXPECT_THAT(start(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'north'"), HasSubstr("'south'"))));
  spec_.federation = kFederation;
  const auto worker = Issue(authority_, Role::kWorker, "a");
  ASSERT_OK(WriteFileAtomically(RealEnv(), spec_.tls.certificate,
                                worker.certificate_pem));
  ASSERT_OK(
      WritePrivateFileAtomically(RealEnv(), spec_.tls.key, worker.key_pem));
  EXPECT_THAT(start(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("worker")));
}

// UNAVAILABLE: the connection itself does not come about. The last call shows
// that it was the credentials, not the coordinator.
TEST_F(TlsTest, Connection_WithoutACertificateOfThisAuthority_IsRefused) {
  Start();
  const auto unavailable = StatusIs(absl::StatusCode::kUnavailable);
  const CertificateAndKey stranger = NewAuthority(kFederation);
  const auto forged = Issue(stranger, Role::kWorker, "a");
  EXPECT_THAT(SessionOver(NewChannel(Showing(forged, authority_))),
              unavailable);
  EXPECT_THAT(GetJobOver(NewChannel(Showing(
                  Issue(stranger, Role::kClient, "alice"), authority_))),
              unavailable);
  EXPECT_THAT(SessionOver(NewChannel(Showing(std::nullopt, authority_))),
              unavailable);
  EXPECT_THAT(SessionOver(NewChannel(grpc::InsecureChannelCredentials())),
              unavailable);
  const auto expired = Issue(authority_, Role::kWorker, "a",
                             RealClock().Now() - absl::Hours(48));
  EXPECT_THAT(SessionOver(NewChannel(Showing(expired, authority_))),
              unavailable);
  EXPECT_THAT(SessionOver(ChannelOf(Role::kWorker, "a")), IsOk());
}

TEST_F(TlsTest, Coordinator_OfAnotherAuthority_IsNotTrusted) {
  Start();
  const CertificateAndKey other = NewAuthority(kFederation);
  EXPECT_THAT(GetJobOver(NewChannel(
                  Showing(Issue(authority_, Role::kClient, "alice"), other))),
              StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_THAT(GetJobOver(ChannelOf(Role::kClient, "alice")),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace koinon::testing
