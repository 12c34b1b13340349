#ifndef KOINON_WORKER_COLLECTIVE_COMMUNICATOR_H_
#define KOINON_WORKER_COLLECTIVE_COMMUNICATOR_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/digest.h"

namespace koinon::worker {

// The ranks of one site, which are processes on one or more nodes, and what
// they do together. Rank 0 talks to the coordinator.
//
// AllReduce, Broadcast, AllGather and Barrier are collective: every rank makes
// the same calls in the same order with the same sizes. They return UNAVAILABLE
// and name a rank if it died or made no progress for too long; after that the
// communicator is of no use but for Abort.
//
// One call at a time; not necessarily from the same thread.
class Communicator {
 public:
  struct Place {
    int rank = 0;
    int size = 1;
    int node = 0;  // nodes are numbered by their lowest rank
    int nodes = 1;
    int node_rank = 0;  // among the ranks of this node
    int node_size = 1;
    double cores = 1;  // of its node, that fall to this rank (ShareOfCores)
    // The least that falls to any rank: the same on all of them.
    double least_cores = 1;
  };
  // What the collectives of this rank took since the start.
  struct Totals {
    int64_t bytes = 0;  // reduced or broadcast: the size of what was summed
    absl::Duration time;
  };

  static constexpr size_t kMaxGatheredBytes = 4096;
  static constexpr size_t kMaxAnnouncementBytes = size_t{256} << 20;

  virtual ~Communicator() = default;

  virtual const Place& place() const = 0;
  // "rank 3 (host b)". Requires 0 <= rank < size.
  virtual std::string NameOf(int rank) const = 0;

  // values: [n], any n, also beyond 2^31; become the sum over the ranks of
  // `scale`, each rank's own, times theirs. The sum's order is fixed: over the
  // ranks of a node in rank order, then over the nodes. So the same values give
  // the same bytes, on every rank and in every run.
  virtual absl::Status AllReduce(absl::Span<float> values, float scale) = 0;
  absl::Status AllReduce(absl::Span<float> values) {
    return AllReduce(values, 1);
  }

  // bytes become those of rank 0.
  virtual absl::Status Broadcast(absl::Span<char> bytes) = 0;

  // What every rank gave, in rank order. INVALID_ARGUMENT over
  // kMaxGatheredBytes, before anything is exchanged.
  virtual absl::StatusOr<std::vector<std::string>> AllGather(
      absl::string_view mine) = 0;

  // Returns once every rank has called it.
  absl::Status Barrier() { return AllGather("").status(); }

  // Rank 0 says something to all the others, who wait for it however long it
  // takes, asleep. INVALID_ARGUMENT over kMaxAnnouncementBytes.
  virtual absl::Status Announce(absl::string_view message) = 0;
  virtual absl::StatusOr<std::string> AwaitAnnouncement() = 0;

  virtual Totals totals() const = 0;

  // Whether a call failed because of another rank: only Abort is left.
  virtual bool broken() const = 0;
  // Ranks of this node whose processes are gone, as far as can be seen. Any
  // thread, at any time.
  virtual std::vector<int> DeadRanks() const { return {}; }

  // Ends all ranks of the site, this one included, as failed.
  [[noreturn]] virtual void Abort(absl::string_view reason) = 0;
};

// Collective. OK on every rank, or an error on every rank: that of the lowest
// rank whose `own` is one, with the rank's name before it.
absl::Status AgreeOnStatus(Communicator* communicator, const absl::Status& own);

// Collective. INTERNAL on every rank, naming one that differs from rank 0 and
// `what` it was about, unless all gave the same digest.
absl::Status AgreeOnDigest(Communicator* communicator, absl::string_view what,
                           const Digest& digest);

// Collective. values: [n] with n <= kMaxGatheredBytes / 8; become the sums over
// the ranks, in rank order.
absl::Status SumDoubles(Communicator* communicator, absl::Span<double> values);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_COMMUNICATOR_H_
