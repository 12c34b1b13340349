#include "worker/collective/core_share.h"

#include "base/status_matchers.h"
#include "gtest/gtest.h"
#include "worker/collective/testing_communicator.h"

namespace koinon::worker {
namespace {

using Cores = std::vector<int>;

TEST(ShareOfCoresTest, Alone_IsAll) {
  EXPECT_EQ(ShareOfCores(Cores{0, 1, 2}, {{0, 1, 2}}), 3);
}

TEST(ShareOfCoresTest, NotBound_DividesTheNode) {
  const Cores all = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(ShareOfCores(all, {all, all}), 4);
  EXPECT_EQ(ShareOfCores(all, {all, all, all}), 2);
  const Cores three = {0, 1, 2};
  EXPECT_EQ(ShareOfCores(three, {three, three, three}), 1);
}

TEST(ShareOfCoresTest, Bound_UsesItsOwn) {
  EXPECT_EQ(ShareOfCores(Cores{2, 3}, {{0, 1}, {2, 3}}), 2);
  EXPECT_EQ(ShareOfCores(Cores{0}, {{0}, {1, 2, 3}}), 1);
  EXPECT_EQ(ShareOfCores(Cores{1, 2, 3}, {{0}, {1, 2, 3}}), 3);
}

TEST(ShareOfCoresTest, MoreRanksThanCores_IsOne) {
  EXPECT_EQ(ShareOfCores(Cores{0}, {{0}, {0}, {0}, {0}}), 1);
  EXPECT_EQ(ShareOfCores(Cores{}, {{}}), 1);
}

TEST(AgreeOnCoresTest, RanksOfOneProcess_ShareItsCores) {
  const int cores = static_cast<int>(AllowedCores().size());
  ASSERT_GE(cores, 1);
  for (const int ranks : {1, 2, 3}) {
    RunRanks({.ranks = ranks}, [&](Communicator* site) {
      ASSERT_OK_AND_ASSIGN(const int share, AgreeOnCores(site));
      EXPECT_EQ(share, std::max(1, cores / ranks));
    });
  }
}

}  // namespace
}  // namespace koinon::worker
