// How versions get about: what a coordinator tells its workers and the DHT of
// them, what it keeps, and what can be had from others once it is gone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/signing.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "dht/server.h"
#include "dht/swarm/merkle.h"
#include "dht/swarm/version_cache.h"
#include "proto/dht.grpc.pb.h"
#include "tests/integration/coordinator_fixture.h"

namespace koinon::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A condition that is still false after so long is taken for one that never
// comes true.
constexpr absl::Duration kPatience = absl::Seconds(60);
constexpr absl::Duration kPoll = absl::Milliseconds(20);

bool Eventually(const std::function<bool()>& condition) {
  const absl::Time until = absl::Now() + kPatience;
  while (!condition()) {
    if (absl::Now() > until) return false;
    absl::SleepFor(kPoll);
  }
  return true;
}

class DistributionTest : public CoordinatorFixture {
 protected:
  static constexpr size_t kParameters = 6;

  std::unique_ptr<TestWorker> JoinedWorker(const std::string& name,
                                           v1::Welcome* welcome = nullptr) {
    auto worker = NewWorker(name);
    worker->Open();
    const auto message = worker->Await(v1::CoordinatorMessage::kWelcome);
    EXPECT_THAT(message, IsOk());
    if (message.ok() && welcome != nullptr) *welcome = message->welcome();
    return worker;
  }
  static std::vector<float> Filled(float value) {
    return std::vector<float>(kParameters, value);
  }
  // Runs `rounds` rounds of a job that one worker does alone.
  void RunRounds(TestWorker* worker, int rounds) {
    for (int i = 0; i < rounds; ++i) {
      ASSERT_OK_AND_ASSIGN(const auto reply, worker->TrainOnce(Filled(1), 10));
      ASSERT_TRUE(reply.accepted()) << reply.reason();
    }
  }
  std::vector<int64_t> Versions(const std::string& job) const {
    grpc::ClientContext context;
    v1::ListModelsRequest request;
    request.set_job(job);
    v1::ListModelsReply reply;
    EXPECT_TRUE(client().ListModels(&context, request, &reply).ok());
    std::vector<int64_t> versions;
    for (const auto& model : reply.models()) {
      versions.push_back(model.version());
    }
    return versions;
  }
  grpc::Status Pin(const std::string& job, int64_t version, bool pinned,
                   v1::ModelManifest* reply) const {
    grpc::ClientContext context;
    v1::PinModelRequest request;
    request.set_job(job);
    request.set_version(version);
    request.set_pinned(pinned);
    return client().PinModel(&context, request, reply);
  }
  v1::ModelManifest ManifestOf(const std::string& job, int64_t version) const {
    TestWorker puller(NewChannel(), "puller");
    v1::ModelManifest manifest;
    EXPECT_THAT(puller.Pull(job, version, 0, &manifest), IsOk());
    return manifest;
  }
  static dht::RecordTrust TrustOf(const v1::Welcome& welcome) {
    dht::RecordTrust trust;
    trust.federation = "koinon";
    const auto key = PublicKey::FromBytes(welcome.signing_key());
    EXPECT_THAT(key, IsOk());
    if (key.ok()) trust.pinned.insert(*key);
    return trust;
  }

  // A stand-alone node that joins by the coordinator, or by another node.
  std::unique_ptr<dht::Server> NewNode(const std::string& name,
                                       int bootstrap_port) {
    dht::Server::Spec spec;
    spec.listen = "127.0.0.1:0";
    spec.insecure = true;
    spec.state_dir = absl::StrCat(spec_.state_dir, "-", name);
    std::filesystem::remove_all(spec.state_dir);
    spec.bootstrap = {absl::StrCat("127.0.0.1:", bootstrap_port)};
    dht::Server::Options options;
    options.clock = &clock_;
    auto node = dht::Server::Start(spec, std::move(options));
    EXPECT_THAT(node, IsOk());
    if (!node.ok()) return nullptr;
    EXPECT_THAT((*node)->peer()->WaitUntilJoined(kPatience), IsOk());
    return *std::move(node);
  }
  // The newest version of the job that the DHT knows of, as `peer` sees it; -1
  // if none.
  static int64_t HeadVersion(dht::Peer* peer, const std::string& job) {
    dht::Node::GetOptions options;
    options.newest = true;
    const auto got = peer->GetNow(
        dht::MutableKey("koinon", "server", dht::HeadName(job)), options);
    v1::HeadValue head;
    if (!got.ok() || !head.ParseFromString(got->opened.value)) return -1;
    return head.version();
  }

