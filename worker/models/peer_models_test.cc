#include "worker/models/peer_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/records/rejection.h"
#include "worker/testing/fake_origin.h"

// Workers' models over real gRPC on loopback, in plaintext, with disks in
// memory.

namespace koinon::worker {
namespace {

using dht::Rejection;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Some pieces, the last one short.
constexpr int64_t kBytes = 700'000;

std::string Bytes(uint64_t seed) {
  Random random(seed);
  std::string bytes(kBytes, '\0');
  for (char& c : bytes) c = static_cast<char>(random.NextBelow(256));
  return bytes;
}

class PeerModelsTest : public ::testing::Test {
 protected:
  PeerModels::Spec Spec(const std::string& name) {
    PeerModels::Spec spec;
    spec.worker = name;
    spec.coordinator = origin_->address();
    spec.state_dir = "/" + name;
    spec.peering.listen = "127.0.0.1:0";
    return spec;
  }
  std::unique_ptr<PeerModels> Start(const PeerModels::Spec& spec) {
    auto models = PeerModels::Start(spec, &env_, &clock_);
    EXPECT_OK(models);
    (*models)->OnWelcome(origin_->welcome());
    return *std::move(models);
  }
  static absl::StatusOr<ModelSource::Fetched> Fetch(
      PeerModels* models, const v1::OfferTask& offer) {
    return models->Fetch(offer, [] { return false; });
  }
  // The reason is counted where an operator sees it.
  static int64_t Refused(PeerModels* models, Rejection reason) {
    return models->peer()->rejections()->count(reason);
  }

  RealClock clock_;
  MemoryEnv env_;
  std::unique_ptr<FakeOrigin> origin_ =
      std::make_unique<FakeOrigin>(&env_, &clock_);
};

TEST_F(PeerModelsTest, OnlyWorker_FetchesFromTheCoordinator) {
  const std::string bytes = Bytes(1);
  const v1::OfferTask offer = origin_->Publish(0, bytes);
  PeerModels::Spec spec = Spec("w1");
  spec.peering.listen = "";
  const auto models = Start(spec);
  ASSERT_OK_AND_ASSIGN(const auto fetched, Fetch(models.get(), offer));
  EXPECT_THAT(ReadFile(&env_, fetched.model->path(), 1 << 20),
              IsOkAndHolds(bytes));
  EXPECT_EQ(fetched.traffic.from_origin(), kBytes);
  EXPECT_EQ(fetched.traffic.from_peers(), 0);
  EXPECT_EQ(models->traffic().from_origin(), kBytes);
  // Once is enough.
  ASSERT_OK_AND_ASSIGN(const auto again, Fetch(models.get(), offer));
  EXPECT_EQ(again.traffic.from_origin(), 0);
}

TEST_F(PeerModelsTest, CoordinatorGone_TheOthersServeTheVersion) {
  const std::string bytes = Bytes(2);
  v1::OfferTask offer = origin_->Publish(1, bytes);
  const auto first = Start(Spec("w1"));
  ASSERT_OK(Fetch(first.get(), offer));
  const auto second = Start(Spec("w2"));
  origin_ = nullptr;
  *offer.add_peers() = *first->contact();
  ASSERT_OK_AND_ASSIGN(const auto fetched, Fetch(second.get(), offer));
  EXPECT_THAT(ReadFile(&env_, fetched.model->path(), 1 << 20),
              IsOkAndHolds(bytes));
  EXPECT_EQ(fetched.traffic.from_peers(), kBytes);
  EXPECT_EQ(fetched.traffic.from_origin(), 0);
  EXPECT_EQ(first->traffic().to_peers(), kBytes);
}

TEST_F(PeerModelsTest, Restarted_HasTheVersionAndServesIt) {
  const std::string bytes = Bytes(3);
  v1::OfferTask offer = origin_->Publish(1, bytes);
  auto first = Start(Spec("w1"));
  ASSERT_OK(Fetch(first.get(), offer));
  first = nullptr;
  env_.CrashAndLoseUnsynced();
  first = Start(Spec("w1"));
  const auto second = Start(Spec("w2"));
  origin_ = nullptr;
  ASSERT_OK_AND_ASSIGN(const auto here, Fetch(first.get(), offer));
  EXPECT_EQ(here.traffic.from_origin() + here.traffic.from_peers(), 0);
  *offer.add_peers() = *first->contact();
  ASSERT_OK_AND_ASSIGN(const auto fetched, Fetch(second.get(), offer));
  EXPECT_EQ(fetched.traffic.from_peers(), kBytes);
}

TEST_F(PeerModelsTest, Contact_SaysWhereOthersReachIt) {
  const auto serving = Start(Spec("w1"));
  ASSERT_TRUE(serving->contact().has_value());
  EXPECT_THAT(serving->contact()->address(),
              AllOf(HasSubstr("127.0.0.1:"), ::testing::Ne("127.0.0.1:0")));
  PeerModels::Spec spec = Spec("w2");
  spec.peering.listen = "";
  spec.peering.site = "lab";
  const auto leech = Start(spec);
  ASSERT_TRUE(leech->contact().has_value());
  EXPECT_EQ(leech->contact()->address(), "");
  EXPECT_EQ(leech->contact()->site(), "lab");
  EXPECT_EQ(leech->contact()->node_id().size(), 32u);
}

TEST_F(PeerModelsTest, ForgedManifest_IsRefusedAndCounted) {
  v1::OfferTask offer = origin_->Publish(1, Bytes(4));
  const auto models = Start(Spec("w1"));
  offer.mutable_signed_manifest()->back() ^= 1;  // of the signature's envelope
  const auto refused = Fetch(models.get(), offer);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.status().message(),
              HasSubstr("the manifest of job@1 is refused"));
  EXPECT_EQ(models->traffic().from_origin(), 0);
  int64_t counted = 0;
  for (const auto& [reason, count] : models->peer()->rejections()->ToMap()) {
    counted += count;
  }
  EXPECT_EQ(counted, 1);
}

TEST_F(PeerModelsTest, RolledBackManifest_IsRefusedAndCounted) {
  const v1::OfferTask old = origin_->Publish(1, Bytes(5));
  v1::OfferTask offer = origin_->Publish(2, Bytes(6));
  offer.set_signed_manifest(old.signed_manifest());
  const auto models = Start(Spec("w1"));
  EXPECT_THAT(
      Fetch(models.get(), offer),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("(mismatch)")));
  EXPECT_EQ(Refused(models.get(), Rejection::kMismatch), 1);
}

