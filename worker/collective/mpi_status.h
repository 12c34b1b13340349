#ifndef KOINON_WORKER_COLLECTIVE_MPI_STATUS_H_
#define KOINON_WORKER_COLLECTIVE_MPI_STATUS_H_

#include <mpi.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace koinon::worker {

// Of an MPI call that returned `code`. UNAVAILABLE with MPI's own words: what
// MPI reports are the network and the other ranks.
inline absl::Status FromMpi(int code, absl::string_view call) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return absl::UnavailableError(
      absl::StrCat(call, ": ", std::string(text, static_cast<size_t>(length))));
}

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_STATUS_H_
