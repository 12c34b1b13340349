// The contract, on MPI. Run by mpirun: every rank runs every test.
#include "worker/collective/mpi_communicator.h"

#include <cstdlib>
#include <memory>

#include "gtest/gtest.h"
#include "worker/collective/mpi_session.h"
#include "worker/collective/testing_contract.h"

namespace koinon::worker {
namespace {

const RealClock* real_clock = nullptr;
int ranks_per_node = 0;
Communicator* site = nullptr;

MpiCommunicator::Options OptionsOfTest() {
  MpiCommunicator::Options options;
  options.clock = real_clock;
  options.ranks_per_node = ranks_per_node;
  return options;
}

TEST(MpiCommunicatorTest, Place_OfEachRank_IsConsistent) {
  ExpectPlaceIsConsistent(site);
  if (ranks_per_node == 0) {
    EXPECT_EQ(site->place().nodes, 1);
  } else {
    EXPECT_EQ(site->place().nodes,
              (site->place().size + ranks_per_node - 1) / ranks_per_node);
  }
}
TEST(MpiCommunicatorTest, AllReduce_AnySize_SumsInFixedOrder) {
  for (const size_t n : {0, 1, 15, 16, 17, 65536, 131073, 3000017}) {
    ExpectSumInFixedOrder(site, n);
  }
}
TEST(MpiCommunicatorTest, AllReduce_WithWeights_WeighsEachRank) {
  ExpectWeightedSum(site);
}
TEST(MpiCommunicatorTest, AllReduce_ManyInTurn_StayInStep) {
  ExpectManySums(site);
}
TEST(MpiCommunicatorTest, AllReduce_OfNan_KeepsItInItsPlace) {
  ExpectNanStays(site);
}
TEST(MpiCommunicatorTest, Broadcast_AnySize_IsFirstRanks) {
  for (const size_t n : {0, 1, 65536, 262145, 5000011}) {
    ExpectBroadcastOfFirst(site, n);
  }
}
TEST(MpiCommunicatorTest, Broadcast_BetweenSums_KeepsStep) {
  for (int i = 0; i < 20; ++i) {
    ExpectBroadcastOfFirst(site, 1 + 70000 * static_cast<size_t>(i));
    ExpectSumInFixedOrder(site, 1 + 17000 * static_cast<size_t>(i));
  }
}
TEST(MpiCommunicatorTest, AllGather_OfDifferentSizes_IsInRankOrder) {
  ExpectGatherInRankOrder(site);
}
TEST(MpiCommunicatorTest, AllGather_OfTooMuch_IsRefused) {
  ExpectTooMuchIsNotGathered(site);
}
TEST(MpiCommunicatorTest, Announce_Several_AreHeardInOrder) {
  ExpectAnnouncementsInOrder(site);
}
TEST(MpiCommunicatorTest, AgreeOnStatus_OneFailed_FailsEverywhere) {
  ExpectErrorOfOneIsErrorOfAll(site);
}
TEST(MpiCommunicatorTest, AgreeOnDigest_OneDiffers_NamesIt) {
  ExpectOtherDigestIsNamed(site);
}
TEST(MpiCommunicatorTest, SumDoubles_OfAll_AddsUp) { ExpectDoublesAddUp(site); }
TEST(MpiCommunicatorTest, Totals_AfterCalls_CountThem) {
  ExpectTotalsGrow(site);
}
TEST(MpiCommunicatorTest, AllReduce_ChunksOfOtherSizes_GiveTheSameBytes) {
  for (const size_t chunk : {16, 4096}) {
    MpiCommunicator::Options options = OptionsOfTest();
    options.chunk = chunk;
    auto other = MpiCommunicator::Create(options);
    ASSERT_TRUE(other.ok()) << other.status();
    ExpectSumInFixedOrder(other->get(), 10007);
  }
}

}  // namespace
}  // namespace koinon::worker

// mpi_communicator_test [RANKS_PER_NODE]
int main(int argc, char** argv) {
  using namespace koinon::worker;  // NOLINT
  ::testing::InitGoogleTest(&argc, argv);
  auto session = MpiSession::Start();
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.status().ToString().c_str());
    return 1;
  }
  const koinon::RealClock clock;
  real_clock = &clock;
  if (argc > 1) ranks_per_node = std::atoi(argv[1]);
  auto communicator = MpiCommunicator::Create(OptionsOfTest());
  if (!communicator.ok()) {
    std::fprintf(stderr, "%s\n", communicator.status().ToString().c_str());
    return 1;
  }
  site = communicator->get();
  return RUN_ALL_TESTS();
}
