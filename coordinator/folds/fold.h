#ifndef KOINON_COORDINATOR_FOLDS_FOLD_H_
#define KOINON_COORDINATOR_FOLDS_FOLD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/fixed_point.h"
#include "aggregation/core/instruction_set.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/model_layout.h"
#include "coordinator/journal/journal.h"
#include "coordinator/spool/spool.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// Running sums: what a round's updates become when they are added on arrival.
// A sum is one extent of the spool, an int64 (as the machine has it) for each
// parameter. It is never changed in place: adding updates writes the next sum
// to another extent, and the journal says which one counts.

// Whether the job's updates are added to a running sum on arrival. `spec` has
// its defaults filled in.
bool FoldsOnArrival(const v1::JobSpec& spec);

// Of a model's running sum.
inline uint64_t SumBytes(const ModelLayout& layout) {
  return layout.total_elements() * sizeof(int64_t);
}

// One whole, verified update in its extent of the spool.
struct FoldUpdate {
  WorkerId worker;
  SpoolExtent extent;
  double weight = 0;  // aggregation::FixedPointWeightOf
};

struct FoldInput {
  aggregation::FixedPoint format;
  ModelLayout layout;
  std::optional<FoldRow> from;  // nullopt: zero
  // Whether `from` is compared with its digest: it comes from an earlier
  // process, which a power cut may have ended.
  bool check_digest = false;
  SpoolExtent to;  // of SumBytes
  std::vector<FoldUpdate> updates;
  aggregation::InstructionSet instruction_set =
      aggregation::InstructionSet::kBest;
};

// Writes to `to` the sum `from` and all updates; returns the digest of what was
// written, which is not synced. Blocks only: memory does not grow with the
// model, nor with the number of updates beyond 16.
//
// Errors: one that blames a worker (BlamedWorker) for an update that cannot be
// read or has a value beyond the range; DATA_LOSS, blaming nobody, if `from`
// cannot be read or is not what its digest says; RESOURCE_EXHAUSTED if the disk
// is full; FAILED_PRECONDITION for an instruction set that the processor lacks;
// the spool's other ones. After an error `to` holds nothing of use,
// and all else is as it was.
absl::StatusOr<Digest> AddToSum(Spool* spool, const FoldInput& input);

// Reads a running sum in ascending order, and says at its end whether it was
// what its digest says. Not thread-safe.
class SumReader {
 public:
  // `spool` must outlive the reader. With `check` false Check is always OK.
  SumReader(const Spool* spool, FoldRow row, bool check = true)
      : spool_(spool), row_(std::move(row)), check_(check) {}

  // The next sums. DATA_LOSS if they cannot be read.
  absl::Status Read(absl::Span<int64_t> sums);
  // After the last one: DATA_LOSS if it is another sum.
  absl::Status Check();

 private:
  const Spool* const spool_;
  const FoldRow row_;
  const bool check_;
  uint64_t offset_ = 0;
  Sha256 hasher_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_FOLDS_FOLD_H_
