// The contract, on threads of one process. mpi_communicator_test has it on MPI.
#include "worker/collective/communicator.h"

#include "gtest/gtest.h"
#include "worker/collective/testing_communicator.h"
#include "worker/collective/testing_contract.h"

namespace koinon::worker {
namespace {

class CommunicatorTest : public ::testing::TestWithParam<int> {
 protected:
  void Run(const std::function<void(Communicator*)>& rank_main) {
    RunRanks({.ranks = GetParam()}, rank_main);
  }
};

TEST_P(CommunicatorTest, Place_OfEachRank_IsConsistent) {
  Run(ExpectPlaceIsConsistent);
}
TEST_P(CommunicatorTest, AllReduce_AnySize_SumsInFixedOrder) {
  for (const size_t n : {0, 1, 15, 16, 17, 255, 256, 257, 1024, 10007}) {
    Run([n](Communicator* site) { ExpectSumInFixedOrder(site, n); });
  }
}
TEST_P(CommunicatorTest, AllReduce_WithWeights_WeighsEachRank) {
  Run(ExpectWeightedSum);
}
TEST_P(CommunicatorTest, AllReduce_ManyInTurn_StayInStep) {
  Run(ExpectManySums);
}
TEST_P(CommunicatorTest, AllReduce_OfNan_KeepsItInItsPlace) {
  Run(ExpectNanStays);
}
TEST_P(CommunicatorTest, Broadcast_AnySize_IsFirstRanks) {
  for (const size_t n : {0, 1, 1023, 1024, 1025, 100000}) {
    Run([n](Communicator* site) { ExpectBroadcastOfFirst(site, n); });
  }
}
TEST_P(CommunicatorTest, Broadcast_BetweenSums_KeepsStep) {
  Run([](Communicator* site) {
    for (int i = 0; i < 20; ++i) {
      ExpectBroadcastOfFirst(site, 1 + 700 * static_cast<size_t>(i));
      ExpectSumInFixedOrder(site, 1 + 170 * static_cast<size_t>(i));
    }
  });
}
TEST_P(CommunicatorTest, AllGather_OfDifferentSizes_IsInRankOrder) {
  Run(ExpectGatherInRankOrder);
}
TEST_P(CommunicatorTest, AllGather_OfTooMuch_IsRefused) {
  Run(ExpectTooMuchIsNotGathered);
}
TEST_P(CommunicatorTest, Announce_Several_AreHeardInOrder) {
  Run(ExpectAnnouncementsInOrder);
}
TEST_P(CommunicatorTest, AgreeOnStatus_OneFailed_FailsEverywhere) {
  Run(ExpectErrorOfOneIsErrorOfAll);
}
TEST_P(CommunicatorTest, AgreeOnDigest_OneDiffers_NamesIt) {
  Run(ExpectOtherDigestIsNamed);
}
TEST_P(CommunicatorTest, SumDoubles_OfAll_AddsUp) { Run(ExpectDoublesAddUp); }
TEST_P(CommunicatorTest, Totals_AfterCalls_CountThem) { Run(ExpectTotalsGrow); }

INSTANTIATE_TEST_SUITE_P(Ranks, CommunicatorTest,
                         ::testing::Values(1, 2, 3, 4, 7));

}  // namespace
}  // namespace koinon::worker
