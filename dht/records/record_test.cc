#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

using Role = PeerIdentity::Role;

constexpr char kContext[] = "koinon record 1";

MATCHER_P2(IsRejected, rejection, message,
           absl::StrCat("is refused as ", RejectionName(rejection))) {
  const absl::Status& status = absl_testing::internal::GetStatus(arg);
  *result_listener << status.ToString();
  return RejectionOf(status) == rejection &&
         ::testing::ExplainMatchResult(HasSubstr(message),
                                       std::string(status.message()),
                                       result_listener);
}

// One bit of the byte flipped, of each byte another.
std::string FlipBitOf(std::string bytes, size_t at) {
  bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
  return bytes;
}

v1::Record SignedRecord(std::string bytes) {
  v1::Record record;
  record.set_signed_record(std::move(bytes));
  return record;
}

Key KeyOf(const v1::MutableRecord& record) {
  return MutableKey(record.federation(), record.owner(), record.name());
}

// The federation of the vectors, over TLS.
class RecordTest : public testing::Test {
 protected:
  absl::StatusOr<OpenedRecord> Open(const Key& key, const v1::Record& record) {
    return OpenRecord(key, record, trust_, now_);
  }
  // A record that SignRecord would not sign so.
  static v1::Record SignAnyway(const v1::MutableRecord& record,
                               const LocalNode& signer) {
    return SignedRecord(SignBody(kContext, record.SerializeAsString(), signer)
                            .SerializeAsString());
  }

  const absl::Time now_ = VectorTime();
  const TestFederation north_{"north", now_};
  const LocalNode server_ = north_.Server();
  const RecordTrust trust_ = north_.trust();
  const v1::MutableRecord record_ = VectorRecord();
  const Key key_ = KeyOf(record_);
};

TEST_F(RecordTest, Head_SignedByTheServerIsOpened) {
  ASSERT_OK_AND_ASSIGN(const v1::Record record, SignRecord(record_, server_));
  ASSERT_OK_AND_ASSIGN(const OpenedRecord opened, Open(key_, record));
  EXPECT_TRUE(opened.is_mutable);
  EXPECT_EQ(opened.value, record_.value());
  EXPECT_EQ(opened.owner, "server");
  EXPECT_EQ(opened.name, "head/digits");
  EXPECT_EQ(opened.epoch, record_.epoch());
  EXPECT_EQ(opened.sequence, 3u);
  EXPECT_EQ(opened.expires, absl::FromUnixMillis(record_.expires_ms()));
}

TEST_F(RecordTest, EveryRole_WritesItsOwn) {
  for (const Role role :
       {Role::kServer, Role::kWorker, Role::kClient, Role::kNode}) {
    const LocalNode signer = north_.Node(role, "x");
    v1::MutableRecord record = record_;
    // What is there of another is overwritten: nobody signs as somebody else.
    record.set_owner("worker/other");
    record.set_federation("elsewhere");
    ASSERT_OK_AND_ASSIGN(const v1::Record made, SignRecord(record, signer));
    ASSERT_OK_AND_ASSIGN(
        const OpenedRecord opened,
        Open(MutableKey("north", signer.owner, record.name()), made));
    EXPECT_EQ(opened.owner, signer.owner);
  }
}

TEST_F(RecordTest, Immutable_StandsUnderItsHash) {
  const std::string value = "any bytes at all";
  ASSERT_OK_AND_ASSIGN(const OpenedRecord opened,
                       Open(ImmutableKey(value), ImmutableRecord(value)));
  EXPECT_FALSE(opened.is_mutable);
  EXPECT_EQ(opened.value, value);
  EXPECT_EQ(opened.expires, absl::InfiniteFuture());
}

TEST_F(RecordTest, Immutable_AnyFlippedBit_WrongKey) {
  const std::string value = "any bytes at all";
  for (size_t at = 0; at < value.size(); ++at) {
    EXPECT_THAT(
        Open(ImmutableKey(value), ImmutableRecord(FlipBitOf(value, at))),
        IsRejected(Rejection::kWrongKey, "found under"));
  }
}