  const RealClock clock_;
};

TEST_F(DistributionTest, ModelsThatNobodyCouldFetch_AreNotPromised) {
  coordinator::Server::Spec spec = spec_;
  spec.max_model_bytes = dht::kMaxContentBytes;
  EXPECT_OK(spec.Validate());
  ++spec.max_model_bytes;
  EXPECT_THAT(spec.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("--max-model-bytes")));
}

// A node that others refuse would be refused for ever; who starts it is told.
TEST_F(DistributionTest, AddressThatOthersRefuse_IsNoAddressOfOnesOwn) {
  for (const char* address : {"::1:7172", "[fe80::1%eth0]:7172", "0.0.0.0:7172",
                              "[::]:7172", "host:0"}) {
    coordinator::Server::Spec spec = spec_;
    EXPECT_OK(spec.Validate());
    spec.peer_address = address;
    EXPECT_THAT(spec.Validate(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("--peer-address ", address))));
    dht::Server::Spec node;
    node.insecure = true;
    node.state_dir = spec_.state_dir;
    EXPECT_OK(node.Validate());
    node.address = address;
    EXPECT_THAT(node.Validate(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("--address ", address))));
  }
  dht::Server::Spec node;
  node.insecure = true;
  node.state_dir = spec_.state_dir;
  node.listen = "::1:7172";
  EXPECT_THAT(node.Validate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                        HasSubstr("--listen ::1:7172")));
}

