#include "worker/collective/bare_allreduce.h"

#include <mpi.h>

#include "base/status_macros.h"
#include "worker/collective/mpi_status.h"

namespace koinon::worker {

absl::Status BareAllReduce(absl::Span<const float> in, absl::Span<float> out) {
  return FromMpi(
      MPI_Allreduce(in.data(), out.data(), static_cast<int>(in.size()),
                    MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
      "MPI_Allreduce");
}

absl::Status BareAllReduceInPlace(absl::Span<float> values) {
  return FromMpi(MPI_Allreduce(MPI_IN_PLACE, values.data(),
                               static_cast<int>(values.size()), MPI_FLOAT,
                               MPI_SUM, MPI_COMM_WORLD),
                 "MPI_Allreduce");
}

absl::Status BareAllReduceInChunks(absl::Span<float> values, size_t chunk) {
  for (size_t begin = 0; begin < values.size(); begin += chunk) {
    ABSL_RETURN_IF_ERROR(BareAllReduceInPlace(values.subspan(begin, chunk)));
  }
  return absl::OkStatus();
}

}  // namespace koinon::worker
