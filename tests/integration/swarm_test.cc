// Versions that spread between real peers: certificates, policy and the DHT
// included, each peer with a server of its own on the loopback.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/certs.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/rpc_server.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/trust.h"
#include "dht/peer.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/testing_content.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::testing {
namespace {

using ::absl_testing::IsOk;
using ::absl_testing::StatusIs;
using dht::Contact;
using dht::ContentFile;
using dht::Peer;
using dht::SwarmFetch;
using ::testing::HasSubstr;
using Role = PeerIdentity::Role;

constexpr char kFederation[] = "north";
constexpr int64_t kPiece = 64 << 10;
constexpr absl::Duration kPatience = absl::Seconds(30);

// Who a peer is and what it may do.
struct Kind {
  Role role = Role::kWorker;
  std::string site = {};
  bool leech_only = false;
  bool cross_site = false;
};

Peer::Options OptionsOf(LocalNode local) { return {.local = std::move(local)}; }

// One process of the federation.
class Member {
 public:
  std::unique_ptr<Peer> peer;
  std::unique_ptr<RpcServer> server;
  MemoryEnv env;
  std::shared_ptr<ContentFile> file;

  ~Member() { Stop(); }
  void Stop() {
    if (peer != nullptr) peer->Stop();
    server.reset();
  }
  Contact contact() const { return peer->self(); }
};

class SwarmTest : public ::testing::TestWithParam<bool> {
 protected:
  SwarmTest()
      : test_(dht::RandomContent(11, 60 * kPiece + 777, kPiece)),
        dir_(::testing::TempDir() + "/swarm_test") {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    auto ca = MakeCertificateAuthority(kFederation, 30, clock_.Now());
    EXPECT_THAT(ca, IsOk());
    ca_ = *std::move(ca);
    auto authority = FederationTrust::Create(kFederation, ca_.certificate_pem);
    EXPECT_THAT(authority, IsOk());
    authority_ = *std::move(authority);
    EXPECT_THAT(
        WriteFileAtomically(RealEnv(), dir_ + "/ca.pem", ca_.certificate_pem),
        IsOk());
  }

  static bool tls() { return GetParam(); }

  TlsFiles FilesOf(const std::string& name) const {
    return {.certificate = absl::StrCat(dir_, "/", name, ".pem"),
            .key = absl::StrCat(dir_, "/", name, ".key"),
            .ca = dir_ + "/ca.pem"};
  }

  LocalNode Identity(const std::string& name, const Kind& kind) {
    const TlsFiles files = FilesOf(name);
    if (!tls()) {
      auto local = LoadOrMakeLocalNode(RealEnv(), files.key, kFederation,
                                       "worker/" + name, kind.site);
      EXPECT_THAT(local, IsOk());
      return *std::move(local);
    }
    CertificateSubject subject{.role = kind.role, .name = name};
    subject.site = kind.site;
    if (kind.role == Role::kServer) subject.ip_addresses = {"127.0.0.1"};
    const auto made = IssueCertificate(ca_, subject, 1, clock_.Now());
    EXPECT_THAT(made, IsOk());
    EXPECT_THAT(WriteFileAtomically(RealEnv(), files.certificate,
                                    made->certificate_pem),
                IsOk());
    EXPECT_THAT(WritePrivateFileAtomically(RealEnv(), files.key, made->key_pem),
                IsOk());
    auto local = LoadLocalNode(RealEnv(), files, clock_.Now());
    EXPECT_THAT(local, IsOk());
    return *std::move(local);
  }

  std::unique_ptr<Member> NewMember(const std::string& name, Kind kind = {},
                                    std::vector<std::string> bootstrap = {}) {
    auto member = std::make_unique<Member>();
    Peer::Options options = OptionsOf(Identity(name, kind));
    if (tls()) {
      auto credentials =
          MakeChannelCredentials(RealEnv(), FilesOf(name), clock_.Now());
      EXPECT_THAT(credentials, IsOk());
      options.credentials = *std::move(credentials);
      options.authority = authority_.get();
    }
    options.leech_only = kind.leech_only;
    options.cross_site = kind.cross_site;
    options.is_origin = kind.role == Role::kServer;
    options.coordinator = coordinator_;
    options.clock = &clock_;
    auto peer = Peer::Create(std::move(options));
    EXPECT_THAT(peer, IsOk());
    member->peer = *std::move(peer);
    std::string address;
    if (!kind.leech_only) address = Listen(name, member.get());
    member->peer->Start(address, std::move(bootstrap));
    return member;
  }

  std::string Listen(const std::string& name, Member* member) {
    RpcServer::Options rpc;
    rpc.listen = "127.0.0.1:0";
    rpc.credentials = MakeInsecureServerCredentials();
    if (tls()) {
      auto credentials =
          MakeServerCredentials(RealEnv(), FilesOf(name), clock_.Now());
      EXPECT_THAT(credentials, IsOk());
      rpc.credentials = *std::move(credentials);
    }
    auto server = RpcServer::Start(
        std::move(rpc),
        {{member->peer->service(), v1::PeerService::service_full_name()}});
    EXPECT_THAT(server, IsOk());
    member->server = *std::move(server);
    return absl::StrCat("127.0.0.1:", member->server->port());
  }

