#ifndef KOINON_TOOLS_BENCH_MPI_BENCH_H_
#define KOINON_TOOLS_BENCH_MPI_BENCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "worker/collective/communicator.h"

namespace koinon::bench {

struct MpiBenchOptions {
  std::vector<int64_t> sizes;  // bytes that are summed; multiples of 4
  // Of FindTrainBenchModel, trained with the ranks' gradients summed.
  std::vector<std::string> models;
  size_t batch_size = 0;  // of one rank alone; 0: each model's own
  bool bfloat16 = false;
  // Sums and trainings are done in turn, each so many times; figures are
  // medians.
  int repetitions = 7;
  absl::Duration block = absl::Milliseconds(500);  // of one training
};

// Bytes summed by the second: 1e9 of them.
struct SumFigure {
  int64_t bytes = 0;
  double ours = 0;
  double bare = 0;            // one MPI_Allreduce, out of place
  double in_place = 0;        // one, in place
  double chunked = 0;         // in place, 128 Ki elements at a time
  double times_bare = 0;      // median of the ratios of a repetition
  double times_in_place = 0;  // likewise
};

// What ranks make of one more rank can be asked in two ways: each has a batch
// of its own, as large as that of one rank alone (the site's is so many times
// larger), or they divide that batch, as a worker's ranks do with a task's.
enum class BatchForm { kPerRank, kDivided };

struct SiteFigure {
  std::string model;
  BatchForm form = BatchForm::kPerRank;
  size_t batch_size = 0;  // of one rank alone
  // Examples per second: of one rank, the others asleep;
  double alone = 0;
  double apart = 0;     // of all ranks at once, each without the others;
  double together = 0;  // of all ranks, with their gradients summed.
  // Medians of the ratios of a repetition: of together to alone, and of apart
  // to alone, which is what sums without any cost would come to.
  double speedup = 0;
  double ceiling = 0;
  int64_t step_bytes = 0;
  double sum_rate = 0;  // 1e9 bytes per second, in the midst of training
  double hidden = 0;    // share of the sums' time that nobody waited for
  double waited = 0;    // share of the steps' time that was waiting
};

struct MpiBenchFigures {
  worker::Communicator::Place place;
  std::vector<SumFigure> sums;
  std::vector<SiteFigure> sites;
};

// Collective: all ranks of `site`, which are all of MPI_COMM_WORLD, with the
// same options. Sums are compared before they are timed: INTERNAL if they
// differ. INVALID_ARGUMENT for options out of range, NOT_FOUND for an unknown
// model.
absl::StatusOr<MpiBenchFigures> RunMpiBench(const MpiBenchOptions& options,
                                            const Clock& clock,
                                            worker::Communicator* site);

std::string MpiBenchTable(const MpiBenchFigures& figures);
std::string MpiBenchJson(const MpiBenchFigures& figures);

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_MPI_BENCH_H_
