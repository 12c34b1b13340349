#include "dht/store/record_store.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/node_identity.h"
#include "base/random.h"
#include "base/signing.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/store/record_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/dht.pb.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
const Key kAnn = Sha256Of("ann");
const Key kBob = Sha256Of("bob");

LocalNode MakeServer(const std::string& federation,
                     const std::string& seed = "server") {
  SigningKey key = *SigningKey::FromSeed(Sha256Of(seed).ToBytes());
  const NodeIdentity identity = SelfMadeIdentity(key.public_key(), "");
  const Digest id = NodeIdOf(federation, identity);
  return {std::move(key), identity, id, federation, "server", ""};
}

RecordTrust Trust() { return {.federation = "test"}; }

struct Item {
  Key key;
  v1::Record record;
};

Item Immutable(const std::string& value) {
  return {ImmutableKey(value), ImmutableRecord(value)};
}

Item Mutable(uint64_t sequence, const std::string& value,
             absl::Duration lifetime = absl::Hours(24),
             const std::string& federation = "test", uint64_t epoch = 1,
             const std::string& seed = "server") {
  const LocalNode server = MakeServer(federation, seed);
  v1::MutableRecord record;
  record.set_name(HeadName("digits"));
  record.set_epoch(epoch);
  record.set_sequence(sequence);
  record.set_expires_ms(absl::ToUnixMillis(kStart + lifetime));
  record.set_value(value);
  return {MutableKey(federation, "server", HeadName("digits")),
          *SignRecord(record, server)};
}

// In plaintext anybody can sign one.
Item Foreign(uint64_t sequence, const std::string& value) {
  return Mutable(sequence, value, absl::Hours(24), "test", /*epoch=*/1,
                 "stranger");
}

// As a holder gives it out that would keep it for so long.
Item With(Item item, double remaining_seconds) {
  item.record.set_remaining_seconds(remaining_seconds);
  return item;
}

class RecordStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { Reopen(kStart); }

  void Reopen(absl::Time now) {
    store_.reset();
    ASSERT_OK_AND_ASSIGN(
        store_, RecordStore::Open(&env_, "/dht", options_, Trust(), now));
  }
  absl::Status Put(const Item& item, absl::Time now = kStart,
                   const Key& writer = kAnn) {
    return store_->Put(item.key, item.record, writer, now);
  }
  std::string ValueOf(const Key& key, absl::Time now = kStart) {
    const auto stored = store_->Get(key, now);
    return stored.has_value() ? stored->opened.value : "(none)";
  }
  std::string PathOf(const Key& key) {
    return absl::StrCat("/dht/", RecordFileName(key));
  }
  int64_t Rejected(Rejection reason) {
    return store_->rejections().count(reason);
  }

  MemoryEnv memory_;
  FaultInjectingEnv env_{&memory_};
  RecordStore::Options options_ = {.lifetime = absl::Hours(24)};
  std::unique_ptr<RecordStore> store_;
};

TEST_F(RecordStoreTest, Get_NothingStored_IsNothing) {
  EXPECT_EQ(ValueOf(kAnn), "(none)");
  EXPECT_THAT(store_->All(), IsEmpty());
  EXPECT_EQ(store_->Sweep(kStart), 0u);
}

TEST_F(RecordStoreTest, Put_BothKinds_AreGivenOutAsTheyCame) {
  const Item manifest = Immutable("a manifest");
  const Item head = Mutable(3, "head 3");
  ASSERT_OK(Put(manifest));
  ASSERT_OK(Put(head));
  const auto stored = store_->Get(manifest.key, kStart);
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->record.immutable(), "a manifest");
  EXPECT_EQ(stored->record.remaining_seconds(), 24 * 3'600);
  EXPECT_EQ(stored->opened.value, "a manifest");
  EXPECT_EQ(stored->expires, kStart + absl::Hours(24));
  EXPECT_EQ(store_->Get(head.key, kStart)->opened.sequence, 3u);
  EXPECT_THAT(store_->All(), SizeIs(2));
  EXPECT_EQ(store_->totals().records, 2u);
  EXPECT_EQ(store_->totals().record_bytes,
            manifest.record.ByteSizeLong() + head.record.ByteSizeLong());
}

