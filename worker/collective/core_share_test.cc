#include "worker/collective/core_share.h"

#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

using Cores = std::vector<int>;

TEST(ShareOfCoresTest, Alone_IsAll) {
  EXPECT_EQ(ShareOfCores(Cores{0, 1, 2}, {{0, 1, 2}}), 3);
}

TEST(ShareOfCoresTest, NotBound_DividesTheNode) {
  const Cores all = {0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(ShareOfCores(all, {all, all}), 4);
  EXPECT_NEAR(ShareOfCores(all, {all, all, all}), 8.0 / 3, 1e-6);
  const Cores six = {0, 1, 2, 3, 4, 5};
  EXPECT_EQ(ShareOfCores(six, {six, six, six}), 2);  // no less by rounding
}

TEST(ShareOfCoresTest, Bound_UsesItsOwn) {
  EXPECT_EQ(ShareOfCores(Cores{2, 3}, {{0, 1}, {2, 3}}), 2);
  EXPECT_EQ(ShareOfCores(Cores{0}, {{0}, {1, 2, 3}}), 1);
  EXPECT_EQ(ShareOfCores(Cores{1, 2, 3}, {{0}, {1, 2, 3}}), 3);
}

TEST(ShareOfCoresTest, MoreRanksThanCores_IsLessThanOne) {
  EXPECT_EQ(ShareOfCores(Cores{0}, {{0}, {0}, {0}, {0}}), 0.25);
  EXPECT_EQ(ShareOfCores(Cores{}, {{}}), 0);
}

TEST(ThreadsOnTest, AnyShare_IsWholeAndAtLeastOne) {
  EXPECT_EQ(ThreadsOn(0), 1);
  EXPECT_EQ(ThreadsOn(0.25), 1);
  EXPECT_EQ(ThreadsOn(8.0 / 3), 2);
  const Cores three = {0, 1, 2};
  EXPECT_EQ(ThreadsOn(ShareOfCores(three, {three, three, three})), 1);
  const Cores six = {0, 1, 2, 3, 4, 5};
  EXPECT_EQ(ThreadsOn(ShareOfCores(six, {six, six, six})), 2);
}

TEST(EncodeCoresTest, AnyCores_ComeBack) {
  for (const Cores& cores :
       {Cores{}, Cores{0}, Cores{1, 7, 8, 63}, AllowedCores()}) {
    EXPECT_EQ(DecodeCores(EncodeCores(cores)), cores);
  }
  EXPECT_EQ(EncodeCores(Cores{3}).size(), kCoreMaskBytes);
}

TEST(EncodeCoresTest, CoresBeyondTheMask_AreLeftOut) {
  const int last = static_cast<int>(kCoreMaskBytes) * 8 - 1;
  EXPECT_EQ(DecodeCores(EncodeCores(Cores{2, last, last + 1})),
            (Cores{2, last}));
}

TEST(AllowedCoresTest, OfThisProcess_AreSome) {
  EXPECT_GE(AllowedCores().size(), 1u);
}

}  // namespace
}  // namespace koinon::worker
