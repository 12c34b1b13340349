#include "dht/swarm/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(RetentionTest, Newest_Three_DropsTheOlder) {
  EXPECT_THAT(VersionsToDrop({.newest = 3}, {0, 1, 2, 3, 4}, {}),
              ElementsAre(0, 1));
}

TEST(RetentionTest, Newest_CountsVersionsThatAreThere) {
  EXPECT_THAT(VersionsToDrop({.newest = 2}, {1, 5, 40}, {}), ElementsAre(1));
}

TEST(RetentionTest, Newest_Zero_KeepsAll) {
  EXPECT_THAT(VersionsToDrop({.newest = 0, .every = 3}, {0, 1, 2, 3}, {}),
              IsEmpty());
}

TEST(RetentionTest, Newest_MoreThanThereAre_KeepsAll) {
  EXPECT_THAT(VersionsToDrop({.newest = 9}, {0, 1, 2}, {}), IsEmpty());
  EXPECT_THAT(VersionsToDrop({.newest = 9}, {}, {}), IsEmpty());
}

TEST(RetentionTest, Every_Fourth_KeepsThoseAndVersionZero) {
  EXPECT_THAT(VersionsToDrop({.newest = 1, .every = 4},
                             {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {}),
              ElementsAre(1, 2, 3, 5, 6, 7, 9));
}

TEST(RetentionTest, Pinned_IsKeptWhateverThePolicySays) {
  EXPECT_THAT(VersionsToDrop({.newest = 1}, {0, 1, 2, 3}, {1, 77}),
              ElementsAre(0, 2));
}

TEST(RetentionTest, Newest_IsAlwaysKept) {
  for (int64_t newest = 1; newest < 4; ++newest) {
    const std::vector<int64_t> dropped =
        VersionsToDrop({.newest = newest}, {7, 8, 9}, {});
    EXPECT_THAT(dropped, ::testing::Not(::testing::Contains(9)));
  }
}

}  // namespace
}  // namespace koinon::dht
