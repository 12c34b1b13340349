#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"
#include "dht/swarm/merkle.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

using Role = PeerIdentity::Role;

constexpr char kContext[] = "koinon manifest 1";

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

// The federation of the vectors, over TLS.
class ManifestTest : public testing::Test {
 protected:
  absl::StatusOr<v1::VersionManifest> Open(absl::string_view bytes) {
    return OpenManifest(bytes, trust_, now_);
  }
  std::string Sign(const v1::VersionManifest& manifest) {
    return *SignManifest(manifest, server_);
  }
  // Of a manifest that SignManifest would not sign.
  std::string SignAnyway(const v1::VersionManifest& manifest) {
    return SignBody(kContext, manifest.SerializeAsString(), server_)
        .SerializeAsString();
  }

  const absl::Time now_ = VectorTime();
  const TestFederation north_{"north", now_};
  const LocalNode server_ = north_.Server();
  const RecordTrust trust_ = north_.trust();
  const v1::VersionManifest manifest_ = VectorManifest();
};

TEST_F(ManifestTest, SignedByTheServer_IsOpened) {
  ASSERT_OK_AND_ASSIGN(const v1::VersionManifest opened, Open(Sign(manifest_)));
  EXPECT_EQ(opened.SerializeAsString(), manifest_.SerializeAsString());
}

TEST_F(ManifestTest, WithACertificate_TakesFarLessThanTheBound) {
  EXPECT_LE(Sign(manifest_).size(), 2'048u);
}

TEST_F(ManifestTest, AnyFlippedBit_IsRefused) {
  const std::string good = Sign(manifest_);
  std::set<std::string> reasons;
  for (size_t at = 0; at < good.size(); ++at) {
    const auto opened = Open(FlipBitOf(good, at));
    ASSERT_FALSE(opened.ok()) << "byte " << at;
    const auto rejection = RejectionOf(opened.status());
    ASSERT_TRUE(rejection.has_value()) << "byte " << at;
    reasons.insert(std::string(RejectionName(*rejection)));
  }
  EXPECT_THAT(reasons, testing::IsSupersetOf({"malformed", "forged"}));
}

TEST_F(ManifestTest, AnyTruncationOrAddition_IsRefused) {
  const std::string good = Sign(manifest_);
  for (size_t size = 0; size < good.size(); ++size) {
    const auto opened = Open(good.substr(0, size));
    ASSERT_FALSE(opened.ok()) << size;
    ASSERT_TRUE(RejectionOf(opened.status()).has_value()) << size;
  }
  EXPECT_THAT(Open(good + '\0'), IsRejected(Rejection::kMalformed, ""));
  EXPECT_THAT(Open(good + good), IsRejected(Rejection::kMalformed, ""));
}

TEST_F(ManifestTest, Oversize_IsRefusedBeforeItIsParsed) {
  const std::string rubbish(kMaxRecordBytes + 1, '\xff');
  EXPECT_THAT(Open(rubbish), IsRejected(Rejection::kOversize,
                                        "16385 bytes, expected at most 16384"));
  EXPECT_THAT(Open(rubbish.substr(1)), IsRejected(Rejection::kMalformed, ""));
}

TEST_F(ManifestTest, OfAnotherAuthority_UntrustedSigner) {
  const TestFederation other("north", now_);
  EXPECT_THAT(Open(*SignManifest(manifest_, other.Server())),
              IsRejected(Rejection::kUntrustedSigner, "does not stand"));
}

TEST_F(ManifestTest, SignedByOtherRoles_UntrustedSigner) {
  for (const Role role : {Role::kWorker, Role::kClient, Role::kNode}) {
    EXPECT_THAT(Open(*SignManifest(manifest_, north_.Node(role, "mallory"))),
                IsRejected(Rejection::kUntrustedSigner,
                           "/mallory has signed what only server may sign"));
  }
}

TEST_F(ManifestTest, ServersCertificateOverAnothersKey_UntrustedSigner) {
  LocalNode thief = PlainNode('t', "north", "server");
  thief.certificate_der = server_.certificate_der;
  EXPECT_THAT(
      Open(*SignManifest(manifest_, thief)),
      IsRejected(Rejection::kUntrustedSigner, "is not of the key that signed"));
}

TEST_F(ManifestTest, WithoutCertificateAndNotPinned_UntrustedSigner) {
  EXPECT_THAT(Open(*SignManifest(manifest_, PlainNode('p', "north", "server"))),
              IsRejected(Rejection::kUntrustedSigner, "without a certificate"));
}

TEST_F(ManifestTest, CertificateThatHasEnded_UntrustedSigner) {
  v1::VersionManifest lasting = manifest_;
  lasting.set_expires_ms(absl::ToUnixMillis(now_ + absl::Hours(24 * 60)));
  const std::string bytes = Sign(lasting);
  EXPECT_OK(OpenManifest(bytes, trust_, now_ + absl::Hours(24 * 29)));
  EXPECT_THAT(OpenManifest(bytes, trust_, now_ + absl::Hours(24 * 31)),
              IsRejected(Rejection::kUntrustedSigner, "expired"));
}

// Both are the server's, and good.
TEST_F(ManifestTest, CertificateExchangedForAnother_Forged) {
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(Sign(manifest_)));
  envelope.set_certificate(north_.Server().certificate_der);
  EXPECT_THAT(Open(envelope.SerializeAsString()),
              IsRejected(Rejection::kForged, server_.key.public_key().ToHex()));
}

