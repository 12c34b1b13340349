#ifndef KOINON_WORKER_COLLECTIVE_MPI_LEADERS_H_
#define KOINON_WORKER_COLLECTIVE_MPI_LEADERS_H_

#include <mpi.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/collective/node_window.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {

// The exchange between the leaders of nodes, by MPI messages. Of each chunk,
// leader i gets slice i of every node's sum, adds them up in the order of the
// nodes, and sends the total to the others: every leader sends and receives
// twice the chunk, whatever the number of nodes, and the order of the sum is
// fixed. Slices stay where they are: a total is received over the node's own
// sum, once that has been sent.
//
// The communicator (of the leaders, in node order) and the waiter must outlive
// it. Used by one thread at a time.
class MpiLeaders final : public LeaderExchange {
 public:
  // chunk: elements of the largest chunk. name: of a node's leader.
  MpiLeaders(MPI_Comm leaders, size_t chunk, size_t depth, Waiter* waiter,
             std::function<std::string(int node)> name);
  ~MpiLeaders() override;

  absl::Status Start(size_t slot, absl::Span<float> values,
                     float scale) override;
  absl::Status Reduce(size_t slot) override;
  absl::Status Complete(size_t slot) override;
  absl::Status Drain(size_t slot) override;
  absl::Status Broadcast(absl::Span<char> bytes) override;

  // Lets messages move. Returns whether any are under way.
  bool Progress();

 private:
  struct Slot {
    absl::Span<float> values;
    float scale = 1;  // of this node's own slice, until it is added up
    std::vector<float> received;  // [nodes, largest slice]: slices of others
    // One for each node; MPI_REQUEST_NULL where nothing is under way.
    std::vector<MPI_Request> receives, sends, total_sends;
  };
  size_t SliceBegin(int node, size_t n) const;
  // All of `requests`, one for each node.
  absl::Status Await(std::vector<MPI_Request>* requests);
  // This leader's slice over all nodes, in their order.
  void AddUp(Slot* slot);

  const MPI_Comm leaders_;
  Waiter* const waiter_;
  const std::function<std::string(int)> name_;
  int node_ = 0;
  int nodes_ = 1;
  size_t slice_ = 0;
  std::vector<Slot> slots_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_LEADERS_H_
