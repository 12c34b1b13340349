#include "base/tls.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/certs.h"
#include "base/signing.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

using Role = PeerIdentity::Role;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

// Files in memory, made for one federation's authority.
class TlsFolder {
 public:
  explicit TlsFolder(absl::Time now) : now_(now) {}

  CertificateAndKey MakeAuthority(const std::string& federation) const {
    return *MakeCertificateAuthority(federation, 100, now_);
  }
  CertificateAndKey Issue(const CertificateAndKey& ca, Role role,
                          const std::string& name) const {
    CertificateSubject subject = {.role = role, .name = name};
    if (role == Role::kServer) subject.ip_addresses = {"127.0.0.1"};
    return *IssueCertificate(ca, subject, 30, now_);
  }
  // Writes `own` and the authority that it says it stands under.
  TlsFiles Write(const std::string& stem, const CertificateAndKey& own,
                 const CertificateAndKey& ca) {
    const TlsFiles files = {.certificate = "/" + stem + ".crt",
                            .key = "/" + stem + ".key",
                            .ca = "/" + stem + "-ca.crt"};
    EXPECT_OK(
        WriteFileAtomically(&env, files.certificate, own.certificate_pem));
    EXPECT_OK(WritePrivateFileAtomically(&env, files.key, own.key_pem));
    EXPECT_OK(WriteFileAtomically(&env, files.ca, ca.certificate_pem));
    return files;
  }

  MemoryEnv env;

 private:
  const absl::Time now_;
};

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

class CheckTlsFilesTest : public testing::Test {
 protected:
  absl::Status Check(absl::Time now = kNow) {
    return CheckTlsFiles(&folder_.env, files_, now);
  }

  TlsFolder folder_{kNow};
  CertificateAndKey ca_ = folder_.MakeAuthority("north");
  CertificateAndKey worker_ = folder_.Issue(ca_, Role::kWorker, "w1");
  TlsFiles files_ = folder_.Write("w1", worker_, ca_);
};

TEST_F(CheckTlsFilesTest, IssuedCertificates_EveryRole_Ok) {
  EXPECT_OK(Check());
  for (const Role role : {Role::kServer, Role::kClient, Role::kNode}) {
    files_ = folder_.Write("other", folder_.Issue(ca_, role, "o"), ca_);
    EXPECT_OK(Check());
  }
}