TEST_F(ManifestTest, SignedInTheContextOfRecords_Forged) {
  EXPECT_THAT(
      Open(SignBody("koinon record 1", manifest_.SerializeAsString(), server_)
               .SerializeAsString()),
      IsRejected(Rejection::kForged, ""));
}

TEST_F(ManifestTest, KeyOrSignatureOfAnotherLength_Malformed) {
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(Sign(manifest_)));
  v1::Signed short_key = envelope;
  short_key.mutable_public_key()->pop_back();
  EXPECT_THAT(Open(short_key.SerializeAsString()),
              IsRejected(Rejection::kMalformed,
                         "public_key: 32 bytes "
                         "expected, found 31"));
  v1::Signed long_signature = envelope;
  long_signature.mutable_signature()->push_back('x');
  EXPECT_THAT(Open(long_signature.SerializeAsString()),
              IsRejected(Rejection::kMalformed,
                         "signature: 64 bytes "
                         "expected, found 65"));
}

TEST_F(ManifestTest, FromItsExpiryOn_Expired) {
  const std::string bytes = Sign(manifest_);
  const absl::Time expires = absl::FromUnixMillis(manifest_.expires_ms());
  EXPECT_OK(OpenManifest(bytes, trust_, expires - absl::Milliseconds(1)));
  EXPECT_THAT(OpenManifest(bytes, trust_, expires),
              IsRejected(Rejection::kExpired, "expired at "));
}

TEST_F(ManifestTest, OfAnotherFederation_WrongFederation) {
  const TestFederation south("south", now_);
  v1::VersionManifest manifest = manifest_;
  manifest.set_federation("south");
  EXPECT_THAT(
      Open(*SignManifest(manifest, south.Server())),
      IsRejected(Rejection::kWrongFederation, "'south', expected 'north'"));
}

TEST_F(ManifestTest, AnotherFormat_Malformed) {
  for (const uint32_t format : {0u, 2u, 1000u}) {
    v1::VersionManifest manifest = manifest_;
    manifest.set_format(format);
    // A later format may have other fields: what is said is the format.
    manifest.GetReflection()->MutableUnknownFields(&manifest)->AddVarint(99, 1);
    EXPECT_THAT(Open(SignAnyway(manifest)),
                IsRejected(Rejection::kMalformed,
                           absl::StrCat("format: 1 expected, found ", format)));
  }
}

TEST_F(ManifestTest, UnknownFieldAnywhere_Malformed) {
  v1::VersionManifest manifest = manifest_;
  for (google::protobuf::Message* part :
       {static_cast<google::protobuf::Message*>(&manifest),
        static_cast<google::protobuf::Message*>(manifest.mutable_content()),
        static_cast<google::protobuf::Message*>(
            manifest.mutable_provenance()->mutable_privacy()),
        static_cast<google::protobuf::Message*>(
            manifest.mutable_deltas(0)->mutable_content())}) {
    part->GetReflection()->MutableUnknownFields(part)->AddVarint(99, 1);
    EXPECT_THAT(Open(SignAnyway(manifest)),
                IsRejected(Rejection::kMalformed, "unknown fields"));
    part->GetReflection()->MutableUnknownFields(part)->Clear();
  }
  EXPECT_OK(Open(SignAnyway(manifest)));
  v1::Signed envelope;
  ASSERT_TRUE(envelope.ParseFromString(Sign(manifest_)));
  envelope.GetReflection()->MutableUnknownFields(&envelope)->AddVarint(99, 1);
  EXPECT_THAT(Open(envelope.SerializeAsString()),
              IsRejected(Rejection::kMalformed, "envelope: has unknown"));
}

