#include "dht/swarm/leaf_hashes.h"

#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<uint8_t> Bytes(size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.NextUint64());
  return bytes;
}

// By OpenSSL, through the library's own wrapper.
std::vector<Digest> Expected(absl::Span<const uint8_t> bytes) {
  std::vector<Digest> hashes;
  while (!bytes.empty()) {
    const auto leaf = bytes.subspan(0, kLeafBytes);
    hashes.push_back(Sha256Of(absl::string_view(
        reinterpret_cast<const char*>(leaf.data()), leaf.size())));
    bytes.remove_prefix(leaf.size());
  }
  return hashes;
}

TEST(LeafHashesTest, NoBytes_NoLeaves) {
  EXPECT_THAT(LeafHashes({}), IsEmpty());
}

TEST(LeafHashesTest, KnownLeaf_KnownHash) {
  // printf abc | sha256sum
  const std::vector<uint8_t> abc = {'a', 'b', 'c'};
  EXPECT_THAT(LeafHashes(abc),
              ElementsAre(*Digest::FromHex(
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61"
                  "f20015ad")));
}

// More and fewer than there are lanes, and with a short one at the end.
TEST(LeafHashesTest, ManyLeaves_AsOneByOne) {
  for (const size_t leaves : {1, 7, 8, 9, 15, 16, 17, 31, 32, 50}) {
    for (const size_t more : {0, 1, 63, 64, 16383}) {
      const std::vector<uint8_t> bytes =
          Bytes(leaves * kLeafBytes + more, 17 * leaves + more);
      EXPECT_EQ(LeafHashes(bytes), Expected(bytes))
          << leaves << " leaves and " << more << " bytes";
    }
  }
}

TEST(LeafHashesTest, OneBitDiffers_OneHashDiffers) {
  std::vector<uint8_t> bytes = Bytes(16 * kLeafBytes, 3);
  const std::vector<Digest> before = LeafHashes(bytes);
  for (size_t leaf = 0; leaf < 16; ++leaf) {
    const size_t at = leaf * kLeafBytes + 1000 * leaf;
    bytes[at] ^= 0x80;
    const std::vector<Digest> after = LeafHashes(bytes);
    bytes[at] ^= 0x80;
    for (size_t other = 0; other < 16; ++other) {
      EXPECT_EQ(before[other] == after[other], other != leaf);
    }
  }
}

TEST(LeafHashesTest, BytesAtAnyAddress_TheSame) {
  const std::vector<uint8_t> bytes = Bytes(16 * kLeafBytes + 3, 4);
  for (size_t shift = 0; shift < 4; ++shift) {
    const auto part =
        absl::MakeConstSpan(bytes).subspan(shift, 16 * kLeafBytes);
    EXPECT_EQ(LeafHashes(part), Expected(part));
  }
}

}  // namespace
}  // namespace koinon::dht