TEST_F(RecordTest, Mutable_AnyFlippedBit_IsRefused) {
  ASSERT_OK_AND_ASSIGN(const v1::Record record, SignRecord(record_, server_));
  const std::string& good = record.signed_record();
  for (size_t at = 0; at < good.size(); ++at) {
    const auto opened = Open(key_, SignedRecord(FlipBitOf(good, at)));
    ASSERT_FALSE(opened.ok()) << "byte " << at;
    ASSERT_TRUE(RejectionOf(opened.status()).has_value()) << "byte " << at;
  }
}

TEST_F(RecordTest, Oversize_IsRefusedBeforeItIsParsed) {
  const std::string rubbish(kMaxRecordBytes + 1, '\xff');
  EXPECT_THAT(Open(key_, SignedRecord(rubbish)),
              IsRejected(Rejection::kOversize, "16385"));
  EXPECT_THAT(Open(ImmutableKey(rubbish), ImmutableRecord(rubbish)),
              IsRejected(Rejection::kOversize, "16385"));
  const std::string largest(kMaxRecordBytes, '\xff');
  EXPECT_OK(Open(ImmutableKey(largest), ImmutableRecord(largest)));
}

TEST_F(RecordTest, NothingOrEmpty_Malformed) {
  EXPECT_THAT(Open(key_, v1::Record()),
              IsRejected(Rejection::kMalformed, "no kind"));
  EXPECT_THAT(Open(ImmutableKey(""), ImmutableRecord("")),
              IsRejected(Rejection::kMalformed, "no bytes"));
  EXPECT_THAT(Open(key_, SignedRecord("")),
              IsRejected(Rejection::kMalformed, "public_key"));
  EXPECT_THAT(Open(key_, SignedRecord("rubbish")),
              IsRejected(Rejection::kMalformed, "cannot be parsed"));
}

TEST_F(RecordTest, UnderAnotherKey_WrongKey) {
  ASSERT_OK_AND_ASSIGN(const v1::Record record, SignRecord(record_, server_));
  for (const Key& key : {Key(), MutableKey("north", "server", "head/letters"),
                         MutableKey("north", "worker/w", "head/digits"),
                         MutableKey("south", "server", "head/digits"),
                         ImmutableKey(record.signed_record())}) {
    EXPECT_THAT(Open(key, record),
                IsRejected(Rejection::kWrongKey, key.ToHex()));
  }
}

TEST_F(RecordTest, OfAnotherFederation_WrongFederation) {
  const TestFederation south("south", now_);
  ASSERT_OK_AND_ASSIGN(const v1::Record record,
                       SignRecord(record_, south.Server()));
  EXPECT_THAT(
      Open(MutableKey("south", "server", record_.name()), record),
      IsRejected(Rejection::kWrongFederation, "'south', expected 'north'"));
}

TEST_F(RecordTest, FromItsExpiryOn_Expired) {
  ASSERT_OK_AND_ASSIGN(const v1::Record record, SignRecord(record_, server_));
  const absl::Time expires = absl::FromUnixMillis(record_.expires_ms());
  EXPECT_OK(OpenRecord(key_, record, trust_, expires - absl::Milliseconds(1)));
  EXPECT_THAT(OpenRecord(key_, record, trust_, expires),
              IsRejected(Rejection::kExpired, "expired at "));
}

TEST_F(RecordTest, HeadSignedByAWorker_UntrustedSigner) {
  EXPECT_THAT(
      Open(key_, SignAnyway(record_, north_.Node(Role::kWorker, "mallory"))),
      IsRejected(Rejection::kUntrustedSigner,
                 "worker/mallory has signed what only server may sign"));
}

