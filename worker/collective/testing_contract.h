#ifndef KOINON_WORKER_COLLECTIVE_TESTING_CONTRACT_H_
#define KOINON_WORKER_COLLECTIVE_TESTING_CONTRACT_H_

#include <cstddef>

#include "worker/collective/communicator.h"

namespace koinon::worker {

// What every Communicator keeps to. Each is run by all ranks at once, with
// GoogleTest's expectations.
void ExpectPlaceIsConsistent(Communicator* site);
// Of `n` values of very different sizes, whose sum depends on its order.
// Against ranks added in the order of nodes and node ranks.
void ExpectSumInFixedOrder(Communicator* site, size_t n);
void ExpectWeightedSum(Communicator* site);
// Many sums of changing sizes, one after another.
void ExpectManySums(Communicator* site);
void ExpectNanStays(Communicator* site);
void ExpectBroadcastOfFirst(Communicator* site, size_t n);
void ExpectGatherInRankOrder(Communicator* site);
void ExpectTooMuchIsNotGathered(Communicator* site);
void ExpectAnnouncementsInOrder(Communicator* site);
void ExpectErrorOfOneIsErrorOfAll(Communicator* site);
void ExpectOtherDigestIsNamed(Communicator* site);
void ExpectDoublesAddUp(Communicator* site);
void ExpectTotalsGrow(Communicator* site);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_TESTING_CONTRACT_H_
