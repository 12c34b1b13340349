// Whom records count for, where an authority says who has signed them.

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/local_node.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/key.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "dht/store/record_store.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

constexpr int kShare = 4;

struct Item {
  Key key;
  v1::Record record;
};

Item Junk(int i) {
  const std::string value = absl::StrCat("junk ", i);
  return {ImmutableKey(value), ImmutableRecord(value)};
}

class RecordWritersTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(federation_.trust()); }

  void Reopen(RecordTrust trust) {
    store_.reset();
    ASSERT_OK_AND_ASSIGN(
        store_, RecordStore::Open(&env_, "/dht", options_, std::move(trust),
                                  VectorTime()));
  }
  Item Head(const std::string& job) const {
    v1::MutableRecord record = VectorRecord();
    record.set_name(HeadName(job));
    return {MutableKey("north", "server", record.name()),
            *SignRecord(record, server_)};
  }
  Item Manifest(const std::string& job) const {
    v1::VersionManifest manifest = VectorManifest();
    manifest.set_job(job);
    const std::string bytes = *SignManifest(manifest, server_);
    return {ImmutableKey(bytes), ImmutableRecord(bytes)};
  }
  // By the writer's channel, a second after what was put before.
  absl::Status Put(const Item& item, const Key& writer) {
    now_ += absl::Seconds(1);
    return store_->Put(item.key, item.record, writer, now_);
  }
  void PutJunk(int records, const Key& writer) {
    for (int i = 0; i < records; ++i) ASSERT_OK(Put(Junk(i), writer));
  }
  bool IsThere(const Item& item) const {
    return store_->Get(item.key, now_).has_value();
  }

  MemoryEnv disk_;
  FaultInjectingEnv env_{&disk_};
  RecordStore::Options options_ = {.max_keys_per_writer = kShare};
  absl::Time now_ = VectorTime();
  const TestFederation federation_{"north", VectorTime()};
  const LocalNode server_ = federation_.Server();
  const Key mallory_ = Sha256Of("mallory");
  std::unique_ptr<RecordStore> store_;
};

TEST_F(RecordWritersTest, BroughtByAnother_IsNotPushedOutByWhatThatStores) {
  const Item head = Head("digits");
  const Item manifest = Manifest("digits");
  ASSERT_OK(Put(head, mallory_));
  ASSERT_OK(Put(manifest, mallory_));
  PutJunk(2 * kShare, mallory_);
  EXPECT_TRUE(IsThere(head));
  EXPECT_TRUE(IsThere(manifest));
  EXPECT_EQ(store_->totals().records, kShare + 2u);
}

TEST_F(RecordWritersTest, BroughtByAnother_CountsForItsSignerAfterARestart) {
  const Item head = Head("digits");
  const Item manifest = Manifest("digits");
  ASSERT_OK(Put(head, mallory_));
  ASSERT_OK(Put(manifest, mallory_));
  Reopen(federation_.trust());
  PutJunk(2 * kShare, mallory_);
  EXPECT_TRUE(IsThere(head));
  EXPECT_TRUE(IsThere(manifest));
}

// As a version before this one has left it.
TEST_F(RecordWritersTest, CountedForWhoBroughtIt_AtTheNextStart_ForItsSigner) {
  const Item manifest = Manifest("digits");
  // What nobody can say the signer of: without its authority.
  Reopen({.federation = "north"});
  ASSERT_OK(Put(manifest, mallory_));
  Reopen(federation_.trust());
  PutJunk(2 * kShare, mallory_);
  EXPECT_TRUE(IsThere(manifest));
}

TEST_F(RecordWritersTest, Plaintext_CountsForWhoBroughtIt) {
  Reopen({.federation = "north"});
  const Item manifest = Manifest("digits");
  ASSERT_OK(Put(manifest, mallory_));
  PutJunk(kShare, mallory_);
  EXPECT_FALSE(IsThere(manifest));
}

TEST_F(RecordWritersTest, NoManifestThatVerifies_CountsForWhoBroughtIt) {
  Item forged = Manifest("digits");
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(forged.record.immutable()));
  (*envelope.mutable_signature())[0] ^= 1;
  const std::string bytes = envelope.SerializeAsString();
  forged = {ImmutableKey(bytes), ImmutableRecord(bytes)};
  ASSERT_OK(Put(forged, mallory_));
  PutJunk(kShare, mallory_);
  EXPECT_FALSE(IsThere(forged));
}

// Nobody uses up another's share, nor pushes out what that has stored itself.
TEST_F(RecordWritersTest, BroughtMoreThanItsSignersShare_TheSignersOwnStays) {
  const Item own = Head("own");
  ASSERT_OK(Put(own, server_.id));
  for (int i = 0; i < 2 * kShare; ++i) {
    ASSERT_OK(Put(Head(absl::StrCat("old-", i)), mallory_));
  }
  EXPECT_EQ(store_->totals().records, 2u * kShare);
  Reopen(federation_.trust());
  EXPECT_TRUE(IsThere(own));
  for (int i = 0; i < kShare - 1; ++i) {
    ASSERT_OK(Put(Head(absl::StrCat("new-", i)), server_.id));
  }
  EXPECT_TRUE(IsThere(own));
  for (int i = 0; i < kShare - 1; ++i) {
    EXPECT_TRUE(IsThere(Head(absl::StrCat("new-", i)))) << i;
  }
}

// It was over its share when another brought it.
TEST_F(RecordWritersTest, StoredByItsSigner_CountsForThatFromThenOn) {
  for (int i = 0; i < kShare; ++i) {
    ASSERT_OK(Put(Head(absl::StrCat("old-", i)), server_.id));
  }
  const Item head = Head("digits");
  ASSERT_OK(Put(head, mallory_));
  ASSERT_OK(Put(head, server_.id));
  EXPECT_FALSE(IsThere(Head("old-0")));
  PutJunk(2 * kShare, mallory_);
  EXPECT_TRUE(IsThere(head));
}

TEST_F(RecordWritersTest, FullDisk_WhatItsSignerStoresAgainLivesOn) {
  for (int i = 0; i < kShare; ++i) {
    ASSERT_OK(Put(Head(absl::StrCat("old-", i)), server_.id));
  }
  const Item head = Head("digits");
  ASSERT_OK(Put(head, mallory_));
  env_.FillDisk();
  EXPECT_OK(Put(head, server_.id));
  EXPECT_TRUE(IsThere(head));
  EXPECT_TRUE(IsThere(Head("old-0")));
}

}  // namespace
}  // namespace koinon::dht