// As long as the fields are the same, another order of them, a field twice or
// a default spelled out would be another record of the same manifest.
TEST_F(ManifestTest, WrittenInAnotherWay_Malformed) {
  const std::string body = manifest_.SerializeAsString();
  const std::string format = "\x08\x01";
  ASSERT_EQ(body.substr(0, 2), format);
  for (const std::string& other :
       {body.substr(2) + format, format + body,
        std::string("\x08\x81\x00", 3) + body.substr(2)}) {
    v1::VersionManifest same;
    ASSERT_TRUE(same.ParseFromString(other));
    ASSERT_EQ(same.SerializeAsString(), body);
    EXPECT_THAT(Open(SignBody(kContext, other, server_).SerializeAsString()),
                IsRejected(Rejection::kMalformed, "written in another way"));
  }
}

struct BadField {
  const char* name;
  std::function<void(v1::VersionManifest*)> spoil;
  const char* message;
};

class BadFieldTest : public ManifestTest,
                     public testing::WithParamInterface<BadField> {};

TEST_P(BadFieldTest, IsRefusedByReaderAndSigner) {
  v1::VersionManifest manifest = manifest_;
  GetParam().spoil(&manifest);
  EXPECT_THAT(Open(SignAnyway(manifest)),
              IsRejected(Rejection::kMalformed, GetParam().message));
  const auto bytes = SignManifest(manifest, server_);
  EXPECT_THAT(bytes, StatusIs(absl::StatusCode::kInvalidArgument,
                              HasSubstr(GetParam().message)));
  EXPECT_EQ(RejectionOf(bytes.status()), std::nullopt);
}