TEST_F(DistributionTest, Offer_CarriesAManifestThatVerifies_AndNoOtherDoes) {
  Start();
  v1::Welcome welcome;
  auto worker = JoinedWorker("a", &welcome);
  EXPECT_EQ(welcome.protocol().minor(), 1);
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(const auto message,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  const v1::OfferTask& offer = message.offer_task();
  const dht::RecordTrust trust = TrustOf(welcome);
  ASSERT_OK_AND_ASSIGN(
      const v1::VersionManifest manifest,
      dht::OpenManifest(offer.signed_manifest(), trust, absl::Now()));
  EXPECT_OK(dht::CheckManifestIs(manifest, "job", offer.base_version(),
                                 offer.base_digest()));
  EXPECT_EQ(manifest.layout_hash(), offer.layout_hash());
  EXPECT_EQ(manifest.job_submitted_ms(), offer.job_submitted_ms());
  EXPECT_FALSE(manifest.provenance().has_loss());
  EXPECT_EQ(dht::RejectionOf(
                dht::CheckManifestIs(manifest, "job", 1, offer.base_digest())),
            dht::Rejection::kMismatch);
  // A month later, under another key, and with any one bit changed.
  EXPECT_EQ(
      dht::RejectionOf(dht::OpenManifest(offer.signed_manifest(), trust,
                                         absl::Now() + absl::Hours(24 * 31))
                           .status()),
      dht::Rejection::kExpired);
  dht::RecordTrust other = trust;
  other.pinned = {SigningKey::Generate().public_key()};
  EXPECT_EQ(dht::RejectionOf(
                dht::OpenManifest(offer.signed_manifest(), other, absl::Now())
                    .status()),
            dht::Rejection::kUntrustedSigner);
  for (size_t i = 0; i < offer.signed_manifest().size(); ++i) {
    std::string tampered = offer.signed_manifest();
    tampered[i] ^= 1;
    EXPECT_FALSE(dht::OpenManifest(tampered, trust, absl::Now()).ok())
        << "byte " << i;
  }
}

TEST_F(DistributionTest, PublishedVersion_SaysHowItCameToBe) {
  Start();
  v1::Welcome welcome;
  auto worker = JoinedWorker("a", &welcome);
  ASSERT_OK(Submit(SmallJob("job", 2, 1)));
  RunRounds(worker.get(), 1);
  ASSERT_OK_AND_ASSIGN(const auto message,
                       worker->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK_AND_ASSIGN(const v1::VersionManifest manifest,
                       dht::OpenManifest(message.offer_task().signed_manifest(),
                                         TrustOf(welcome), absl::Now()));
  EXPECT_EQ(manifest.version(), 1);
  EXPECT_EQ(manifest.parent_digest(), ManifestOf("job", 0).digest());
  EXPECT_EQ(manifest.provenance().participants(), 1);
  EXPECT_EQ(manifest.provenance().examples(), 10);
  EXPECT_EQ(manifest.provenance().loss(), 1);  // as TestWorker says
  EXPECT_FALSE(manifest.provenance().has_accuracy());
  EXPECT_FALSE(manifest.provenance().has_privacy());
}

TEST_F(DistributionTest, Restart_KeepsTheKeyAndTheManifests) {
  Start();
  v1::Welcome before, after;
  auto worker = JoinedWorker("a", &before);
  ASSERT_OK(Submit(SmallJob("job", 2, 1)));
  RunRounds(worker.get(), 1);
  ASSERT_TRUE(Eventually([&] { return Versions("job").size() == 2; }));
  const std::string signed_before = ManifestOf("job", 1).signed_manifest();
  EXPECT_FALSE(signed_before.empty());
  worker.reset();
  Stop();
  Start();
  worker = JoinedWorker("a", &after);
  EXPECT_EQ(after.signing_key(), before.signing_key());
  EXPECT_EQ(after.peer().node_id(), before.peer().node_id());
  EXPECT_EQ(ManifestOf("job", 1).signed_manifest(), signed_before);
}

TEST_F(DistributionTest, LostKey_VersionsAreSignedAnew) {
  Start();
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 2, 1)));
  RunRounds(worker.get(), 1);
  ASSERT_TRUE(Eventually([&] { return Versions("job").size() == 2; }));
  worker.reset();
  Stop();
  std::filesystem::remove(spec_.state_dir + "/node.key");
  Start();
  v1::Welcome welcome;
  worker = JoinedWorker("a", &welcome);
  for (const int64_t version : {0, 1}) {
    EXPECT_OK(dht::OpenManifest(ManifestOf("job", version).signed_manifest(),
                                TrustOf(welcome), absl::Now()));
  }
}

TEST_F(DistributionTest, Retention_NewestEveryFourthAndPinnedStay) {
  spec_.keep_versions = 2;
  spec_.keep_every = 4;
  Start();
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 7, 1)));
  RunRounds(worker.get(), 1);
  ASSERT_TRUE(Eventually([&] { return Versions("job").size() == 2; }));
  v1::ModelManifest pinned;
  ASSERT_TRUE(Pin("job", 1, true, &pinned).ok());
  EXPECT_TRUE(pinned.pinned());
  EXPECT_EQ(pinned.version(), 1);
  EXPECT_THAT(pinned.chunk_digests(), IsEmpty());
  EXPECT_EQ(Pin("job", 9, true, &pinned).error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Pin("nobody", 1, true, &pinned).error_code(),
            grpc::StatusCode::NOT_FOUND);
  RunRounds(worker.get(), 2);
  ASSERT_TRUE(Eventually([&] { return Versions("job").back() == 3; }));
  EXPECT_THAT(Versions("job"), ElementsAre(0, 1, 2, 3));
  worker.reset();
  // A pin is durable.
  Stop();
  Start();
  worker = JoinedWorker("a");
  RunRounds(worker.get(), 4);
  ASSERT_OK(AwaitEnd("job"));
  EXPECT_THAT(Versions("job"), ElementsAre(0, 1, 4, 6, 7));
  const std::string models = spec_.state_dir + "/models/job/";
  EXPECT_TRUE(std::filesystem::exists(models + "1.leaves"));
  EXPECT_FALSE(std::filesystem::exists(models + "2.leaves"));
  EXPECT_FALSE(std::filesystem::exists(models + "2.safetensors"));
  // Once it is not pinned any more, the policy has its way.
  ASSERT_TRUE(Pin("job", 1, false, &pinned).ok());
  EXPECT_FALSE(pinned.pinned());
  EXPECT_THAT(Versions("job"), ElementsAre(0, 4, 6, 7));
}

