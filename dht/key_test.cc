#include "dht/key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;

// Keys of a fixed sequence, all over the space.
Key KeyNumber(int i) { return Sha256Of(absl::StrCat("key ", i)); }

Key KeyFromHex(const std::string& start) {
  return *Key::FromHex(start + std::string(64 - start.size(), '0'));
}

TEST(DistanceTest, OfAKeyToItself_IsZero) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(Distance(KeyNumber(i), KeyNumber(i)).IsZero());
  }
}

TEST(DistanceTest, AnyTwoKeys_IsSymmetricAndNotZero) {
  for (int i = 0; i < 100; ++i) {
    const Key a = KeyNumber(i);
    const Key b = KeyNumber(i + 1);
    EXPECT_EQ(Distance(a, b), Distance(b, a));
    EXPECT_FALSE(Distance(a, b).IsZero());
  }
}

// d(a, c) <= d(a, b) + d(b, c): XOR is addition without carries, so it is
// enough that the sum's XOR is the way over b.
TEST(DistanceTest, AnyThreeKeys_WayOverTheThirdIsTheXorOfItsParts) {
  for (int i = 0; i < 100; ++i) {
    const Key a = KeyNumber(i);
    const Key b = KeyNumber(i + 1);
    const Key c = KeyNumber(i + 2);
    EXPECT_EQ(Distance(a, c), Distance(Distance(a, b), Distance(b, c)));
  }
}

// For each key and distance there is one other key (Kademlia, section 2.1).
TEST(DistanceTest, KeyAndDistance_NameOneOtherKey) {
  for (int i = 0; i < 100; ++i) {
    const Key a = KeyNumber(i);
    const Key distance = KeyNumber(1000 + i);
    EXPECT_EQ(Distance(a, Distance(a, distance)), distance);
  }
}

TEST(CloserTest, AnyTriple_AgreesWithTheDistances) {
  for (int i = 0; i < 200; ++i) {
    const Key target = KeyNumber(i);
    const Key a = KeyNumber(i + 1);
    const Key b = KeyNumber(i + 2);
    EXPECT_EQ(Closer(target, a, b), Distance(target, a) < Distance(target, b));
    EXPECT_NE(Closer(target, a, b), Closer(target, b, a));
    EXPECT_FALSE(Closer(target, a, a));
    EXPECT_TRUE(Closer(target, target, a));
  }
}

TEST(CommonPrefixBitsTest, KnownKeys_AreCounted) {
  const Key zero;
  EXPECT_EQ(CommonPrefixBits(zero, zero), 256u);
  EXPECT_EQ(CommonPrefixBits(zero, KeyFromHex("80")), 0u);
  EXPECT_EQ(CommonPrefixBits(zero, KeyFromHex("7f")), 1u);
  EXPECT_EQ(CommonPrefixBits(zero, KeyFromHex("01")), 7u);
  EXPECT_EQ(CommonPrefixBits(zero, KeyFromHex("0080")), 8u);
  EXPECT_EQ(CommonPrefixBits(zero, KeyFromHex(std::string(63, '0') + "1")),
            255u);
}

TEST(KeyInBucketTest, EachBucket_SharesExactlySoManyBits) {
  for (size_t bits = 0; bits < 256; ++bits) {
    const Key key = KeyNumber(static_cast<int>(bits));
    const Key place = KeyInBucket(key, bits, KeyNumber(5000));
    EXPECT_EQ(CommonPrefixBits(key, place), bits);
  }
}

TEST(KeyInBucketTest, Rest_IsTheRandomBits) {
  const Key key = KeyNumber(1);
  const Key random = KeyNumber(2);
  const Key place = KeyInBucket(key, 8, random);
  EXPECT_EQ(place.bytes()[0], key.bytes()[0]);
  for (size_t i = 2; i < 32; ++i) {
    EXPECT_EQ(place.bytes()[i], random.bytes()[i]);
  }
  EXPECT_NE(place, KeyInBucket(key, 8, KeyNumber(3)));
}

