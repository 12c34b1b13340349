#ifndef KOINON_WORKER_COLLECTIVE_MPI_MESSAGES_H_
#define KOINON_WORKER_COLLECTIVE_MPI_MESSAGES_H_

#include <mpi.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/collective/mpi_roster.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {

// What ranks tell each other beside sums, by MPI messages to and from rank 0:
// Communicator's AllGather and announcements, and why they cannot go on.
//
// The roster and the waiter must outlive it. Used by one thread at a time.
class MpiMessages {
 public:
  MpiMessages(const MpiRoster* roster, Waiter* waiter)
      : roster_(roster), waiter_(waiter) {}

  // As Communicator's.
  absl::StatusOr<std::vector<std::string>> Gather(absl::string_view mine);
  absl::Status Announce(absl::string_view message);
  absl::StatusOr<std::string> AwaitAnnouncement();

  // A call failed with `seen`. Rank 0 gets the reason that another, which sees
  // it from nearer by, has told it, if one has; another tells it, and gets
  // `seen` back.
  absl::Status Explained(const absl::Status& seen);

 private:
  int rank() const { return roster_->place().rank; }
  int size() const { return roster_->place().size; }
  absl::Status AwaitRequest(MPI_Request* request, int whom,
                            absl::Duration grace, MPI_Status* status);
  absl::StatusOr<std::vector<std::string>> GatherAtFirst(
      absl::string_view mine);
  absl::StatusOr<std::vector<std::string>> GatherFromFirst(
      absl::string_view mine);
  void Explain(const absl::Status& seen);

  const MpiRoster* const roster_;
  Waiter* const waiter_;
  std::string explanation_;  // on its way to rank 0
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_MESSAGES_H_