TEST_F(DistributionTest, Offers_NameOthersThatCanBeFetchedFrom) {
  Start();
  const auto join = [&](const std::string& name, const std::string& address) {
    auto worker = NewWorker(name);
    v1::Contact* peer = worker->hello().mutable_peer();
    peer->set_node_id(Sha256Of(name).ToBytes());
    peer->set_address(address);
    worker->Open();
    EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome), IsOk());
    return worker;
  };
  auto a = join("a", "127.0.0.1:7001");
  auto b = join("b", "127.0.0.1:7002");
  auto leech = join("c", "");
  auto old = JoinedWorker("d");  // of before there were peers
  ASSERT_OK(Submit(SmallJob("job", 1, 4)));
  const auto named = [](TestWorker* worker) {
    std::vector<std::string> addresses;
    const auto offer = worker->Await(v1::CoordinatorMessage::kOfferTask);
    EXPECT_THAT(offer, IsOk());
    if (!offer.ok()) return addresses;
    for (const auto& peer : offer->offer_task().peers()) {
      addresses.push_back(peer.address());
    }
    return addresses;
  };
  EXPECT_THAT(named(a.get()), ElementsAre("127.0.0.1:7002"));
  EXPECT_THAT(named(b.get()), ElementsAre("127.0.0.1:7001"));
  EXPECT_THAT(named(leech.get()), ::testing::UnorderedElementsAre(
                                      "127.0.0.1:7001", "127.0.0.1:7002"));
  EXPECT_THAT(named(old.get()), IsEmpty());
}