TEST_F(RecordTest, RecordOfAnotherOwner_UntrustedSigner) {
  const LocalNode mallory = north_.Node(Role::kWorker, "mallory");
  for (const char* owner : {"worker/ann", "client/mallory", "node/mallory"}) {
    v1::MutableRecord record = record_;
    record.set_owner(owner);
    EXPECT_THAT(Open(KeyOf(record), SignAnyway(record, mallory)),
                IsRejected(Rejection::kUntrustedSigner, owner));
    // The server signs as itself alone.
    EXPECT_THAT(Open(KeyOf(record), SignAnyway(record, server_)),
                IsRejected(Rejection::kUntrustedSigner, owner));
  }
}

TEST_F(RecordTest, OfAnotherAuthority_UntrustedSigner) {
  const TestFederation other("north", now_);
  ASSERT_OK_AND_ASSIGN(const v1::Record record,
                       SignRecord(record_, other.Server()));
  EXPECT_THAT(Open(key_, record),
              IsRejected(Rejection::kUntrustedSigner, "does not stand"));
}

TEST_F(RecordTest, SignedByAnotherKey_Forged) {
  v1::Signed envelope =
      SignBody(kContext, record_.SerializeAsString(), server_);
  SignAgain(kContext, PlainNode('o', "north", "server"), &envelope);
  EXPECT_THAT(Open(key_, SignedRecord(envelope.SerializeAsString())),
              IsRejected(Rejection::kForged, server_.key.public_key().ToHex()));
}

TEST_F(RecordTest, SignedInTheContextOfManifests_Forged) {
  EXPECT_THAT(
      Open(key_, SignedRecord(SignBody("koinon manifest 1",
                                       record_.SerializeAsString(), server_)
                                  .SerializeAsString())),
      IsRejected(Rejection::kForged, ""));
}

TEST_F(RecordTest, UnknownFieldOrOtherOrder_Malformed) {
  v1::MutableRecord unknown = record_;
  unknown.GetReflection()->MutableUnknownFields(&unknown)->AddVarint(99, 1);
  EXPECT_THAT(Open(key_, SignAnyway(unknown, server_)),
              IsRejected(Rejection::kMalformed, "record: has unknown fields"));
  const std::string body = record_.SerializeAsString();
  const std::string reordered = body.substr(7) + body.substr(0, 7);
  v1::MutableRecord same;
  ASSERT_TRUE(same.ParseFromString(reordered));
  ASSERT_EQ(same.SerializeAsString(), body);
  EXPECT_THAT(Open(key_, SignedRecord(SignBody(kContext, reordered, server_)
                                          .SerializeAsString())),
              IsRejected(Rejection::kMalformed, "in another way"));
}

struct BadField {
  const char* name;
  std::function<void(v1::MutableRecord*)> spoil;
  const char* message;
};

class BadRecordFieldTest : public RecordTest,
                           public testing::WithParamInterface<BadField> {};

TEST_P(BadRecordFieldTest, Malformed) {
  v1::MutableRecord record = record_;
  GetParam().spoil(&record);
  EXPECT_THAT(Open(KeyOf(record), SignAnyway(record, server_)),
              IsRejected(Rejection::kMalformed, GetParam().message));
}

