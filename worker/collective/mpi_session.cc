#include "worker/collective/mpi_session.h"

#include <mpi.h>

#include <cstdlib>

#include "base/status_macros.h"
#include "worker/collective/mpi_status.h"

namespace koinon::worker {

bool StartedByMpi() {
  // Open MPI's mpirun; PMIx (srun --mpi=pmix); PMI 1 and 2 (srun, Hydra).
  for (const char* name :
       {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  int provided = MPI_THREAD_SINGLE;
  // Several threads call MPI, never two at once.
  ABSL_RETURN_IF_ERROR(FromMpi(
      MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided),
      "MPI_Init_thread"));
  std::unique_ptr<MpiSession> session(new MpiSession);
  if (provided < MPI_THREAD_SERIALIZED) {
    return absl::FailedPreconditionError(
        "MPI: expected support of threads that take turns "
        "(MPI_THREAD_SERIALIZED), found less");
  }
  return session;
}

MpiSession::~MpiSession() { MPI_Finalize(); }

void MpiSession::Abort() {
  constexpr int kCode = 1;
  MPI_Abort(MPI_COMM_WORLD, kCode);
  std::_Exit(kCode);
}

}  // namespace koinon::worker
