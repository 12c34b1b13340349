#include "dht/store/quotas.h"

#include <optional>

#include "base/digest.h"
#include "base/status_matchers.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

const Key kAnn = Sha256Of("ann");
const Key kBob = Sha256Of("bob");

Quotas::Options Small() {
  return {.max_keys = 5,
          .max_bytes = 100,
          .max_keys_per_writer = 3,
          .max_bytes_per_writer = 60};
}

TEST(QuotasTest, Check_WithinAll_Fits) {
  Quotas quotas(Small());
  EXPECT_OK(quotas.Check(kAnn, 60));
  EXPECT_EQ(quotas.keys(), 0u);  // asked only
  quotas.Charge(kAnn, 60);
  EXPECT_EQ(quotas.keys(), 1u);
  EXPECT_EQ(quotas.bytes(), 60u);
  EXPECT_EQ(quotas.writers(), 1u);
  EXPECT_OK(quotas.Check(kBob, 40));
}

TEST(QuotasTest, Check_OneByteOrKeyOver_IsRefusedToThisWriterOnly) {
  Quotas quotas(Small());
  EXPECT_EQ(RejectionOf(quotas.Check(kAnn, 61)), Rejection::kQuota);
  for (int i = 0; i < 3; ++i) quotas.Charge(kAnn, 1);
  const absl::Status over = quotas.Check(kAnn, 1);
  EXPECT_EQ(RejectionOf(over), Rejection::kQuota);
  EXPECT_THAT(over.message(), ::testing::HasSubstr(kAnn.ToShortHex()));
  EXPECT_OK(quotas.Check(kBob, 1));
}

TEST(QuotasTest, Check_TotalIsFull_IsRefusedToAll) {
  Quotas quotas(Small());
  quotas.Charge(kAnn, 60);
  quotas.Charge(kBob, 40);
  EXPECT_EQ(RejectionOf(quotas.Check(kBob, 1)), Rejection::kQuota);
  EXPECT_EQ(RejectionOf(quotas.Check(Sha256Of("eve"), 1)), Rejection::kQuota);
  quotas.Release(kBob, 40);
  EXPECT_OK(quotas.Check(Sha256Of("eve"), 40));
  EXPECT_EQ(quotas.writers(), 1u);
}

TEST(QuotasTest, Check_AllKeysTaken_IsRefused) {
  Quotas quotas(Small());
  for (int i = 0; i < 3; ++i) quotas.Charge(kAnn, 0);
  for (int i = 0; i < 2; ++i) quotas.Charge(kBob, 0);
  EXPECT_EQ(RejectionOf(quotas.Check(kBob, 0)), Rejection::kQuota);
}

TEST(QuotasTest, MakesRoom_TotalIsFull_WhoHasMostOfWhatIsShort) {
  const Key eve = Sha256Of("eve");
  Quotas quotas(Small());
  quotas.Charge(kAnn, 60);
  EXPECT_EQ(quotas.MakesRoom(eve, 40), std::nullopt);  // it fits
  quotas.Charge(kBob, 40);
  EXPECT_EQ(quotas.MakesRoom(eve, 10), kAnn);
  EXPECT_EQ(quotas.MakesRoom(kBob, 19), kAnn);
  EXPECT_EQ(quotas.MakesRoom(kBob, 20), kBob);  // it has as much itself
  EXPECT_EQ(quotas.MakesRoom(kAnn, 1), kAnn);
  quotas.Release(kAnn, 60);
  for (int i = 0; i < 2; ++i) quotas.Charge(kBob, 0);
  for (int i = 0; i < 2; ++i) quotas.Charge(kAnn, 0);
  EXPECT_EQ(quotas.MakesRoom(eve, 10), kBob);  // of keys
  quotas.Release(kBob, 0);
  EXPECT_EQ(quotas.MakesRoom(eve, 10), std::nullopt);
}

}  // namespace
}  // namespace koinon::dht