TEST_F(CheckTlsFilesTest, MissingFile_FailedPreconditionNamesIt) {
  for (const std::string& path : {files_.certificate, files_.key, files_.ca}) {
    ASSERT_OK_AND_ASSIGN(const std::string content,
                         ReadFile(&folder_.env, path, 10'000));
    ASSERT_OK(folder_.env.Remove(path));
    EXPECT_THAT(Check(), StatusIs(kPrecondition, StartsWith(path)));
    ASSERT_OK(WritePrivateFileAtomically(&folder_.env, path, content));
  }
  EXPECT_OK(Check());
}

TEST_F(CheckTlsFilesTest, FileNotNamed_InvalidArgument) {
  files_.ca.clear();
  EXPECT_THAT(Check(), StatusIs(kInvalid, HasSubstr("needs a CA file")));
}

TEST_F(CheckTlsFilesTest, NotPem_InvalidArgumentNamesIt) {
  for (const std::string& path : {files_.certificate, files_.key, files_.ca}) {
    ASSERT_OK_AND_ASSIGN(const std::string content,
                         ReadFile(&folder_.env, path, 10'000));
    ASSERT_OK(WritePrivateFileAtomically(&folder_.env, path, "rubbish"));
    EXPECT_THAT(Check(),
                StatusIs(kInvalid, AllOf(StartsWith(path), HasSubstr("PEM"))));
    ASSERT_OK(WritePrivateFileAtomically(&folder_.env, path, content));
  }
}

TEST_F(CheckTlsFilesTest, KeyOfAnother_FailedPreconditionNamesBoth) {
  const CertificateAndKey other = folder_.Issue(ca_, Role::kWorker, "w1");
  ASSERT_OK(
      WritePrivateFileAtomically(&folder_.env, files_.key, other.key_pem));
  EXPECT_THAT(Check(),
              StatusIs(kPrecondition, AllOf(StartsWith(files_.key),
                                            HasSubstr(files_.certificate))));
}

TEST_F(CheckTlsFilesTest, KeyReadableByOthers_FailedPrecondition) {
  ASSERT_OK(folder_.env.Remove(files_.key));
  ASSERT_OK(WriteFileAtomically(&folder_.env, files_.key, worker_.key_pem));
  EXPECT_THAT(Check(), StatusIs(kPrecondition, AllOf(StartsWith(files_.key),
                                                     HasSubstr("chmod 600"))));
}

TEST_F(CheckTlsFilesTest, AnotherAuthorityOfTheSameName_FailedPrecondition) {
  files_ = folder_.Write("w1", worker_, folder_.MakeAuthority("north"));
  EXPECT_THAT(Check(), StatusIs(kPrecondition, AllOf(StartsWith("/w1.crt"),
                                                     HasSubstr(files_.ca))));
}

TEST_F(CheckTlsFilesTest, ExpiredOrNotYetValid_FailedPrecondition) {
  EXPECT_THAT(Check(kNow + absl::Hours(24 * 31)),
              StatusIs(kPrecondition, HasSubstr("expired")));
  EXPECT_THAT(Check(kNow - absl::Hours(1)),
              StatusIs(kPrecondition, HasSubstr("not yet valid")));
  EXPECT_OK(Check(kNow - absl::Minutes(4)));
}

TEST_F(CheckTlsFilesTest, HugeFile_FailedPrecondition) {
  ASSERT_OK(WriteFileAtomically(&folder_.env, files_.ca,
                                std::string((1 << 20) + 1, 'x')));
  EXPECT_THAT(Check(), StatusIs(kPrecondition, HasSubstr("at most")));
}

TEST_F(CheckTlsFilesTest, Credentials_BadFiles_AreNotMade) {
  ASSERT_OK(folder_.env.Remove(files_.key));
  EXPECT_THAT(MakeServerCredentials(&folder_.env, files_, kNow),
              StatusIs(kPrecondition));
  EXPECT_THAT(MakeChannelCredentials(&folder_.env, files_, kNow),
              StatusIs(kPrecondition));
}

// gRPC lets only its own classes make one.
struct Nothing : grpc::AuthPropertyIterator {};

// What gRPC tells about a peer, as far as it is asked for.
class FakeAuthContext final : public grpc::AuthContext {
 public:
  FakeAuthContext(bool authenticated, std::string transport,
                  std::vector<std::string> uris)
      : authenticated_(authenticated),
        transport_(std::move(transport)),
        uris_(std::move(uris)) {}

  bool IsPeerAuthenticated() const override { return authenticated_; }
  std::vector<grpc::string_ref> FindPropertyValues(
      const std::string& name) const override {
    if (name == "transport_security_type") return {transport_};
    if (name != "peer_uri") return {};
    return std::vector<grpc::string_ref>(uris_.begin(), uris_.end());
  }

  std::vector<grpc::string_ref> GetPeerIdentity() const override { return {}; }
  std::string GetPeerIdentityPropertyName() const override { return ""; }
  grpc::AuthPropertyIterator begin() const override { return Nothing(); }
  grpc::AuthPropertyIterator end() const override { return Nothing(); }
  void AddProperty(const std::string&, const grpc::string_ref&) override {}
  bool SetPeerIdentityPropertyName(const std::string&) override {
    return false;
  }

 private:
  const bool authenticated_;
  const std::string transport_;
  const std::vector<std::string> uris_;
};

TEST(PeerIdentityOfTest, OneKoinonUriAmongOthers_IsThatPeer) {
  ASSERT_OK_AND_ASSIGN(
      const PeerIdentity peer,
      PeerIdentityOf(FakeAuthContext(
          true, "ssl", {"https://example", "koinon://north/client/ann"})));
  EXPECT_EQ(peer.role, Role::kClient);
  EXPECT_EQ(peer.name, "ann");
}

TEST(PeerIdentityOfTest, NoneOrSeveralOrBrokenUris_Unauthenticated) {
  const struct {
    std::vector<std::string> uris;
    std::string message;
  } cases[] = {
      {{}, "found 0"},
      {{"https://example"}, "found 0"},
      {{"koinon://a/worker/x", "koinon://a/worker/y"}, "found 2"},
      {{"koinon://a/king/x"}, "koinon://a/king/x"},
      {{"koinon://a/worker/x", "koinon-node:1"}, "koinon-node:1"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(
        PeerIdentityOf(FakeAuthContext(true, "ssl", c.uris)),
        StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(c.message)));
  }
}

TEST(PeerIdentityOfTest, TlsWithoutVerifiedCertificate_Unauthenticated) {
  for (const char* transport : {"ssl", "alts", ""}) {
    EXPECT_THAT(PeerIdentityOf(FakeAuthContext(false, transport,
                                               {"koinon://north/client/ann"})),
                StatusIs(absl::StatusCode::kUnauthenticated));
  }
}

// Serves any call with the caller's identity, over a generic service: no
// protocol is needed to shake hands.
class HandshakeTest : public testing::Test {
 protected:
  // What the server saw of a caller, or nothing if the call did not get in. The
  // caller looks for `name` in the server's certificate, if it is not empty,
  // instead of the address.
  std::optional<absl::StatusOr<PeerIdentity>> Call(
      std::shared_ptr<grpc::ServerCredentials> server_credentials,
      std::shared_ptr<grpc::ChannelCredentials> channel_credentials,
      const std::string& name = "") {
    int port = 0;
    std::optional<absl::StatusOr<PeerIdentity>> seen;
    EchoService echo(&seen);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", server_credentials, &port);
    builder.RegisterCallbackGenericService(&echo);
    const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr) return std::nullopt;
    CallOnce(absl::StrCat("127.0.0.1:", port), channel_credentials, name);
    server->Shutdown();
    return seen;
  }

  TlsFolder folder_{absl::Now()};
  CertificateAndKey ca_ = folder_.MakeAuthority("north");
  TlsFiles server_ =
      folder_.Write("server", folder_.Issue(ca_, Role::kServer, "main"), ca_);

 private:
  class EchoService final : public grpc::CallbackGenericService {
   public:
    explicit EchoService(std::optional<absl::StatusOr<PeerIdentity>>* seen)
        : seen_(seen) {}
    grpc::ServerGenericBidiReactor* CreateReactor(
        grpc::GenericCallbackServerContext* context) override {
      *seen_ = PeerIdentityOf(*context->auth_context());
      class Reactor final : public grpc::ServerGenericBidiReactor {
       public:
        Reactor() { Finish(grpc::Status::OK); }
        void OnDone() override { delete this; }
      };
      return new Reactor;
    }

   private:
    std::optional<absl::StatusOr<PeerIdentity>>* const seen_;
  };

  void CallOnce(const std::string& target,
                std::shared_ptr<grpc::ChannelCredentials> credentials,
                const std::string& name) {
    grpc::ChannelArguments arguments;
    if (!name.empty()) arguments.SetSslTargetNameOverride(name);
    grpc::GenericStub stub(
        grpc::CreateCustomChannel(target, credentials, arguments));
    grpc::ClientContext context;
    // Only a hang would make it that long.
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(30));
    grpc::CompletionQueue queue;
    grpc::ByteBuffer request;
    const auto call = stub.PrepareUnaryCall(&context, "/x/Y", request, &queue);
    call->StartCall();
    grpc::ByteBuffer response;
    call->Finish(&response, &call_status_, this);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    queue.Shutdown();
    while (queue.Next(&tag, &ok)) {
    }
    if (call_status_.ok()) answerer_ = PeerIdentityOf(*context.auth_context());
  }

 protected:
  grpc::Status call_status_;
  // What the caller saw of the server, once a call got in.
  std::optional<absl::StatusOr<PeerIdentity>> answerer_;
};

TEST_F(HandshakeTest, WorkerOfTheFederation_IsSeenAsThatWorker) {
  const CertificateAndKey issued = folder_.Issue(ca_, Role::kWorker, "w1");
  const TlsFiles worker = folder_.Write("w1", issued, ca_);
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  ASSERT_OK_AND_ASSIGN(
      auto channel, MakeChannelCredentials(&folder_.env, worker, absl::Now()));
  const auto seen = Call(server, channel);
  ASSERT_TRUE(seen.has_value()) << call_status_.error_message();
  ASSERT_OK(*seen);
  EXPECT_EQ((*seen)->role, Role::kWorker);
  EXPECT_EQ((*seen)->federation, "north");
  EXPECT_EQ((*seen)->name, "w1");
  // Both sides had key files of two keys, and TLS took the first of each: the
  // second is the node's, which the other side was told.
  ASSERT_TRUE((*seen)->node.has_value());
  ASSERT_OK_AND_ASSIGN(const SigningKey key,
                       SigningKey::FromPem(issued.key_pem));
  EXPECT_EQ((*seen)->node->key, key.public_key());
}

TEST_F(HandshakeTest, NodesName_EveryRoleThatServesAnswersToIt) {
  const TlsFiles caller =
      folder_.Write("c", folder_.Issue(ca_, Role::kClient, "c"), ca_);
  ASSERT_OK_AND_ASSIGN(
      auto channel, MakeChannelCredentials(&folder_.env, caller, absl::Now()));
  for (const Role role : {Role::kWorker, Role::kNode, Role::kServer}) {
    const TlsFiles files =
        folder_.Write("n", folder_.Issue(ca_, role, "n"), ca_);
    ASSERT_OK_AND_ASSIGN(
        auto server, MakeServerCredentials(&folder_.env, files, absl::Now()));
    answerer_.reset();
    ASSERT_TRUE(Call(server, channel, kNodeDnsName).has_value())
        << call_status_.error_message();
    ASSERT_TRUE(answerer_.has_value());
    ASSERT_OK(*answerer_);
    EXPECT_EQ((*answerer_)->role, role);
    EXPECT_TRUE((*answerer_)->node.has_value());
  }
}

TEST_F(HandshakeTest, ClientInANodesPlace_IsRefused) {
  const TlsFiles client =
      folder_.Write("c", folder_.Issue(ca_, Role::kClient, "c"), ca_);
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, client, absl::Now()));
  ASSERT_OK_AND_ASSIGN(
      auto channel, MakeChannelCredentials(&folder_.env, client, absl::Now()));
  EXPECT_FALSE(Call(server, channel, kNodeDnsName).has_value());
}