TEST_F(DistributionTest, MalformedPeer_IsRefused) {
  Start();
  auto worker = NewWorker("a");
  worker->hello().mutable_peer()->set_node_id("short");
  worker->Open();
  EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(DistributionTest, Report_AddsUpWhatMembersSayOfFetching) {
  Start();
  auto a = JoinedWorker("a");
  auto b = JoinedWorker("b");
  ASSERT_OK(Submit(SmallJob("job", 1, 2)));
  const auto train = [](TestWorker* worker, int64_t from_peers) {
    const auto offer = worker->Await(v1::CoordinatorMessage::kOfferTask);
    ASSERT_THAT(offer, IsOk());
    v1::WorkerMessage message;
    v1::TaskProgress* progress = message.mutable_task_progress();
    *progress->mutable_task() = offer->offer_task().task();
    progress->mutable_fetched()->set_from_peers(from_peers);
    progress->mutable_fetched()->set_from_origin(100);
    progress->mutable_fetched()->set_wasted(-7);  // no such thing
    worker->Send(message);
    worker->Send(message);  // said twice, counted once
    const v1::UpdateHeader header =
        worker->HeaderFor(offer->offer_task(), Filled(1), 10);
    worker->Announce(header);
    const auto grant = worker->Await(v1::CoordinatorMessage::kGrantUpload);
    ASSERT_THAT(grant, IsOk());
    EXPECT_THAT(
        worker->Push(header, TestWorker::BytesOf(Filled(1)), 0, 1 << 20),
        IsOk());
  };
  train(a.get(), 1000);
  train(b.get(), 30);
  ASSERT_OK(AwaitEnd("job"));
  const auto rounds = Rounds("job");
  ASSERT_THAT(rounds, SizeIs(1));
  EXPECT_EQ(rounds[0].distribution().from_peers(), 1030);
  EXPECT_EQ(rounds[0].distribution().from_origin(), 200);
  EXPECT_EQ(rounds[0].distribution().wasted(), 0);
}

TEST_F(DistributionTest, PublishedVersions_AreKnownToTheDht) {
  Start();
  auto node = NewNode("node-1", port());
  auto other = NewNode("node-2", port());
  ASSERT_NE(node, nullptr);
  ASSERT_NE(other, nullptr);
  auto worker = JoinedWorker("a");
  ASSERT_OK(Submit(SmallJob("job", 2, 1)));
  RunRounds(worker.get(), 2);
  ASSERT_OK(AwaitEnd("job"));
  for (dht::Server* seen_from : {node.get(), other.get()}) {
    dht::Peer* const peer = seen_from->peer();
    ASSERT_TRUE(Eventually([&] { return HeadVersion(peer, "job") == 2; }));
    const v1::ModelManifest manifest = ManifestOf("job", 1);
    const dht::Key name =
        dht::MutableKey("koinon", "server", dht::VersionName("job", 1));
    // The head goes first; older versions follow.
    ASSERT_TRUE(Eventually([&] { return peer->GetNow(name).ok(); }));
    ASSERT_OK_AND_ASSIGN(const auto version, peer->GetNow(name));
    v1::VersionValue value;
    ASSERT_TRUE(value.ParseFromString(version.opened.value));
    ASSERT_OK_AND_ASSIGN(const auto key, dht::Key::FromBytes(value.manifest()));
    ASSERT_OK_AND_ASSIGN(const auto record, peer->GetNow(key));
    EXPECT_EQ(record.opened.value, manifest.signed_manifest());
    ASSERT_OK_AND_ASSIGN(const Digest digest,
                         Digest::FromBytes(manifest.digest()));
    ASSERT_TRUE(Eventually([&] {
      const auto found = peer->FindProvidersNow(digest, 20);
      return found.ok() && !found->empty();
    }));
    ASSERT_OK_AND_ASSIGN(const auto providers,
                         peer->FindProvidersNow(digest, 20));
    ASSERT_THAT(providers, SizeIs(1));
    EXPECT_EQ(providers[0].address, absl::StrCat("127.0.0.1:", port()));
  }
}

// A node with a cache of versions is what a worker is to others.
class RecoveryTest : public DistributionTest {
 protected:
  void TearDown() override {
    cache_.reset();
    node_.reset();
    DistributionTest::TearDown();
  }
  // Runs two rounds of a job, and has a worker keep its last version.
  void RunAndLoseTheCoordinator(const v1::JobSpec& spec) {
    Start();
    node_ = NewNode("holder", port());
    ASSERT_NE(node_, nullptr);
    v1::Welcome welcome;
    auto worker = JoinedWorker("a", &welcome);
    ASSERT_OK(Submit(spec));
    RunRounds(worker.get(), 2);
    ASSERT_TRUE(Eventually(
        [&] { return HeadVersion(node_->peer(), spec.name()) == 2; }));
    ASSERT_OK_AND_ASSIGN(before_, Get(spec.name()));
    manifest_ = ManifestOf(spec.name(), 2);
    values_ = Values(spec.name(), 2);
    ASSERT_OK_AND_ASSIGN(key_, PublicKey::FromBytes(welcome.signing_key()));
    ASSERT_OK_AND_ASSIGN(
        key_file_, ReadFile(RealEnv(), spec_.state_dir + "/node.key", 1 << 16));
    ASSERT_OK_AND_ASSIGN(
        cache_, dht::VersionCache::Open(RealEnv(), spec_.state_dir + "-cache",
                                        {}, node_->peer()));
    dht::VersionCache::Wanted wanted;
    wanted.signed_manifest = manifest_.signed_manifest();
    ASSERT_OK_AND_ASSIGN(wanted.manifest,
                         dht::OpenManifest(wanted.signed_manifest,
                                           TrustOf(welcome), absl::Now()));
    ASSERT_OK_AND_ASSIGN(wanted.origin, dht::ContactFromProto(welcome.peer()));
    ASSERT_OK_AND_ASSIGN(const auto fetched,
                         cache_->Fetch(wanted, [] { return false; }));
    EXPECT_EQ(fetched.traffic.from_origin(), manifest_.size_bytes());
    worker.reset();
    Stop();
    std::filesystem::remove_all(spec_.state_dir);
    spec_.bootstrap = {absl::StrCat("127.0.0.1:", node_->port())};
    spec_.recover = {spec.name()};
  }
  absl::Status TryStart() const {
    coordinator::Server::Options options;
    options.clock = &clock_;
    options.recovery_patience = absl::Seconds(1);
    return coordinator::Server::Start(spec_, std::move(options)).status();
  }

  void Run(int rounds) {
    auto worker = JoinedWorker("a");
    RunRounds(worker.get(), rounds);
  }
  int64_t Head() { return HeadVersion(node_->peer(), "job"); }
  static v1::NodeStatus StatusOf(int port) {
    const auto stub = v1::PeerService::NewStub(grpc::CreateChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::NodeStatus status;
    EXPECT_TRUE(
        stub->GetNodeStatus(&context, v1::NodeStatusRequest(), &status).ok());
    return status;
  }
  // What it stores before it has joined is stored nowhere else for a while.
  void StartAndJoin() {
    ASSERT_NO_FATAL_FAILURE(Start());
    ASSERT_TRUE(Eventually([&] { return StatusOf(port()).nodes() > 0; }));
  }
  // Ends with the state that the coordinator had three versions before.
  void RunAndPutAnOlderCopyBack() {
    const std::string backup = spec_.state_dir + "-backup";
    const auto copy = [](const std::string& from, const std::string& to) {
      std::filesystem::remove_all(to);
      std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
    };
    Start();
    node_ = NewNode("holder", port());
    ASSERT_NE(node_, nullptr);
    spec_.bootstrap = {absl::StrCat("127.0.0.1:", node_->port())};
    ASSERT_OK(Submit(SmallJob("job", 6, 1)));
    Run(1);
    ASSERT_TRUE(Eventually([&] { return Head() == 1; }));
    Stop();
    copy(spec_.state_dir, backup);
    ASSERT_NO_FATAL_FAILURE(StartAndJoin());
    Run(3);
    ASSERT_TRUE(Eventually([&] { return Head() == 4; }));
    manifest_ = ManifestOf("job", 2);
    Stop();
    copy(backup, spec_.state_dir);
    std::filesystem::remove_all(backup);
  }

  std::unique_ptr<dht::Server> node_;
  std::unique_ptr<dht::VersionCache> cache_;
  v1::JobStatus before_;
  v1::ModelManifest manifest_;
  std::vector<float> values_;
  PublicKey key_;         // the lost coordinator's
  std::string key_file_;  // likewise
};

TEST_F(RecoveryTest, LostState_TheJobGoesOnFromItsLastVersion) {
  ASSERT_NO_FATAL_FAILURE(RunAndLoseTheCoordinator(SmallJob("job", 3, 1)));
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus after, Get("job"));
  EXPECT_EQ(after.version(), 2);
  EXPECT_EQ(after.round(), 3);
  EXPECT_EQ(after.submitted_ms(), before_.submitted_ms());
  EXPECT_EQ(after.spec().SerializeAsString(),
            before_.spec().SerializeAsString());
  EXPECT_EQ(Values("job", 2), values_);
  // It is this coordinator's now: its workers believe it.
  v1::Welcome welcome;
  auto worker = JoinedWorker("a", &welcome);
  EXPECT_OK(dht::OpenManifest(ManifestOf("job", 2).signed_manifest(),
                              TrustOf(welcome), absl::Now()));
  RunRounds(worker.get(), 1);
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
  EXPECT_EQ(end.version(), 3);
  EXPECT_THAT(Versions("job"), ElementsAre(2, 3));
  // Once is enough.
  worker.reset();
  Stop();
  EXPECT_THAT(TryStart(), StatusIs(absl::StatusCode::kAlreadyExists,
                                   HasSubstr("--recover job")));
}

// The nodes hold records of versions that the copy does not know.
TEST_F(RecoveryTest, StateRestoredFromABackup_WhatLivesCounts) {
  ASSERT_NO_FATAL_FAILURE(RunAndPutAnOlderCopyBack());
  ASSERT_TRUE(std::filesystem::remove(spec_.state_dir + "/journal.db-mark"));
  ASSERT_NO_FATAL_FAILURE(StartAndJoin());
  Run(1);
  EXPECT_TRUE(Eventually([&] { return Head() == 2; }));
  const std::string living = ManifestOf("job", 2).signed_manifest();
  EXPECT_NE(living, manifest_.signed_manifest());
  dht::Node::GetOptions options;
  options.newest = true;
  ASSERT_OK_AND_ASSIGN(
      const auto named,
      node_->peer()->GetNow(
          dht::MutableKey("koinon", "server", dht::VersionName("job", 2)),
          options));
  v1::VersionValue value;
  ASSERT_TRUE(value.ParseFromString(named.opened.value));
  EXPECT_EQ(value.manifest(), dht::ImmutableKey(living).ToBytes());
}

// That the copy shall live was said for good, not for one start.
TEST_F(RecoveryTest, StateRestoredAndItsFirstStartFails_WhatLivesCounts) {
  ASSERT_NO_FATAL_FAILURE(RunAndPutAnOlderCopyBack());
  const std::string mark = spec_.state_dir + "/journal.db-mark";
  ASSERT_TRUE(std::filesystem::remove(mark));
  spec_.listen = absl::StrCat("127.0.0.1:", node_->port());  // which is taken
  EXPECT_THAT(TryStart(), StatusIs(absl::StatusCode::kUnavailable));
  EXPECT_TRUE(std::filesystem::exists(mark));
  spec_.listen = "127.0.0.1:0";
  ASSERT_NO_FATAL_FAILURE(StartAndJoin());
  EXPECT_TRUE(Eventually([&] { return Head() == 1; }));
  Run(1);
  EXPECT_TRUE(Eventually([&] { return Head() == 2; }));
  EXPECT_NE(ManifestOf("job", 2).signed_manifest(),
            manifest_.signed_manifest());
}

// As a snapshot that starts by itself, while what is later lives.
TEST_F(RecoveryTest, CopyWithItsMark_DoesNotTakeTheHead) {
  ASSERT_NO_FATAL_FAILURE(RunAndPutAnOlderCopyBack());
  const auto refused = [&] {
    const v1::NodeStatus status = StatusOf(node_->port());
    int64_t count = 0;
    for (const char* why : {"refused_rolled_back", "refused_equivocation"}) {
      const auto it = status.counters().find(why);
      if (it != status.counters().end()) count += it->second;
    }
    return count;
  };
  const int64_t before = refused();
  ASSERT_NO_FATAL_FAILURE(StartAndJoin());
  Run(1);
  // It has tried again.
  EXPECT_TRUE(Eventually([&] { return refused() >= before + 2; }));
  EXPECT_EQ(Head(), 4);
  EXPECT_NE(ManifestOf("job", 2).signed_manifest(),
            manifest_.signed_manifest());
}

// Without an authority anybody can sign a head of any job.
TEST_F(RecoveryTest, HeadsOfSeveralSigners_TheOneThatIsMeantIsRecovered) {
  ASSERT_NO_FATAL_FAILURE(RunAndLoseTheCoordinator(SmallJob("job", 3, 1)));
  const LocalNode stranger = dht::PlainNode('x', "koinon", "server");
  const auto other = NewNode("other", node_->port());
  ASSERT_NE(other, nullptr);
  other->peer()->AddPinned(stranger.key.public_key());
  v1::MutableRecord record;
  record.set_name(dht::HeadName("job"));
  record.set_epoch(1);  // the holder keeps the true one
  record.set_expires_ms(absl::ToUnixMillis(absl::Now() + absl::Hours(1)));
  v1::HeadValue head;
  head.set_version(9);
  head.set_manifest(Sha256Of("manifest").ToBytes());
  head.set_job_spec(Sha256Of("spec").ToBytes());
  record.set_value(head.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const v1::Record foreign,
                       dht::SignRecord(record, stranger));
  const dht::Key key =
      dht::MutableKey("koinon", "server", dht::HeadName("job"));
  dht::Node::GetOptions newest;
  newest.newest = true;
  ASSERT_TRUE(Eventually([&] {
    other->peer()->PutNow(key, foreign).IgnoreError();  // one of two keeps it
    return absl::IsFailedPrecondition(
        node_->peer()->GetNow(key, newest).status());
  }));
  EXPECT_THAT(
      TryStart(),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("--recover job"),
                     HasSubstr("--recover-signer KEY"), HasSubstr(key_.ToHex()),
                     HasSubstr(stranger.key.public_key().ToHex()))));
  spec_.recover_signer = stranger.key.public_key().ToHex();
  EXPECT_THAT(TryStart(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no manifest")));
  spec_.recover_signer = "none";
  EXPECT_THAT(TryStart(), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("--recover-signer")));
  // It need not be said where the coordinator's own key is left.
  const std::string own_key = spec_.state_dir + "/node.key";
  spec_.recover_signer.clear();
  ASSERT_OK(WritePrivateFileAtomically(RealEnv(), own_key, key_file_));
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus after, Get("job"));
  EXPECT_EQ(after.version(), 2);
  Stop();
  // Without it, it has to be.
  std::filesystem::remove_all(spec_.state_dir);
  spec_.recover_signer = key_.ToHex();
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus again, Get("job"));
  EXPECT_EQ(again.version(), 2);
}