TEST(KeyInBucketTest, AllBits_IsTheKey) {
  EXPECT_EQ(KeyInBucket(KeyNumber(1), 256, KeyNumber(2)), KeyNumber(1));
}

TEST(ContactTest, ToProtoAndBack_IsTheSame) {
  for (const char* address :
       {"", "fl.lab:7070", "127.0.0.1:1", "[::1]:65535", "node_1:80"}) {
    const Contact contact = {KeyNumber(1), address, "north"};
    ASSERT_OK_AND_ASSIGN(const Contact read,
                         ContactFromProto(ContactToProto(contact)));
    EXPECT_EQ(read, contact);
  }
}

TEST(ContactTest, IdOfAnotherLength_InvalidArgument) {
  for (const size_t size : {0u, 31u, 33u}) {
    v1::Contact proto;
    proto.set_node_id(std::string(size, 'x'));
    EXPECT_THAT(ContactFromProto(proto),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat("found ", size))));
  }
}

TEST(ContactTest, AddressThatIsNone_InvalidArgument) {
  for (const std::string& address :
       {std::string("fl.lab"), std::string(":7070"), std::string("fl.lab:"),
        std::string("fl.lab:0"), std::string("fl.lab:65536"),
        std::string("fl.lab:+1"), std::string("fl.lab:7070 "),
        std::string("unix:/run/x:1"), std::string("dns:///a:1"),
        std::string("ipv4:127.0.0.1:1"), std::string("::1:80"),
        std::string("[]:80"), std::string("[::1]80"), std::string("a b:80"),
        std::string("a\n:80"), std::string("a\0b:80", 6)}) {
    v1::Contact proto = ContactToProto({KeyNumber(1), "", ""});
    proto.set_address(address);
    EXPECT_THAT(
        ContactFromProto(proto),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << address;
  }
}

TEST(ValidateAdvertisedTest, WhatOthersCanCall_IsOk) {
  for (const char* address : {"fl.lab:7070", "127.0.0.1:1", "[::1]:65535",
                              "[fe80::1]:80", "node_1:80", "0.0.0.1:80"}) {
    EXPECT_OK(ValidateAdvertised(address)) << address;
  }
}

// What others would refuse in a contact is to be refused where it is said.
TEST(ValidateAdvertisedTest, WhatContactsDoNotCarry_InvalidArgument) {
  for (const std::string& address :
       {std::string("::1:7172"), std::string("[fe80::1%eth0]:80"),
        std::string("b\xc3\xbc"
                    "cher.example:80"),
        std::string("fl.lab:0"), std::string("fl.lab"), std::string("")}) {
    EXPECT_THAT(
        ValidateAdvertised(address),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")))
        << address;
  }
}

TEST(ValidateAdvertisedTest, EveryAddressOfAMachine_InvalidArgument) {
  for (const char* address :
       {"0.0.0.0:7171", "0:7171", "0x0:7171", "[::]:7171", "[0::0]:7171",
        "[0:0:0:0:0:0:0:0]:7171", "[::ffff:0.0.0.0]:7171"}) {
    EXPECT_OK(ValidateAddress(address)) << address;
    EXPECT_THAT(ValidateAdvertised(address),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("every address")))
        << address;
  }
}

TEST(IsWildcardHostTest, WithAndWithoutBrackets) {
  for (const char* host : {"", "*", "0.0.0.0", "::", "[::]", "[0::0]"}) {
    EXPECT_TRUE(IsWildcardHost(host)) << host;
  }
  for (const char* host : {"::1", "[::1]", "10.0.0.0", "fl.lab", "["}) {
    EXPECT_FALSE(IsWildcardHost(host)) << host;
  }
}

TEST(ContactTest, LongAddressOrBadSite_InvalidArgument) {
  v1::Contact proto = ContactToProto({KeyNumber(1), "", ""});
  proto.set_address(std::string(kMaxAddressBytes, 'a') + ":80");
  EXPECT_THAT(ContactFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 259 bytes")));
  proto.set_address("");
  proto.set_site("North Wing");
  EXPECT_THAT(ContactFromProto(proto),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("site")));
}

}  // namespace
}  // namespace koinon::dht