using R = v1::MutableRecord;
INSTANTIATE_TEST_SUITE_P(
    Fields, BadRecordFieldTest,
    testing::Values(
        BadField{"Federation", [](R* r) { r->set_federation("North"); },
                 "federation 'North'"},
        BadField{"NoOwner", [](R* r) { r->clear_owner(); }, "owner: server"},
        BadField{"OwnerWithoutName", [](R* r) { r->set_owner("worker"); },
                 "found 'worker'"},
        BadField{"OwnerOfNoRole", [](R* r) { r->set_owner("king/x"); },
                 "found 'king/x'"},
        BadField{"OwnerNameBad", [](R* r) { r->set_owner("worker/X y"); },
                 "found 'worker/X y'"},
        BadField{"ServerByName", [](R* r) { r->set_owner("server/main"); },
                 "found 'server/main'"},
        BadField{"NoName", [](R* r) { r->clear_name(); }, "name: 1 to 128"},
        BadField{"LongName", [](R* r) { r->set_name(std::string(129, 'n')); },
                 "name: 1 to 128"},
        BadField{"NameBad", [](R* r) { r->set_name("head/\n"); },
                 "found 'head/\\n'"},
        BadField{"NoExpiry", [](R* r) { r->clear_expires_ms(); },
                 "expires_ms: more than 0 expected, found 0"},
        BadField{"NegativeExpiry", [](R* r) { r->set_expires_ms(-1); },
                 "expires_ms: more than 0 expected, found -1"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(RecordTest, Sign_BadNameOrExpiry_InvalidArgument) {
  v1::MutableRecord record = record_;
  record.set_name("Head");
  EXPECT_THAT(
      SignRecord(record, server_),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'Head'")));
  record = record_;
  record.clear_expires_ms();
  EXPECT_THAT(
      SignRecord(record, server_),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expires_ms")));
}

TEST_F(RecordTest, Sign_OverTheBound_ResourceExhausted) {
  v1::MutableRecord record = record_;
  record.set_value(std::string(kMaxRecordBytes, 'v'));
  EXPECT_THAT(
      SignRecord(record, server_),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("16384")));
  record.set_value(std::string(kMaxRecordBytes - 2'048, 'v'));
  EXPECT_OK(SignRecord(record, server_));
}

TEST_F(RecordTest, PinnedKey_CountsAsServerAndAsNobodyElse) {
  const LocalNode coordinator = PlainNode('c', "north", "server");
  RecordTrust trust = trust_;
  trust.pinned = {coordinator.key.public_key()};
  ASSERT_OK_AND_ASSIGN(const v1::Record record,
                       SignRecord(record_, coordinator));
  EXPECT_OK(OpenRecord(key_, record, trust, now_));
  EXPECT_THAT(Open(key_, record),
              IsRejected(Rejection::kUntrustedSigner, "not pinned"));
  v1::MutableRecord others = record_;
  others.set_owner("worker/ann");
  EXPECT_THAT(
      OpenRecord(KeyOf(others), SignAnyway(others, coordinator), trust, now_),
      IsRejected(Rejection::kUntrustedSigner, "without a certificate"));
}

TEST_F(RecordTest, Plaintext_AnyKeyCountsExceptForAPinnedServer) {
  const LocalNode coordinator = PlainNode('c', "north", "server");
  const LocalNode liar = PlainNode('l', "north", "server");
  const LocalNode worker = PlainNode('w', "north", "worker/w");
  RecordTrust trust = {.federation = "north", .authority = nullptr};
  const v1::Record head = *SignRecord(record_, coordinator);
  const v1::Record false_head = *SignRecord(record_, liar);
  const v1::Record workers = *SignRecord(record_, worker);
  const Key workers_key = MutableKey("north", "worker/w", record_.name());
  EXPECT_OK(OpenRecord(key_, head, trust, now_));
  EXPECT_OK(OpenRecord(key_, false_head, trust, now_));
  EXPECT_OK(OpenRecord(workers_key, workers, trust, now_));
  trust.pinned = {coordinator.key.public_key()};
  EXPECT_OK(OpenRecord(key_, head, trust, now_));
  EXPECT_THAT(OpenRecord(key_, false_head, trust, now_),
              IsRejected(Rejection::kUntrustedSigner, "not pinned"));
  EXPECT_OK(OpenRecord(workers_key, workers, trust, now_));
}

// Who is in no federation with TLS cannot judge a certificate, but has the
// signature and what was pinned.
TEST_F(RecordTest, Plaintext_CertificatesSayNothing) {
  const RecordTrust trust = {.federation = "north", .authority = nullptr};
  EXPECT_OK(OpenRecord(
      key_, SignAnyway(record_, north_.Node(Role::kWorker, "w")), trust, now_));
}

OpenedRecord At(uint64_t epoch, uint64_t sequence, const std::string& value) {
  OpenedRecord record;
  record.is_mutable = true;
  record.epoch = epoch;
  record.sequence = sequence;
  record.value = value;
  return record;
}

TEST(CompareTest, LargerEpochThenSequence_IsNewer) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  // Ascending.
  const OpenedRecord records[] = {At(0, 0, "z"),    At(0, 1, "y"),
                                  At(0, kMax, "x"), At(1, 0, "w"),
                                  At(1, 5, "v"),    At(kMax, 0, "u")};
  for (size_t i = 0; i < std::size(records); ++i) {
    for (size_t j = 0; j < std::size(records); ++j) {
      EXPECT_EQ(Compare(records[i], records[j]), i > j   ? Newer::kFirst
                                                 : i < j ? Newer::kSecond
                                                         : Newer::kSame)
          << i << " " << j;
    }
  }
}

TEST(CompareTest, SameValueSignedAgain_IsTheSame) {
  OpenedRecord later = At(1, 2, "v");
  later.expires = absl::FromUnixSeconds(5);
  EXPECT_EQ(Compare(At(1, 2, "v"), later), Newer::kSame);
}

TEST(CompareTest, EquallyNewWithAnotherValue_IsAConflictBothWays) {
  EXPECT_EQ(Compare(At(1, 2, "v"), At(1, 2, "w")), Newer::kConflict);
  EXPECT_EQ(Compare(At(1, 2, "w"), At(1, 2, "v")), Newer::kConflict);
  EXPECT_EQ(Compare(At(1, 2, ""), At(1, 2, "w")), Newer::kConflict);
}

TEST(NamesTest, OfTheCoordinatorsRecords_AreTheDocuments) {
  EXPECT_EQ(HeadName("digits"), "head/digits");
  EXPECT_EQ(VersionName("digits", 3), "version/digits/3");
  EXPECT_EQ(VersionName("digits", 0), "version/digits/0");
}

TEST(MutableKeyTest, Texts_CannotBeShiftedAgainstEachOther) {
  EXPECT_NE(MutableKey("a", "bc", "d"), MutableKey("ab", "c", "d"));
  EXPECT_NE(MutableKey("a", "b", "cd"), MutableKey("a", "bc", "d"));
  EXPECT_NE(MutableKey("", "a", "b"), MutableKey("a", "", "b"));
}

// The vectors of docs/formats/record.md.

constexpr char kVectorBody[] =
    "0a056e6f72746812067365727665721a0b686561642f6469676974732080a0f1"
    "c2b13428033080d88aecb1343a2408031220aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
constexpr char kVectorSignature[] =
    "8127801e92e82132488cfd4da6238eec7c90364e7c4cebb98e03b215fa057e98"
    "825cd0119b94da9b27ef89658f0ff2693a392f5f9aad13ea0512f31798cfc50c";

TEST(RecordVectorTest, Keys_AreTheDocuments) {
  EXPECT_EQ(ImmutableKey("hello").ToHex(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  EXPECT_EQ(MutableKey("north", "server", "head/digits").ToHex(),
            "00c016e274c179e1bfb536c1b3a81d9fa469b67e06d3862639cb4a1c5c6c2fbb");
}

TEST(RecordVectorTest, SignedByKeyA_IsTheDocuments) {
  const LocalNode key_a = PlainNode('\x01', "north", "server");
  EXPECT_EQ(key_a.key.public_key().ToHex(),
            "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
  EXPECT_EQ(absl::BytesToHexString(VectorRecord().SerializeAsString()),
            kVectorBody);
  ASSERT_OK_AND_ASSIGN(const v1::Record record,
                       SignRecord(VectorRecord(), key_a));
  v1::Signed envelope;
  envelope.set_body(absl::HexStringToBytes(kVectorBody));
  envelope.set_public_key(key_a.key.public_key().ToBytes());
  envelope.set_signature(absl::HexStringToBytes(kVectorSignature));
  EXPECT_EQ(absl::BytesToHexString(record.signed_record()),
            absl::BytesToHexString(envelope.SerializeAsString()));
  EXPECT_EQ(record.signed_record().size(), 184u);
}

}  // namespace
}  // namespace koinon::dht
