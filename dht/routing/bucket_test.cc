#include "dht/routing/bucket.h"

#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

Bucket::Waiting Waits(int i, bool pinging = false) {
  return {
      .contact = {Sha256Of(absl::StrCat(i)), absl::StrCat("n", i, ":1"), ""},
      .pinging = pinging};
}
bool Has(Bucket& bucket, int i) {
  return bucket.Find(Sha256Of(absl::StrCat(i))) != nullptr;
}

TEST(BucketTest, Wait_OverTheLimit_TheOldestGoes) {
  Bucket bucket;
  for (int i = 0; i < 4; ++i) ASSERT_NE(bucket.Wait(Waits(i), 3), nullptr);
  EXPECT_EQ(bucket.waiting.size(), 3u);
  EXPECT_FALSE(Has(bucket, 0));
  EXPECT_TRUE(Has(bucket, 3));
}

TEST(BucketTest, Wait_OverTheLimit_WhoIsBeingPingedStays) {
  Bucket bucket;
  bucket.Wait(Waits(0, /*pinging=*/true), 2);
  bucket.Wait(Waits(1), 2);
  ASSERT_NE(bucket.Wait(Waits(2, /*pinging=*/true), 2), nullptr);
  EXPECT_TRUE(Has(bucket, 0));
  EXPECT_FALSE(Has(bucket, 1));
  EXPECT_EQ(bucket.Wait(Waits(3), 2), nullptr);
  EXPECT_FALSE(Has(bucket, 3));
}

TEST(BucketTest, Wait_WithoutPlaces_IsRefused) {
  Bucket bucket;
  EXPECT_EQ(bucket.Wait(Waits(0), 0), nullptr);
  EXPECT_TRUE(bucket.waiting.empty());
}

TEST(BucketTest, WaitFirst_IsTheFirstToGo) {
  Bucket bucket;
  bucket.Wait(Waits(0), 3);
  bucket.WaitFirst(Waits(1));
  bucket.Wait(Waits(2), 3);
  bucket.Wait(Waits(3), 3);
  EXPECT_FALSE(Has(bucket, 1));
  EXPECT_TRUE(Has(bucket, 0));
}

TEST(BucketTest, Forget_TakesThatOneOnly) {
  Bucket bucket;
  for (int i = 0; i < 3; ++i) bucket.Wait(Waits(i), 3);
  bucket.Forget(bucket.Find(Sha256Of("1")));
  EXPECT_TRUE(Has(bucket, 0));
  EXPECT_FALSE(Has(bucket, 1));
  EXPECT_TRUE(Has(bucket, 2));
}

TEST(BucketTest, CellOf_IsTheFourBitsAfterTheOneThatParts) {
  std::string bytes(Key::kSizeBytes, '\0');
  bytes[0] = static_cast<char>(0b0010'1100);
  bytes[1] = static_cast<char>(0b1000'0000);
  const Key key = *Key::FromBytes(bytes);
  EXPECT_EQ(Bucket::CellOf(0, key), 0b0101u);
  EXPECT_EQ(Bucket::CellOf(2, key), 0b0110u);
  EXPECT_EQ(Bucket::CellOf(5, key), 0b0010u);
  EXPECT_EQ(Bucket::CellOf(8 * Key::kSizeBytes - 1, key), 0u);
}

}  // namespace
}  // namespace koinon::dht