  std::unique_ptr<Member> NewOrigin() {
    auto origin = NewMember("coordinator", {.role = Role::kServer});
    coordinator_ = origin->contact().address;
    Fill(origin.get());
    return origin;
  }

  // It has the content.
  void Fill(Member* member) {
    ASSERT_THAT(dht::WriteContent(&member->env, "/model", test_), IsOk());
    auto file = ContentFile::OpenWhole(&member->env, "/model", test_.content(),
                                       test_.tree.leaves);
    ASSERT_THAT(file, IsOk());
    member->peer->board()->Add(*file, FileDigest());
    member->peer->Provide(FileDigest());
  }

  static Digest FileDigest() { return Sha256Of("the version's file"); }

  SwarmFetch::Options OptionsFor(Member* member) {
    auto file = ContentFile::Resume(&member->env, "/fetched", test_.content());
    EXPECT_THAT(file, IsOk());
    member->file = *file;
    member->peer->board()->Add(member->file, FileDigest());
    SwarmFetch::Options options;
    options.content = test_.content();
    options.file_digest = FileDigest();
    options.file = member->file;
    options.patience = kPatience;
    options.rediscover = absl::Milliseconds(200);
    // Nothing here is given out as a last resort: who would wait for one gives
    // up, and no test depends on how fast the machine is.
    options.picker.last_resort_patience = absl::Hours(1);
    return options;
  }

  void ExpectWhole(const Member& member) {
    ASSERT_TRUE(member.file->complete());
    const auto bytes =
        ReadFile(const_cast<MemoryEnv*>(&member.env), "/fetched", 1 << 30);
    ASSERT_THAT(bytes, IsOk());
    EXPECT_EQ(*bytes, std::string(test_.bytes.begin(), test_.bytes.end()));
  }