TEST_F(RecordStoreTest, Put_WhatDoesNotVerify_IsRefusedAndCounted) {
  const Item manifest = Immutable("a manifest");
  EXPECT_EQ(RejectionOf(store_->Put(kBob, manifest.record, kAnn, kStart)),
            Rejection::kWrongKey);
  EXPECT_EQ(RejectionOf(Put(Immutable(std::string(kMaxRecordBytes + 1, 'x')))),
            Rejection::kOversize);
  EXPECT_EQ(RejectionOf(Put(Mutable(1, "x", absl::Hours(1), "other"))),
            Rejection::kWrongFederation);
  EXPECT_EQ(RejectionOf(
                Put(Mutable(1, "x", absl::Hours(1)), kStart + absl::Hours(1))),
            Rejection::kExpired);
  Item forged = Mutable(1, "x");
  forged.record.mutable_signed_record()->back() ^= 1;
  EXPECT_FALSE(Put(forged).ok());
  EXPECT_EQ(Rejected(Rejection::kWrongKey), 1);
  EXPECT_EQ(Rejected(Rejection::kOversize), 1);
  EXPECT_EQ(Rejected(Rejection::kWrongFederation), 1);
  EXPECT_EQ(Rejected(Rejection::kExpired), 1);
  EXPECT_EQ(store_->totals().records, 0u);
  ASSERT_OK_AND_ASSIGN(const auto files, memory_.List("/dht"));
  EXPECT_THAT(files, IsEmpty());
}

TEST_F(RecordStoreTest, Put_OfAStrangerInPlaintext_ReplacesNoPreferredOne) {
  store_->Prefer(MakeServer("test").key.public_key());
  const Item own = Mutable(3, "own");
  ASSERT_OK(Put(Foreign(900, "foreign")));  // better than nothing
  ASSERT_OK(Put(own));
  EXPECT_EQ(ValueOf(own.key), "own");
  EXPECT_EQ(RejectionOf(Put(Foreign(901, "foreign"), kStart, kBob)),
            Rejection::kUntrustedSigner);
  EXPECT_EQ(Rejected(Rejection::kUntrustedSigner), 1);
  EXPECT_EQ(ValueOf(own.key), "own");
  // Among its own, numbers count.
  ASSERT_OK(Put(Mutable(4, "next")));
  EXPECT_EQ(RejectionOf(Put(own)), Rejection::kRolledBack);
  EXPECT_EQ(ValueOf(own.key), "next");
}

TEST_F(RecordStoreTest, Put_NobodyPreferred_NumbersCountWhoeverHasSigned) {
  ASSERT_OK(Put(Mutable(3, "own")));
  ASSERT_OK(Put(Foreign(4, "foreign")));
  EXPECT_EQ(RejectionOf(Put(Mutable(3, "own"))), Rejection::kRolledBack);
  // A key that becomes known later.
  store_->Prefer(MakeServer("test").key.public_key());
  ASSERT_OK(Put(Mutable(3, "own")));
  EXPECT_EQ(ValueOf(Mutable(3, "own").key), "own");
}

TEST_F(RecordStoreTest, Put_HigherSequence_ReplacesTheLower) {
  ASSERT_OK(Put(Mutable(3, "three")));
  ASSERT_OK(Put(Mutable(4, "four"), kStart, kBob));
  EXPECT_EQ(ValueOf(Mutable(4, "").key), "four");
  EXPECT_EQ(store_->totals().records, 1u);
  EXPECT_EQ(store_->totals().writers, 1u);  // it is Bob's now
}

TEST_F(RecordStoreTest, Put_LowerSequenceOrEpoch_IsRefusedAndCounted) {
  ASSERT_OK(Put(Mutable(4, "four", absl::Hours(2), "test", 2)));
  const absl::Status back = Put(Mutable(3, "three", absl::Hours(2), "test", 2));
  EXPECT_EQ(RejectionOf(back), Rejection::kRolledBack);
  EXPECT_THAT(std::string(back.message()), HasSubstr("head/digits"));
  EXPECT_EQ(RejectionOf(Put(Mutable(9, "nine", absl::Hours(3), "test", 1))),
            Rejection::kRolledBack);
  EXPECT_EQ(Rejected(Rejection::kRolledBack), 2);
  EXPECT_EQ(ValueOf(Mutable(4, "").key), "four");
}