using M = v1::VersionManifest;
INSTANTIATE_TEST_SUITE_P(
    Fields, BadFieldTest,
    testing::Values(
        BadField{"Federation", [](M* m) { m->set_federation("North"); },
                 "federation 'North'"},
        BadField{"NoFederation", [](M* m) { m->clear_federation(); },
                 "federation is empty"},
        BadField{"Job", [](M* m) { m->set_job("../digits"); }, "job '"},
        BadField{"Submitted", [](M* m) { m->set_job_submitted_ms(-1); },
                 "job_submitted_ms: 0 or more expected, found -1"},
        BadField{"Version", [](M* m) { m->set_version(-1); },
                 "version: 0 or more expected, found -1"},
        BadField{"Digest", [](M* m) { m->mutable_digest()->pop_back(); },
                 "digest: 32 bytes expected, found 31"},
        BadField{"NoParent", [](M* m) { m->clear_parent_digest(); },
                 "parent_digest: 32 bytes expected, found 0"},
        BadField{"ParentOfTheFirst", [](M* m) { m->set_version(0); },
                 "parent_digest: none expected for version 0"},
        BadField{"Layout", [](M* m) { m->clear_layout_hash(); },
                 "layout_hash: 32 bytes expected, found 0"},
        BadField{"NoContent", [](M* m) { m->clear_content(); },
                 "content.root: 32 bytes expected, found 0"},
        BadField{"Size", [](M* m) { m->mutable_content()->set_size_bytes(-5); },
                 "size_bytes: 0 or more expected, found -5"},
        BadField{
            "PieceSize",
            [](M* m) { m->mutable_content()->set_piece_size_bytes(65'535); },
            "power of two"},
        BadField{"TooManyPieces",
                 [](M* m) {
                   m->mutable_content()->set_size_bytes(int64_t{1} << 62);
                 },
                 "2^31 pieces"},
        BadField{"Created", [](M* m) { m->set_created_ms(-1); },
                 "created_ms: 0 or more expected, found -1"},
        BadField{"ExpiresBeforeCreated",
                 [](M* m) { m->set_expires_ms(m->created_ms()); },
                 "expires_ms: later than created_ms"},
        BadField{"DeltaFromNothing",
                 [](M* m) { m->mutable_deltas(0)->clear_from_digest(); },
                 "deltas.from_digest: 32 bytes expected, found 0"},
        BadField{
            "DeltaFromItself",
            [](M* m) { m->mutable_deltas(0)->set_from_digest(m->digest()); },
            "deltas.from_digest: another version's"},
        BadField{
            "DeltaContent",
            [](M* m) { m->mutable_deltas(0)->mutable_content()->clear_root(); },
            "content.root"},
        BadField{"TooManyDeltas",
                 [](M* m) {
                   while (m->deltas_size() < 17) {
                     *m->add_deltas() = m->deltas(0);
                   }
                 },
                 "deltas: at most 16 expected, found 17"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(ManifestTest, FirstVersion_HasNoParent) {
  v1::VersionManifest manifest = manifest_;
  manifest.set_version(0);
  manifest.clear_parent_digest();
  manifest.clear_deltas();
  EXPECT_OK(Open(Sign(manifest)));
}

TEST_F(ManifestTest, Sign_OverTheBound_ResourceExhausted) {
  v1::VersionManifest manifest = manifest_;
  manifest.mutable_provenance()->set_rule(std::string(kMaxRecordBytes, 'r'));
  EXPECT_THAT(
      SignManifest(manifest, server_),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("16384")));
}

TEST_F(ManifestTest, Sign_OfAnotherFederation_InvalidArgument) {
  v1::VersionManifest manifest = manifest_;
  manifest.set_federation("south");
  EXPECT_THAT(SignManifest(manifest, server_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'north', expected, found 'south'")));
}

// Where the coordinator's certificate is another authority's.
TEST_F(ManifestTest, PinnedKey_CountsWithoutACertificate) {
  const LocalNode coordinator = PlainNode('c', "north", "server");
  const std::string bytes = *SignManifest(manifest_, coordinator);
  RecordTrust trust = trust_;
  EXPECT_THAT(OpenManifest(bytes, trust, now_),
              IsRejected(Rejection::kUntrustedSigner, "not pinned"));
  trust.pinned = {coordinator.key.public_key()};
  EXPECT_OK(OpenManifest(bytes, trust, now_));
  // Others under the authority count as before.
  EXPECT_OK(OpenManifest(Sign(manifest_), trust, now_));
  EXPECT_THAT(
      OpenManifest(*SignManifest(manifest_, north_.Node(Role::kWorker, "w")),
                   trust, now_),
      IsRejected(Rejection::kUntrustedSigner, "worker/w"));
}

TEST_F(ManifestTest, PinnedKey_AnyFlippedBitIsRefused) {
  RecordTrust trust = trust_;
  trust.pinned = {server_.key.public_key()};
  const std::string good = Sign(manifest_);
  ASSERT_OK(OpenManifest(good, trust, now_));
  for (size_t at = 0; at < good.size(); ++at) {
    ASSERT_THAT(OpenManifest(FlipBitOf(good, at), trust, now_),
                testing::Not(IsOk()))
        << "byte " << at;
  }
}

TEST_F(ManifestTest, Plaintext_AnyKeyCountsUntilOneIsPinned) {
  const LocalNode coordinator = PlainNode('c', "north", "server");
  const LocalNode other = PlainNode('o', "north", "worker/w");
  RecordTrust trust = {.federation = "north", .authority = nullptr};
  EXPECT_OK(OpenManifest(*SignManifest(manifest_, coordinator), trust, now_));
  EXPECT_OK(OpenManifest(*SignManifest(manifest_, other), trust, now_));
  trust.pinned = {coordinator.key.public_key()};
  EXPECT_OK(OpenManifest(*SignManifest(manifest_, coordinator), trust, now_));
  EXPECT_THAT(OpenManifest(*SignManifest(manifest_, other), trust, now_),
              IsRejected(Rejection::kUntrustedSigner, "not pinned"));
}

TEST_F(ManifestTest, Plaintext_AnyFlippedBitIsRefused) {
  const RecordTrust trust = {.federation = "north", .authority = nullptr};
  const std::string good =
      *SignManifest(manifest_, PlainNode('c', "north", "server"));
  for (size_t at = 0; at < good.size(); ++at) {
    ASSERT_THAT(OpenManifest(FlipBitOf(good, at), trust, now_),
                testing::Not(IsOk()))
        << "byte " << at;
  }
}

// Anybody can make signatures of a key of small order.
TEST_F(ManifestTest, KeyOfSmallOrder_Forged) {
  const RecordTrust trust = {.federation = "north", .authority = nullptr};
  v1::Signed envelope;
  envelope.set_body(manifest_.SerializeAsString());
  envelope.set_public_key("\x01" + std::string(31, '\0'));
  envelope.set_signature("\x01" + std::string(63, '\0'));
  EXPECT_THAT(OpenManifest(envelope.SerializeAsString(), trust, now_),
              IsRejected(Rejection::kForged, ""));
}

TEST(CheckManifestIsTest, SameVersion_Ok) {
  const v1::VersionManifest manifest = VectorManifest();
  EXPECT_OK(CheckManifestIs(manifest, "digits", 3, std::string(32, '\x11')));
}

TEST(CheckManifestIsTest, AnotherJobVersionOrDigest_Mismatch) {
  const v1::VersionManifest manifest = VectorManifest();
  const std::string digest(32, '\x11');
  EXPECT_THAT(CheckManifestIs(manifest, "letters", 3, digest),
              IsRejected(Rejection::kMismatch, "'digits', expected 'letters'"));
  EXPECT_THAT(CheckManifestIs(manifest, "digits", 4, digest),
              IsRejected(Rejection::kMismatch,
                         "version 3 of digits, expected "
                         "version 4"));
  EXPECT_THAT(CheckManifestIs(manifest, "digits", 3, std::string(32, '\x12')),
              IsRejected(Rejection::kMismatch, "expected 1212"));
}

// The vectors of docs/formats/manifest.md.

constexpr char kVectorBody[] =
    "080112056e6f7274681a066469676974732080a0f1c2b1342803322011111111"
    "111111111111111111111111111111111111111111111111111111113a202222"
    "2222222222222222222222222222222222222222222222222222222222224220"
    "3333333333333333333333333333333333333333333333333333333333333333"
    "4a2a0a2044444444444444444444444444444444444444444444444444444444"
    "4444444410c0843d18808004523c080710e8201a066665646176672100000000"
    "0000044029000000000000d03f31000000000000e83f3a1209000000000000f8"
    "3f11f168e388b5f8e43e58e0f4f4c2b13460e0ac8eecb1346a4e0a2022222222"
    "22222222222222222222222222222222222222222222222222222222122a0a20"
    "6666666666666666666666666666666666666666666666666666666666666666"
    "10c0cf2418808004";
constexpr char kVectorSignature[] =
    "484ae544a7ef6568b3b9731a80b6ab4a00371ced76baa1ce22403f3f2b44fe4d"
    "dcfebf151411e0718bc84f45cf1e11c1c7f1965b12b6a2768b3f2f7752e54001";

TEST(ManifestVectorTest, Body_IsTheDocuments) {
  EXPECT_EQ(absl::BytesToHexString(VectorManifest().SerializeAsString()),
            kVectorBody);
}

TEST(ManifestVectorTest, SignedByKeyA_IsTheDocuments) {
  const LocalNode key_a = PlainNode('\x01', "north", "server");
  ASSERT_OK_AND_ASSIGN(const std::string bytes,
                       SignManifest(VectorManifest(), key_a));
  v1::Signed envelope;
  envelope.set_body(absl::HexStringToBytes(kVectorBody));
  envelope.set_public_key(key_a.key.public_key().ToBytes());
  envelope.set_signature(absl::HexStringToBytes(kVectorSignature));
  EXPECT_EQ(absl::BytesToHexString(bytes),
            absl::BytesToHexString(envelope.SerializeAsString()));
  EXPECT_EQ(bytes.size(), 431u);
  EXPECT_EQ(ImmutableKey(bytes).ToHex(),
            "42b4bf8e26b29397dd6f7ef9834d331f2ca118347360001d77de307d1d525660");
  const RecordTrust trust = {.federation = "north",
                             .authority = nullptr,
                             .pinned = {key_a.key.public_key()}};
  EXPECT_OK(OpenManifest(bytes, trust, VectorTime()));
}

TEST(ManifestVectorTest, Trees_AreTheDocuments) {
  std::string counting(100'000, '\0');
  for (size_t i = 0; i < counting.size(); ++i) {
    counting[i] = static_cast<char>(i % 251);
  }
  const struct {
    std::string bytes;
    int64_t piece_size_bytes;
    const char* root;
  } cases[] = {
      {"", 65'536,
       "db56114e00fdd4c1f85c892bf35ac9a89289aaecb1ebd0a96cde606a748b5d71"},
      {"a", 16'384,
       "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},
      {"a", 65'536,
       "a8efe8010d28c9703af50f4293d734b397d1ed6fd7e7029aa6b18b7e7304db45"},
      {counting, 16'384,
       "505fc9a922f60ae071450b07256a4ba760612bffc38c27584ed03fd96c69841b"},
      {counting, 65'536,
       "505fc9a922f60ae071450b07256a4ba760612bffc38c27584ed03fd96c69841b"},
  };
  for (const auto& c : cases) {
    MerkleBuilder builder;
    builder.Append(c.bytes.data(), c.bytes.size());
    const auto size = static_cast<int64_t>(c.bytes.size());
    const MerkleTree tree = TreeOf(builder.Finish(), size, c.piece_size_bytes);
    EXPECT_EQ(absl::BytesToHexString(tree.content.root()), c.root)
        << size << " in pieces of " << c.piece_size_bytes;
  }
}

}  // namespace
}  // namespace koinon::dht