  // All at once, each from the origin and from all of `contacts`.
  void FetchAll(const Member& origin,
                const std::vector<std::unique_ptr<Member>>& workers,
                const std::vector<Contact>& contacts) {
    std::vector<std::thread> threads;
    for (const auto& worker : workers) {
      SwarmFetch::Options options = OptionsFor(worker.get());
      options.origin = origin.contact();
      options.peers = contacts;
      threads.emplace_back([member = worker.get(), options] {
        SwarmFetch fetch(member->peer.get(), options);
        EXPECT_THAT(fetch.Run(), IsOk());
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& worker : workers) ExpectWhole(*worker);
  }

  const RealClock clock_;
  const dht::TestContent test_;
  const std::string dir_;
  CertificateAndKey ca_;
  std::unique_ptr<FederationTrust> authority_;
  std::string coordinator_;
};

INSTANTIATE_TEST_SUITE_P(Transports, SwarmTest, ::testing::Bool(),
                         [](const ::testing::TestParamInfo<bool>& info) {
                           return info.param ? "MutualTls" : "Plaintext";
                         });

TEST_P(SwarmTest, OneWorker_GetsEverythingFromTheCoordinator) {
  const auto origin = NewOrigin();
  const auto worker = NewMember("w1");
  SwarmFetch::Options options = OptionsFor(worker.get());
  options.origin = origin->contact();
  SwarmFetch fetch(worker->peer.get(), options);
  ASSERT_THAT(fetch.Run(), IsOk());
  ExpectWhole(*worker);
  EXPECT_EQ(fetch.traffic().from_origin(), test_.bytes.size());
}

TEST_P(SwarmTest, EightWorkers_CostTheCoordinatorTwoCopies) {
  const auto origin = NewOrigin();
  std::vector<std::unique_ptr<Member>> workers;
  std::vector<Contact> contacts;
  for (int i = 0; i < 8; ++i) {
    workers.push_back(NewMember(absl::StrCat("w", i)));
    contacts.push_back(workers.back()->contact());
  }
  FetchAll(*origin, workers, contacts);
  EXPECT_LE(origin->peer->board()->traffic().to_peers(),
            2.1 * test_.bytes.size());
}

TEST_P(SwarmTest, VersionThatOnlyWorkersHave_IsFoundThroughTheDht) {
  const auto holder = NewMember("holder");
  Fill(holder.get());
  const auto other = NewMember("other", Kind(), {holder->contact().address});
  ASSERT_THAT(other->peer->WaitUntilJoined(kPatience), IsOk());
  // It knows the other node only.
  const auto client =
      NewMember("client", {.leech_only = true}, {other->contact().address});
  SwarmFetch fetch(client->peer.get(), OptionsFor(client.get()));
  ASSERT_THAT(fetch.Run(), IsOk());
  ExpectWhole(*client);
  EXPECT_EQ(fetch.traffic().from_peers(), test_.bytes.size());
  EXPECT_EQ(client->peer->board()->traffic().to_peers(), 0);
}

// In plaintext everybody is who they claim to be.
TEST_P(SwarmTest, AnotherNodeAtTheAddress_IsNotFetchedFrom) {
  if (!tls()) GTEST_SKIP() << "nobody shows who they are";
  const auto holder = NewMember("holder");
  Fill(holder.get());
  const auto worker = NewMember("worker");
  SwarmFetch::Options options = OptionsFor(worker.get());
  Contact impostor = holder->contact();
  impostor.id = Sha256Of("who was meant");
  options.peers = {impostor};
  options.rediscover = absl::ZeroDuration();
  options.wait_for_sources = false;
  SwarmFetch fetch(worker->peer.get(), options);
  EXPECT_THAT(fetch.Run(), StatusIs(absl::StatusCode::kUnavailable,
                                    HasSubstr("UNAUTHENTICATED")));
  EXPECT_EQ(worker->file->have().count(), 0);
}

TEST_P(SwarmTest, OtherSites_AreServedOnlyIfBothSidesSaySo) {
  if (!tls()) GTEST_SKIP() << "sites are what certificates say";
  const auto south = NewMember("south", {.site = "south"});
  Fill(south.get());
  const auto open = NewMember("open", {.site = "west", .cross_site = true});
  Fill(open.get());
  const auto run = [&](Member* member, const Member& from) {
    SwarmFetch::Options options = OptionsFor(member);
    options.peers = {from.contact()};
    options.rediscover = absl::ZeroDuration();
    options.wait_for_sources = false;
    SwarmFetch fetch(member->peer.get(), options);
    return fetch.Run();
  };
  // Of the same site: no question.
  const auto neighbour = NewMember("neighbour", {.site = "south"});
  EXPECT_THAT(run(neighbour.get(), *south), IsOk());
  // The one that fetches may not; the one that serves may not.
  const auto closed = NewMember("closed", {.site = "north"});
  EXPECT_THAT(
      run(closed.get(), *open),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("PERMISSION_DENIED")));
  const auto willing =
      NewMember("willing", {.site = "north", .cross_site = true});
  EXPECT_THAT(
      run(willing.get(), *south),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("PERMISSION_DENIED")));
  EXPECT_EQ(south->peer->board()->traffic().to_peers(), test_.bytes.size());
  EXPECT_THAT(run(willing.get(), *open), IsOk());
}

// Three sites. Workers that keep to theirs cost two copies for each, those that
// exchange across sites two in all.
TEST_P(SwarmTest, WorkersOfManySites_CostTwoCopiesIfTheyAllCross) {
  if (!tls()) GTEST_SKIP() << "sites are what certificates say";
  const auto origin = NewOrigin();
  const auto copies = [&](bool cross_site) {
    const int64_t before = origin->peer->board()->traffic().to_peers();
    std::vector<std::unique_ptr<Member>> workers;
    std::vector<Contact> contacts;
    for (int i = 0; i < 6; ++i) {
      workers.push_back(NewMember(
          absl::StrCat(cross_site ? "crossing" : "staying", i),
          {.site = absl::StrCat("site", i % 3), .cross_site = cross_site}));
      contacts.push_back(workers.back()->contact());
    }
    FetchAll(*origin, workers, contacts);
    // They leave, and their sessions end: the coordinator knows.
    for (const auto& worker : workers) worker->Stop();
    for (const Contact& gone : contacts) {
      origin->peer->board()->OnGone(gone.id);
    }
    const double given = static_cast<double>(
        origin->peer->board()->traffic().to_peers() - before);
    return given / static_cast<double>(test_.bytes.size());
  };
  const double staying = copies(false);
  EXPECT_GE(staying, 3);  // each site needs one
  EXPECT_LE(staying, 6.3);
  EXPECT_LE(copies(true), 2.1);
}

TEST_P(SwarmTest, CoordinatorThatDiesWhenOneCopyIsOut_IsNotMissed) {
  auto origin = NewOrigin();
  std::vector<std::unique_ptr<Member>> workers;
  std::vector<Contact> contacts;
  for (int i = 0; i < 4; ++i) {
    workers.push_back(NewMember(absl::StrCat("w", i)));
    contacts.push_back(workers.back()->contact());
  }
  std::vector<std::thread> threads;
  for (const auto& worker : workers) {
    SwarmFetch::Options options = OptionsFor(worker.get());
    options.origin = origin->contact();
    options.peers = contacts;
    threads.emplace_back([member = worker.get(), options] {
      SwarmFetch fetch(member->peer.get(), options);
      EXPECT_THAT(fetch.Run(), IsOk());
    });
  }
  // Until each piece is with somebody.
  const auto one_copy_is_out = [&] {
    dht::Bitmap all(test_.map().pieces());
    for (const auto& worker : workers) {
      const dht::Bitmap have = worker->file->have();
      for (uint32_t i = 0; i < have.size(); ++i) {
        if (have.Has(i)) all.Set(i);
      }
    }
    return all.full();
  };
  const absl::Time until = clock_.Now() + kPatience;
  while (!one_copy_is_out() && clock_.Now() < until) {
    std::this_thread::yield();
  }
  origin->Stop();
  for (std::thread& thread : threads) thread.join();
  for (const auto& worker : workers) ExpectWhole(*worker);
}

}  // namespace
}  // namespace koinon::testing
