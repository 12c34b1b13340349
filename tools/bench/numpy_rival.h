#ifndef KOINON_TOOLS_BENCH_NUMPY_RIVAL_H_
#define KOINON_TOOLS_BENCH_NUMPY_RIVAL_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "tools/bench/shared_memory.h"

namespace koinon::tools {

// NumPy in a child process that waits between measurements, so that they can be
// interleaved with ours, and that aggregates the same bytes. Not thread-safe.
class NumpyRival {
 public:
  struct Options {
    std::string python;  // path of the interpreter
    int threads = 1;     // OMP_NUM_THREADS, for its BLAS
    // [n][P] updates followed by [P] for answers. Must outlive the rival.
    const SharedFloats* memory = nullptr;
    size_t n = 0;
    size_t P = 0;
  };

  // NOT_FOUND, saying what is missing, if there is no interpreter or no NumPy.
  static absl::StatusOr<std::unique_ptr<NumpyRival>> Start(
      const Options& options, absl::Span<const double> weights);
  ~NumpyRival();

  // Seconds for one call of a form that the script knows, with its numbers
  // ("average", "trimmed_sort 20": aggregate_rival.py), as the mean over
  // `count` calls. The answer then lies behind the updates. UNAVAILABLE if the
  // child has died; DEADLINE_EXCEEDED if it hangs.
  absl::StatusOr<double> Measure(absl::string_view form, int count);

  // "numpy 1.24.2 with /usr/lib/.../libopenblasp-r0.3.21.so"
  const std::string& description() const { return description_; }

 private:
  NumpyRival(pid_t pid, int socket) : pid_(pid), socket_(socket) {}

  absl::Status Send(absl::string_view line);
  absl::StatusOr<std::string> ReceiveLine();

  const pid_t pid_;
  const int socket_;
  std::string received_;  // beyond the last line
  std::string description_;
};

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_NUMPY_RIVAL_H_
