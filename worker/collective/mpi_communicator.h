#ifndef KOINON_WORKER_COLLECTIVE_MPI_COMMUNICATOR_H_
#define KOINON_WORKER_COLLECTIVE_MPI_COMMUNICATOR_H_

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "worker/collective/communicator.h"

namespace koinon::worker {

// The ranks of MPI_COMM_WORLD. Those of one node sum and copy through memory
// that they share (NodeWindow); the first of each node exchange messages with
// those of the other nodes (MpiLeaders). An MpiSession must outlive it.
class MpiCommunicator final : public Communicator {
 public:
  struct Options {
    const Clock* clock = nullptr;  // must outlive it
    // How long a rank that is waited for may make no progress.
    absl::Duration patience = absl::Seconds(60);
    // Elements of a chunk, a multiple of 16. Zero: what is fastest in measured
    // machines.
    size_t chunk = 0;
    // For tests and benchmarks: take this many ranks for a node of its own.
    // Zero: ask MPI.
    int ranks_per_node = 0;
  };

  // Collective. FAILED_PRECONDITION without shared memory between the ranks of
  // a node.
  static absl::StatusOr<std::unique_ptr<MpiCommunicator>> Create(
      const Options& options);
  // Collective, unless a call failed; then it leaves all to Abort.
  ~MpiCommunicator() override;

  const Place& place() const override;
  std::string NameOf(int rank) const override;
  absl::Status AllReduce(absl::Span<float> values, float scale) override;
  using Communicator::AllReduce;
  absl::Status Broadcast(absl::Span<char> bytes) override;
  absl::StatusOr<std::vector<std::string>> AllGather(
      absl::string_view mine) override;
  absl::Status Announce(absl::string_view message) override;
  absl::StatusOr<std::string> AwaitAnnouncement() override;
  Totals totals() const override;
  bool broken() const override;
  std::vector<int> DeadRanks() const override;
  [[noreturn]] void Abort(absl::string_view reason) override;

 private:
  class Ranks;  // hides MPI
  explicit MpiCommunicator(std::unique_ptr<Ranks> ranks);
  const std::unique_ptr<Ranks> ranks_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_COMMUNICATOR_H_