TEST_F(PeerModelsTest, ExpiredManifest_IsRefusedAndCounted) {
  v1::OfferTask offer = origin_->Publish(1, Bytes(7));
  v1::VersionManifest manifest = origin_->manifest(1);
  manifest.set_created_ms(1);
  manifest.set_expires_ms(2);
  offer.set_signed_manifest(*dht::SignManifest(manifest, origin_->local()));
  const auto models = Start(Spec("w1"));
  EXPECT_THAT(
      Fetch(models.get(), offer),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("(expired)")));
  EXPECT_EQ(Refused(models.get(), Rejection::kExpired), 1);
}

TEST_F(PeerModelsTest, KeyOfAnotherCoordinator_IsRefusedAndCounted) {
  const v1::OfferTask offer = origin_->Publish(1, Bytes(8));
  const auto models = Start(Spec("w1"));
  v1::Welcome other = origin_->welcome();
  other.set_signing_key(SigningKey::Generate().public_key().ToBytes());
  models->OnWelcome(other);  // its own key counts from now on, and no other
  EXPECT_THAT(Fetch(models.get(), offer),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       HasSubstr("(untrusted_signer)")));
  EXPECT_EQ(Refused(models.get(), Rejection::kUntrustedSigner), 1);
  models->OnWelcome(origin_->welcome());
  EXPECT_OK(Fetch(models.get(), offer));
}

TEST_F(PeerModelsTest, OlderCoordinator_IsNamed) {
  const v1::OfferTask offer = origin_->Publish(1, Bytes(9));
  const auto models = Start(Spec("w1"));
  v1::Welcome older = origin_->welcome();
  older.clear_signing_key();
  models->OnWelcome(older);
  EXPECT_THAT(Fetch(models.get(), offer),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("upgraded first")));
}

TEST_F(PeerModelsTest, OtherFederation_IsRefused) {
  const v1::OfferTask offer = origin_->Publish(1, Bytes(10));
  PeerModels::Spec spec = Spec("w1");
  spec.peering.federation = "south";
  const auto models = Start(spec);
  EXPECT_FALSE(Fetch(models.get(), offer).ok());
  EXPECT_EQ(Refused(models.get(), Rejection::kWrongFederation), 1);
}

TEST_F(PeerModelsTest, HostileContacts_AreLeftOut) {
  v1::OfferTask offer = origin_->Publish(1, Bytes(11));
  for (int i = 0; i < 1000; ++i) {
    v1::Contact* contact = offer.add_peers();
    contact->set_node_id(std::string(i % 40, 'x'));
    contact->set_address(std::string(i, 'h'));
  }
  const auto models = Start(Spec("w1"));
  EXPECT_OK(Fetch(models.get(), offer));
}

TEST_F(PeerModelsTest, Cancelled_SaysSo) {
  const v1::OfferTask offer = origin_->Publish(1, Bytes(12));
  const auto models = Start(Spec("w1"));
  EXPECT_THAT(models->Fetch(offer, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(PeerModelsTest, PortTaken_IsNamed) {
  PeerModels::Spec spec = Spec("w1");
  spec.peering.listen = origin_->address();
  EXPECT_THAT(
      PeerModels::Start(spec, &env_, &clock_),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr(origin_->address())));
}

}  // namespace
}  // namespace koinon::worker