TEST_F(RecordStoreTest, Put_SameSequenceOtherValue_IsAnAlarmAndTheFirstStays) {
  ASSERT_OK(Put(Mutable(4, "four")));
  EXPECT_EQ(RejectionOf(Put(Mutable(4, "vier"))), Rejection::kEquivocation);
  EXPECT_EQ(Rejected(Rejection::kEquivocation), 1);
  EXPECT_EQ(ValueOf(Mutable(4, "").key), "four");
}

TEST_F(RecordStoreTest, Put_SameAgain_LivesOnAndStaysTheFirstWriters) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  ASSERT_OK(Put(item, kStart + absl::Hours(20), kBob));
  EXPECT_EQ(ValueOf(item.key, kStart + absl::Hours(43)), "x");
  EXPECT_EQ(ValueOf(item.key, kStart + absl::Hours(44)), "(none)");
  EXPECT_EQ(store_->totals().writers, 1u);
}

TEST_F(RecordStoreTest, Put_SameValueSignedForLonger_LivesForLonger) {
  ASSERT_OK(Put(Mutable(4, "four", absl::Hours(2))));
  ASSERT_OK(Put(Mutable(4, "four", absl::Hours(5))));
  ASSERT_OK(Put(Mutable(4, "four", absl::Hours(3))));
  const Key key = Mutable(4, "").key;
  EXPECT_EQ(ValueOf(key, kStart + absl::Minutes(299)), "four");
  EXPECT_EQ(ValueOf(key, kStart + absl::Hours(5)), "(none)");
}

