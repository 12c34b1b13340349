#ifndef KOINON_WORKER_COLLECTIVE_MPI_SESSION_H_
#define KOINON_WORKER_COLLECTIVE_MPI_SESSION_H_

#include <memory>

#include "absl/status/statusor.h"

namespace koinon::worker {

// Whether this process was started by mpirun, srun or another launcher of MPI
// programs, as its environment tells. Does not touch MPI.
bool StartedByMpi();

// MPI, from its start to its end: once in a process, and only in one that takes
// part in a site of several ranks. All other objects that use MPI must be gone
// before it.
class MpiSession {
 public:
  // FAILED_PRECONDITION if MPI does not let several threads take turns.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start();
  // Ends MPI; waits for the other ranks to do the same.
  ~MpiSession();
  // Ends all ranks as failed, this one included, without waiting for any.
  [[noreturn]] static void Abort();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

 private:
  MpiSession() = default;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_SESSION_H_