TEST_F(HandshakeTest, WorkerOfAnotherAuthority_IsRefused) {
  // It trusts the server, and says that it is of the same federation; but its
  // own certificate is another authority's.
  const CertificateAndKey impostor = folder_.MakeAuthority("north");
  TlsFiles worker = folder_.Write(
      "w1", folder_.Issue(impostor, Role::kWorker, "w1"), impostor);
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca_.certificate_pem;
  ASSERT_OK_AND_ASSIGN(options.pem_private_key,
                       ReadFile(&folder_.env, worker.key, 10'000));
  ASSERT_OK_AND_ASSIGN(options.pem_cert_chain,
                       ReadFile(&folder_.env, worker.certificate, 10'000));
  EXPECT_FALSE(Call(server, grpc::SslCredentials(options)).has_value());
  EXPECT_EQ(call_status_.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HandshakeTest, CallerWithoutCertificate_IsRefused) {
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca_.certificate_pem;
  EXPECT_FALSE(Call(server, grpc::SslCredentials(options)).has_value());
  EXPECT_EQ(call_status_.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(HandshakeTest, PlaintextCaller_IsRefusedByATlsServer) {
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  EXPECT_FALSE(Call(server, MakeInsecureChannelCredentials()).has_value());
}

TEST_F(HandshakeTest, ServerOfAnotherAuthority_IsRefusedByTheWorker) {
  const CertificateAndKey other = folder_.MakeAuthority("south");
  const TlsFiles worker =
      folder_.Write("w1", folder_.Issue(other, Role::kWorker, "w1"), other);
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  ASSERT_OK_AND_ASSIGN(
      auto channel, MakeChannelCredentials(&folder_.env, worker, absl::Now()));
  EXPECT_FALSE(Call(server, channel).has_value());
}

// A worker's certificate serves under the nodes' name, and under no other: not
// at the address, and not under the coordinator's name.
TEST_F(HandshakeTest, WorkerOrNodeInTheServersPlace_IsRefused) {
  for (const Role role : {Role::kWorker, Role::kNode}) {
    const TlsFiles files =
        folder_.Write("w1", folder_.Issue(ca_, role, "w1"), ca_);
    ASSERT_OK_AND_ASSIGN(
        auto server, MakeServerCredentials(&folder_.env, files, absl::Now()));
    ASSERT_OK_AND_ASSIGN(
        auto channel, MakeChannelCredentials(&folder_.env, files, absl::Now()));
    for (const char* name : {"", "coordinator.lab", "w1"}) {
      EXPECT_FALSE(Call(server, channel, name).has_value());
    }
    EXPECT_TRUE(Call(server, channel, kNodeDnsName).has_value());
  }
}

TEST_F(HandshakeTest, TheAuthorityItself_IsRefusedAsAPeer) {
  ASSERT_OK_AND_ASSIGN(
      auto server, MakeServerCredentials(&folder_.env, server_, absl::Now()));
  grpc::SslCredentialsOptions options;
  options.pem_root_certs = ca_.certificate_pem;
  options.pem_private_key = ca_.key_pem;
  options.pem_cert_chain = ca_.certificate_pem;
  EXPECT_FALSE(Call(server, grpc::SslCredentials(options)).has_value());
}

TEST_F(HandshakeTest, Plaintext_IsAnonymous) {
  const auto seen =
      Call(MakeInsecureServerCredentials(), MakeInsecureChannelCredentials());
  ASSERT_TRUE(seen.has_value()) << call_status_.error_message();
  ASSERT_OK(*seen);
  EXPECT_EQ((*seen)->role, Role::kAnonymous);
}

}  // namespace
}  // namespace koinon