TEST_F(RecoveryTest, LastRoundDone_TheJobEnds) {
  ASSERT_NO_FATAL_FAILURE(RunAndLoseTheCoordinator(SmallJob("job", 2, 1)));
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus end, AwaitEnd("job"));
  EXPECT_EQ(end.state(), v1::SUCCEEDED) << end.reason();
  EXPECT_EQ(end.version(), 2);
}

TEST_F(RecoveryTest, LostOptimizerState_TheJobSaysSoAndItsVersionIsOfUse) {
  v1::JobSpec spec = SmallJob("job", 3, 1);
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  ASSERT_NO_FATAL_FAILURE(RunAndLoseTheCoordinator(spec));
  Start();
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Get("job"));
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_THAT(status.reason(), HasSubstr("second_moment"));
  EXPECT_THAT(status.reason(), HasSubstr("initial_model: \"job@2\""));
  v1::JobSpec next = SmallJob("next", 1, 1);
  next.set_initial_model("job@2");
  ASSERT_OK(Submit(next));
  ASSERT_TRUE(Eventually([&] { return Versions("next").size() == 1; }));
  EXPECT_EQ(Values("next", 0), values_);
}

TEST_F(RecoveryTest, WhatCannotBeRecovered_IsSaidByName) {
  ASSERT_NO_FATAL_FAILURE(RunAndLoseTheCoordinator(SmallJob("job", 3, 1)));
  spec_.recover = {"other"};
  EXPECT_THAT(TryStart(), StatusIs(absl::StatusCode::kNotFound,
                                   HasSubstr("--recover other: no head")));
  // Its head is known, and nobody has it any more.
  spec_.recover = {"job"};
  cache_.reset();
  ASSERT_OK_AND_ASSIGN(const Digest digest,
                       Digest::FromBytes(manifest_.digest()));
  node_->peer()->StopProviding(digest);
  const auto root_of = [&] { return node_->peer()->board()->roots(); };
  for (const Digest& root : root_of()) node_->peer()->board()->Remove(root);
  const absl::Status nobody = TryStart();
  EXPECT_FALSE(nobody.ok());
  EXPECT_THAT(std::string(nobody.message()), HasSubstr("--recover job"));
  spec_.bootstrap.clear();
  EXPECT_THAT(TryStart(), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("--bootstrap")));
}

}  // namespace
}  // namespace koinon::testing