TEST_F(RecordStoreTest, Put_HandedOn_LivesNoLongerThanAtWhomItCameFrom) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(With(item, 3'600)));
  EXPECT_EQ(store_->Get(item.key, kStart)->expires, kStart + absl::Hours(1));
  EXPECT_EQ(store_->totals().record_bytes, item.record.ByteSizeLong());
  // Handed to and fro, and read, it still ends.
  const absl::Time later = kStart + absl::Minutes(30);
  const v1::Record read = store_->Get(item.key, later)->record;
  EXPECT_EQ(read.remaining_seconds(), 1'800);
  ASSERT_OK(store_->Put(item.key, read, kBob, later));
  EXPECT_EQ(ValueOf(item.key, kStart + absl::Hours(1)), "(none)");
  // Less than what is left takes nothing away; more than a lifetime, and what
  // is no number, do not count.
  ASSERT_OK(Put(item));
  for (const double remaining : {1.0, 1e300, HUGE_VAL, std::nan(""), -1.0}) {
    ASSERT_OK(Put(With(item, remaining)));
    EXPECT_EQ(store_->Get(item.key, kStart)->expires, kStart + absl::Hours(24));
  }
}

TEST_F(RecordStoreTest, Put_NothingLeftOfItsLife_IsExpired) {
  EXPECT_EQ(RejectionOf(Put(With(Immutable("x"), 1e-30))), Rejection::kExpired);
  EXPECT_EQ(store_->totals().records, 0u);
}

TEST_F(RecordStoreTest, Get_OverItsLifetimeOrOwnExpiry_IsNothing) {
  const Item head = Mutable(1, "head", absl::Hours(1));
  const Item manifest = Immutable("manifest");
  ASSERT_OK(Put(head));
  ASSERT_OK(Put(manifest));
  EXPECT_EQ(ValueOf(head.key, kStart + absl::Hours(1)), "(none)");
  EXPECT_EQ(ValueOf(manifest.key, kStart + absl::Hours(24)), "(none)");
  EXPECT_EQ(store_->Sweep(kStart + absl::Hours(1)), 1u);
  EXPECT_FALSE(memory_.Exists(PathOf(head.key)));
  EXPECT_TRUE(memory_.Exists(PathOf(manifest.key)));
  EXPECT_EQ(store_->Sweep(kStart + absl::Hours(24)), 1u);
  EXPECT_EQ(store_->totals().record_bytes, 0u);
  EXPECT_EQ(store_->totals().writers, 0u);
}

// rust-libp2p's exp_decr_expiration_overflow: no lifetime is too long.
TEST_F(RecordStoreTest, Put_LifetimeWithoutEnd_DoesNotOverflow) {
  options_.lifetime = absl::InfiniteDuration();
  options_.provider_lifetime = absl::InfiniteDuration();
  options_.republish = absl::InfiniteDuration();
  Reopen(kStart);
  const Item item = Immutable("x");
  const Item head = Mutable(1, "head", absl::Hours(24 * 365 * 200));
  ASSERT_OK(Put(item));
  ASSERT_OK(Put(head));
  ASSERT_OK(store_->AddProvider(kAnn, {kBob, "b:1", ""}, kStart));
  const absl::Time later = kStart + absl::Hours(24 * 365 * 100);
  EXPECT_EQ(store_->Sweep(later), 0u);
  EXPECT_THAT(store_->ToRepublish(later, 10), IsEmpty());
  Reopen(later);
  EXPECT_EQ(ValueOf(item.key, later), "x");
  EXPECT_EQ(ValueOf(head.key, later), "head");
}

TEST_F(RecordStoreTest, Put_WriterOverItsQuota_PushesOutItsOwnOldest) {
  options_.max_keys_per_writer = 3;
  options_.max_bytes_per_writer = 1'000;
  Reopen(kStart);
  ASSERT_OK(Put(Immutable("bob's"), kStart, kBob));
  const auto at = [](int seconds) { return kStart + absl::Seconds(seconds); };
  for (int i = 0; i < 3; ++i) ASSERT_OK(Put(Immutable(absl::StrCat(i)), at(i)));
  ASSERT_OK(Put(Immutable("0"), at(3)));  // stored again: the newest
  ASSERT_OK(Put(Immutable("3"), at(4)));
  EXPECT_EQ(ValueOf(Immutable("1").key, at(5)), "(none)");
  EXPECT_EQ(ValueOf(Immutable("0").key, at(5)), "0");
  EXPECT_EQ(ValueOf(Immutable("2").key, at(5)), "2");
  EXPECT_EQ(ValueOf(Immutable("3").key, at(5)), "3");
  EXPECT_EQ(ValueOf(Immutable("bob's").key, at(5)), "bob's");
  EXPECT_EQ(Rejected(Rejection::kQuota), 1);
  // More than its whole share pushes out nothing.
  EXPECT_EQ(RejectionOf(Put(Immutable(std::string(1'000, 'x')), at(5), kBob)),
            Rejection::kQuota);
  EXPECT_EQ(ValueOf(Immutable("bob's").key, at(5)), "bob's");
  EXPECT_EQ(Rejected(Rejection::kQuota), 2);
}

TEST_F(RecordStoreTest, Put_ReplacementOverTheQuota_TheOldOneStays) {
  options_.max_bytes_per_writer = 2'000;
  Reopen(kStart);
  ASSERT_OK(Put(Mutable(1, "one")));
  EXPECT_EQ(RejectionOf(Put(Mutable(2, std::string(3'000, 'x')))),
            Rejection::kQuota);
  EXPECT_EQ(ValueOf(Mutable(1, "").key), "one");
  const size_t before = store_->totals().record_bytes;
  ASSERT_OK(Put(Mutable(3, "two")));
  EXPECT_EQ(store_->totals().record_bytes, before);
}

// D9: one identity writes ten times what it may.
TEST_F(RecordStoreTest,
       StorageFlood_OneWriter_OthersSucceedAndBytesAreBounded) {
  options_.max_keys_per_writer = 100;
  options_.max_bytes_per_writer = 100 << 10;
  Reopen(kStart);
  for (int i = 0; i < 1'000; ++i) {
    ASSERT_OK(Put(Immutable(absl::StrCat("flood ", i, std::string(1'024, 'x'))),
                  kStart, Sha256Of("eve")));
    ASSERT_OK(Put(Immutable(absl::StrCat("honest ", i)), kStart,
                  Sha256Of(absl::StrCat(i % 20))));
  }
  const size_t left = store_->totals().records - 1'000;  // of the flood
  EXPECT_GT(left, 0u);
  EXPECT_LE(left, 100u);
  EXPECT_EQ(Rejected(Rejection::kQuota), 1'000 - static_cast<int64_t>(left));
  EXPECT_LE(store_->totals().record_bytes, (100u << 10) + 1'000 * 20);
}

TEST_F(RecordStoreTest, StorageFlood_WritersThatFillItTogether_KeepNobodyOut) {
  options_.max_keys = 40;
  options_.max_keys_per_writer = 10;
  Reopen(kStart);
  for (int i = 0; i < 100; ++i) {
    ASSERT_OK(Put(Immutable(absl::StrCat("flood ", i)), kStart,
                  Sha256Of(absl::StrCat("eve ", i % 4))));
  }
  ASSERT_EQ(store_->totals().records, 40u);
  // Up to as much as each of them has.
  for (int i = 0; i < 8; ++i) {
    ASSERT_OK(Put(Immutable(absl::StrCat("honest ", i))));
  }
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(Put(Immutable(absl::StrCat("more ", i)), kStart,
                  Sha256Of(absl::StrCat("eve ", i % 4))));
  }
  for (int i = 0; i < 8; ++i) {
    EXPECT_NE(ValueOf(Immutable(absl::StrCat("honest ", i)).key), "(none)");
  }
  EXPECT_EQ(store_->totals().records, 40u);
}

TEST_F(RecordStoreTest, Put_UnknownFieldsBesideTheRecord_AreNotKept) {
  Item item = Immutable("x");
  v1::Record padded;
  ASSERT_TRUE(padded.ParseFromString(
      item.record.SerializeAsString() +
      absl::StrCat("\x7a\x50", std::string(0x50, 'x'))));  // field 15
  ASSERT_OK(store_->Put(item.key, padded, kAnn, kStart));
  EXPECT_EQ(store_->totals().record_bytes, item.record.ByteSizeLong());
}

TEST_F(RecordStoreTest, ToRepublish_NobodyStoredItAgain_OnceEachTime) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  EXPECT_THAT(store_->ToRepublish(kStart + absl::Minutes(59), 9), IsEmpty());
  const absl::Time later = kStart + absl::Minutes(75);  // a quarter later
  EXPECT_THAT(store_->ToRepublish(later, 0), IsEmpty());
  EXPECT_THAT(store_->ToRepublish(later, 9), ElementsAre(item.key));
  EXPECT_THAT(store_->ToRepublish(later + absl::Minutes(59), 9), IsEmpty());
  EXPECT_THAT(store_->ToRepublish(later + absl::Minutes(75), 9),
              ElementsAre(item.key));
}

TEST_F(RecordStoreTest, ToRepublish_SomebodyStoredItAgain_IsSpared) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  ASSERT_OK(Put(With(item, 3'600 * 20), kStart + absl::Minutes(50), kBob));
  EXPECT_THAT(store_->ToRepublish(kStart + absl::Minutes(109), 9), IsEmpty());
  EXPECT_THAT(store_->ToRepublish(kStart + absl::Minutes(125), 9), SizeIs(1));
}

TEST_F(RecordStoreTest, ToRepublish_ManyRecords_SpreadAndDrawnBySeed) {
  const auto due_at = [&](uint64_t seed, absl::Duration after) {
    options_.seed = seed;
    auto store = RecordStore::Open(&env_, "", options_, Trust(), kStart);
    for (int i = 0; i < 200; ++i) {
      const Item item = Immutable(absl::StrCat(i));
      EXPECT_OK((*store)->Put(item.key, item.record, kAnn, kStart));
    }
    return (*store)->ToRepublish(kStart + after, 1'000);
  };
  // Uniform over a quarter of an hour: 200 * 7 / 15 = 93, deviation 7.
  EXPECT_GT(due_at(1, absl::Minutes(67)).size(), 50u);
  EXPECT_LT(due_at(1, absl::Minutes(67)).size(), 140u);
  EXPECT_EQ(due_at(1, absl::Minutes(67)), due_at(1, absl::Minutes(67)));
  EXPECT_NE(due_at(1, absl::Minutes(67)), due_at(2, absl::Minutes(67)));
}

TEST_F(RecordStoreTest, Providers_AddedAndRemoved_AreKnownWhileTheyLast) {
  const Contact bob = {kBob, "bob:1", "site"};
  ASSERT_OK(store_->AddProvider(kAnn, bob, kStart));
  ASSERT_THAT(store_->Providers(kAnn, 9, kStart), SizeIs(1));
  EXPECT_EQ(store_->Providers(kAnn, 9, kStart)[0].contact, bob);
  EXPECT_EQ(store_->totals().provider_keys, 1u);
  EXPECT_EQ(store_->Sweep(kStart + absl::Minutes(10)), 1u);
  ASSERT_OK(store_->AddProvider(kAnn, bob, kStart));
  store_->RemoveProvider(kAnn, kBob);
  EXPECT_EQ(store_->totals().providers, 0u);
}

TEST_F(RecordStoreTest, Providers_OverTheQuota_AreRefusedAndCounted) {
  options_.max_providers_per_key = 1;
  Reopen(kStart);
  ASSERT_OK(store_->AddProvider(kAnn, {kBob, "bob:1", ""}, kStart));
  EXPECT_EQ(RejectionOf(store_->AddProvider(kAnn, {kAnn, "ann:1", ""}, kStart)),
            Rejection::kQuota);
  EXPECT_EQ(Rejected(Rejection::kQuota), 1);
}

// ---- Over restarts ----

TEST_F(RecordStoreTest, Open_AfterARestart_RecordsWritersAndLifetimesAreThere) {
  options_.max_keys_per_writer = 2;
  Reopen(kStart);
  const Item manifest = Immutable("manifest");
  const Item head = Mutable(3, "head", absl::Hours(5));
  ASSERT_OK(Put(manifest));
  ASSERT_OK(Put(With(head, 2 * 3'600)));
  Reopen(kStart + absl::Hours(1));
  const absl::Time now = kStart + absl::Hours(1);
  EXPECT_EQ(ValueOf(manifest.key, now), "manifest");
  EXPECT_EQ(store_->Get(manifest.key, now)->expires, kStart + absl::Hours(24));
  EXPECT_EQ(store_->Get(head.key, now)->expires, kStart + absl::Hours(2));
  EXPECT_EQ(RejectionOf(Put(Mutable(2, "old"), now)), Rejection::kRolledBack);
  EXPECT_THAT(store_->ToRepublish(kStart + absl::Minutes(75), 9), SizeIs(2));
  // Who wrote them counts still.
  ASSERT_OK(Put(Immutable("more"), now));
  EXPECT_EQ(store_->totals().records, 2u);
}

TEST_F(RecordStoreTest, Open_Expired_FilesAreRemoved) {
  const Item manifest = Immutable("manifest");
  ASSERT_OK(Put(manifest));
  Reopen(kStart + absl::Hours(24));
  EXPECT_EQ(store_->totals().records, 0u);
  EXPECT_FALSE(memory_.Exists(PathOf(manifest.key)));
}

TEST_F(RecordStoreTest, Open_StoredAgainInBetween_LosesAtMostOneRepublish) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  for (int minutes = 10; minutes <= 600; minutes += 10) {
    ASSERT_OK(Put(item, kStart + absl::Minutes(minutes)));
  }
  // Written ten times, not sixty.
  EXPECT_LE(env_.count(FaultInjectingEnv::Operation::kRename), 11);
  Reopen(kStart + absl::Minutes(600));
  EXPECT_GE(store_->Get(item.key, kStart + absl::Minutes(600))->expires,
            kStart + absl::Minutes(600 - 60) + absl::Hours(24));
}

TEST_F(RecordStoreTest, Open_ClockSetBack_LivesNoLonger) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  Reopen(kStart - absl::Hours(10));
  EXPECT_EQ(store_->Get(item.key, kStart - absl::Hours(10))->expires,
            kStart + absl::Hours(14));
}

TEST_F(RecordStoreTest, Open_DamagedFiles_AreRemovedAndTheRestIsThere) {
  const Item good = Immutable("good");
  ASSERT_OK(Put(good));
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       ReadFile(&memory_, PathOf(good.key), 1 << 20));
  std::string flipped = bytes;
  flipped[60] ^= 1;
  const std::vector<std::pair<std::string, std::string>> bad = {
      {RecordFileName(kAnn), bytes},  // another's
      {RecordFileName(kBob), ""},
      {RecordFileName(Sha256Of("1")), bytes.substr(0, bytes.size() / 2)},
      {RecordFileName(Sha256Of("2")), flipped},
      {RecordFileName(Sha256Of("3")), std::string(1 << 20, 'x')},
      {absl::StrCat(RecordFileName(good.key), ".tmp"), bytes},
  };
  for (const auto& [name, content] : bad) {
    ASSERT_OK(WriteFileAtomically(&memory_, "/dht/" + name, content));
  }
  ASSERT_OK(WriteFileAtomically(&memory_, "/dht/notes.txt", "not ours"));
  Reopen(kStart);
  EXPECT_THAT(store_->All(), ElementsAre(good.key));
  ASSERT_OK_AND_ASSIGN(std::vector<std::string> files, memory_.List("/dht"));
  std::sort(files.begin(), files.end());
  std::vector<std::string> expected = {RecordFileName(good.key), "notes.txt"};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(files, expected);
}

TEST_F(RecordStoreTest, Open_OfAnotherFederation_FilesAreRemoved) {
  const Item head = Mutable(1, "head");
  ASSERT_OK(Put(head));
  ASSERT_OK_AND_ASSIGN(store_,
                       RecordStore::Open(&env_, "/dht", options_,
                                         {.federation = "other"}, kStart));
  EXPECT_EQ(store_->totals().records, 0u);
  EXPECT_FALSE(memory_.Exists(PathOf(head.key)));
}

TEST_F(RecordStoreTest, Open_MoreThanTheQuotasAllow_KeepsWhatFits) {
  for (int i = 0; i < 10; ++i) ASSERT_OK(Put(Immutable(absl::StrCat(i))));
  options_.max_keys = 4;
  Reopen(kStart);
  EXPECT_EQ(store_->totals().records, 4u);
  ASSERT_OK_AND_ASSIGN(const auto files, memory_.List("/dht"));
  EXPECT_THAT(files, SizeIs(4));
}

TEST_F(RecordStoreTest, Open_NoDescriptorsLeft_FailsAndRemovesNothing) {
  const Item item = Immutable("x");
  ASSERT_OK(Put(item));
  env_.FailAlways(FaultInjectingEnv::Operation::kOpen,
                  absl::ResourceExhaustedError("too many open files"));
  EXPECT_THAT(RecordStore::Open(&env_, "/dht", options_, Trust(), kStart),
              StatusIs(absl::StatusCode::kResourceExhausted));
  env_.StopFailing();
  Reopen(kStart);
  EXPECT_EQ(ValueOf(item.key), "x");
}

TEST_F(RecordStoreTest, Put_FullDisk_IsRefusedAndTheOldOneStays) {
  ASSERT_OK(Put(Mutable(1, "one")));
  env_.FillDisk();
  EXPECT_THAT(Put(Mutable(2, "two")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(Put(Immutable("new")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(ValueOf(Mutable(1, "").key), "one");
  EXPECT_EQ(store_->totals().records, 1u);
  EXPECT_EQ(Rejected(Rejection::kQuota), 0);  // nobody's fault
  env_.StopFailing();
  Reopen(kStart);
  EXPECT_EQ(ValueOf(Mutable(1, "").key), "one");
  EXPECT_EQ(store_->totals().records, 1u);
}

TEST_F(RecordStoreTest, FullDisk_NobodyIsPushedOutAndWhatIsThereLivesOn) {
  options_.max_keys_per_writer = 2;
  Reopen(kStart);
  const Item first = Immutable("first");
  const Item second = Immutable("second");
  ASSERT_OK(Put(first));
  ASSERT_OK(Put(second));
  env_.FillDisk();
  EXPECT_THAT(Put(Immutable("third")),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(store_->totals().records, 2u);
  // Stored again, past the end of its first life.
  const absl::Time late = kStart + options_.lifetime - absl::Seconds(1);
  EXPECT_OK(store_->Put(first.key, first.record, kAnn, late));
  EXPECT_TRUE(store_->Get(first.key, late + absl::Hours(1)).has_value());
  EXPECT_FALSE(store_->Get(second.key, late + absl::Hours(1)).has_value());
  EXPECT_EQ(Rejected(Rejection::kQuota), 0);
}

// Whatever fails while a newer record is stored, one of the two is there, and
// after a loss of power too (or none, which others have copies of).
TEST_F(RecordStoreTest, Put_AnyFaultOrCrash_LeavesTheOldOrTheNewOne) {
  for (int64_t k = 1;; ++k) {
    SCOPED_TRACE(absl::StrCat("operation ", k));
    MemoryEnv memory;
    FaultInjectingEnv env(&memory);
    const auto open = [&] {
      return *RecordStore::Open(&env, "/dht", options_, Trust(), kStart);
    };
    std::unique_ptr<RecordStore> store = open();
    const Item one = Mutable(1, "one");
    const Item two = Mutable(2, "two");
    ASSERT_OK(store->Put(one.key, one.record, kAnn, kStart));
    const int64_t before = env.total_count();
    env.FailAllFrom(k, absl::DataLossError("dead"));
    const absl::Status put = store->Put(two.key, two.record, kAnn, kStart);
    EXPECT_EQ(store->Get(one.key, kStart)->opened.value,
              put.ok() ? "two" : "one");
    const bool all_done = env.total_count() - before < k;
    env.StopFailing();
    store = open();
    EXPECT_EQ(store->Get(one.key, kStart)->opened.value,
              put.ok() ? "two" : "one");
    memory.CrashAndLoseUnsynced();
    store = open();
    const auto found = store->Get(one.key, kStart);
    EXPECT_TRUE(!found.has_value() || found->opened.name == "head/digits");
    if (all_done) {
      EXPECT_OK(put);
      break;
    }
  }
}

TEST_F(RecordStoreTest, Open_WithoutADirectory_KeepsInMemoryOnly) {
  ASSERT_OK_AND_ASSIGN(store_,
                       RecordStore::Open(&env_, "", options_, Trust(), kStart));
  const Item item = Immutable("x");
  const int64_t before = env_.total_count();
  ASSERT_OK(Put(item));
  EXPECT_EQ(ValueOf(item.key), "x");
  EXPECT_EQ(store_->Sweep(kStart + absl::Hours(24)), 1u);
  EXPECT_EQ(env_.total_count(), before);
}

// Random puts of a few keys, restarts and sweeps, against a plain model.
TEST_F(RecordStoreTest, RandomUse_AgainstAPlainModel_Agrees) {
  struct Expected {
    std::string value;
    uint64_t sequence;
    absl::Time expires;
  };
  std::vector<Item> heads;
  for (uint64_t s = 0; s < 8; ++s) heads.push_back(Mutable(s, absl::StrCat(s)));
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    MemoryEnv memory;
    options_.lifetime = absl::Hours(3);
    // Every change is written: the model knows no lag.
    options_.republish = absl::Nanoseconds(1);
    auto store = *RecordStore::Open(&memory, "/d", options_, Trust(), kStart);
    std::map<Key, Expected> model;
    absl::Time now = kStart;
    for (int step = 0; step < 200; ++step) {
      now += absl::Minutes(random.NextBelow(20));
      std::erase_if(model,
                    [&](const auto& e) { return e.second.expires <= now; });
      if (random.NextBelow(10) == 0) {
        store.reset();
        store = *RecordStore::Open(&memory, "/d", options_, Trust(), now);
      } else if (random.NextBelow(3) == 0) {
        const uint64_t sequence = random.NextBelow(heads.size());
        const Item& item = heads[sequence];
        const auto known = model.find(item.key);
        const absl::Time end = kStart + absl::Hours(24);
        const bool fits = now < end && (known == model.end() ||
                                        known->second.sequence <= sequence);
        ASSERT_EQ(store->Put(item.key, item.record, kAnn, now).ok(), fits);
        if (fits) {
          model[item.key] = {absl::StrCat(sequence), sequence,
                             std::min(end, now + absl::Hours(3))};
        }
      } else {
        const std::string value = absl::StrCat("v", random.NextBelow(6));
        const Item item = Immutable(value);
        ASSERT_OK(store->Put(item.key, item.record, kAnn, now));
        model[item.key] = {value, 0, now + absl::Hours(3)};
      }
      if (random.NextBelow(3) == 0) {
        store->Sweep(now);
        ASSERT_EQ(store->totals().records, model.size());
      }
      for (const Item& item : {heads[0], Immutable("v0"), Immutable("v1")}) {
        const auto found = store->Get(item.key, now);
        const auto known = model.find(item.key);
        ASSERT_EQ(found.has_value(), known != model.end());
        if (!found.has_value()) continue;
        ASSERT_EQ(found->opened.value, known->second.value);
        ASSERT_EQ(found->expires, known->second.expires);
      }
    }
  }
}

}  // namespace
}  // namespace koinon::dht
