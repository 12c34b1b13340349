#include "dht/swarm/hash_list.h"

#include <string>
#include <vector>

#include "base/digest.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(HashListTest, EncodeThenDecode_TheSameInOrder) {
  const std::vector<Digest> hashes = {Sha256Of("b"), Sha256Of("a"), Digest()};
  const std::string bytes = EncodeHashes(hashes);
  EXPECT_EQ(bytes, Sha256Of("b").ToBytes() + Sha256Of("a").ToBytes() +
                       std::string(32, '\0'));
  const auto decoded = DecodeHashes(bytes);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(*decoded, hashes);
}

TEST(HashListTest, Nothing_IsNoHashes) {
  EXPECT_EQ(EncodeHashes({}), "");
  const auto decoded = DecodeHashes("");
  ASSERT_THAT(decoded, IsOk());
  EXPECT_THAT(*decoded, IsEmpty());
}

TEST(HashListTest, PartOfAHash_IsDataLoss) {
  for (const size_t size : {1, 31, 33, 95}) {
    EXPECT_THAT(DecodeHashes(std::string(size, 'x')),
                StatusIs(absl::StatusCode::kDataLoss,
                         HasSubstr("found " + std::to_string(size))));
  }
}

}  // namespace
}  // namespace koinon::dht
