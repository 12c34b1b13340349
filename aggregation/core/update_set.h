#ifndef KOINON_AGGREGATION_CORE_UPDATE_SET_H_
#define KOINON_AGGREGATION_CORE_UPDATE_SET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/finite_scanner.h"  // IWYU pragma: export
#include "base/digest.h"
#include "base/ids.h"
#include "base/model_layout.h"

namespace koinon::aggregation {

// The parameters of one update, read block by block so that a round needs
// memory for blocks, not for updates. Thread-safe.
class UpdateSource {
 public:
  virtual ~UpdateSource() = default;
  // Elements [offset, offset + count): a pointer into memory that lives as long
  // as the source, or to `scratch` ([count]) after filling it. DATA_LOSS if
  // the bytes cannot be read any more.
  virtual absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                            float* scratch) const = 0;
};

// Values in memory that somebody else keeps alive.
class MemorySource final : public UpdateSource {
 public:
  explicit MemorySource(absl::Span<const float> values) : values_(values) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;

 private:
  absl::Span<const float> values_;
};

struct Update {
  WorkerId worker;
  // The number of examples behind the update; its weight in weighted rules.
  double weight = 0;
  // The update counts as this many times its values, (0, 1]: the discount for
  // staleness in buffered rounds. Every rule sees the product.
  double discount = 1;
  int64_t base_version = 0;
  Digest layout_hash;
  size_t elements = 0;
  std::unique_ptr<UpdateSource> values;
};

// An update that was left out, and why.
struct Refusal {
  WorkerId worker;
  absl::Status reason;
};

// The n updates of one round, each of P parameters, in canonical order
// (ascending worker id), so that what is computed from them depends neither on
// the order of arrival nor on threads. ALGORITHMS: the ingress contract.
// Immutable; thread-safe.
class UpdateSet {
 public:
  struct Expected {
    ModelLayout layout;  // all F32
    int64_t base_version = 0;
    // Updates may start from versions as old as base_version - max_staleness.
    int64_t max_staleness = 0;
    double max_weight = 0;  // larger weights are capped to it; 0: no cap
  };

  // A larger count is no number of examples (and not exact in a double).
  static constexpr double kLargestWeight = 9007199254740992.0;  // 2^53

  // Sorts, and drops each update that breaks the contract, adding it to
  // `refusals` (in canonical order) with a message that names the worker:
  // INVALID_ARGUMENT for a wrong layout or size, and for a weight that is not
  // finite, zero, negative, or over kLargestWeight without a cap, or a discount
  // outside (0, 1]; FAILED_PRECONDITION for a base version that is newer or too
  // old; ALREADY_EXISTS for a worker's
  // second good update (in the order given).
  static UpdateSet Create(Expected expected, std::vector<Update> updates,
                          std::vector<Refusal>* refusals);

  size_t size() const { return updates_.size(); }                        // n
  size_t elements() const { return expected_.layout.total_elements(); }  // P
  const ModelLayout& layout() const { return expected_.layout; }
  const WorkerId& worker(size_t i) const { return updates_[i].worker; }
  // Finite, > 0, capped.
  double weight(size_t i) const { return updates_[i].weight; }
  // (0, 1]
  double discount(size_t i) const { return updates_[i].discount; }
  // The largest staleness that was allowed; 0 in synchronous rounds.
  int64_t max_staleness() const { return expected_.max_staleness; }
  // Versions published since the one that it started from.
  int64_t staleness(size_t i) const {
    return expected_.base_version - updates_[i].base_version;
  }
  const UpdateSource& values(size_t i) const { return *updates_[i].values; }

 private:
  explicit UpdateSet(Expected expected) : expected_(std::move(expected)) {}

  Expected expected_;
  std::vector<Update> updates_;
};

// `reason` with the worker's id in its message and as a payload, so that the
// caller of a whole round knows whose update to leave out and need not parse.
absl::Status BlameWorker(const WorkerId& worker, const absl::Status& reason);
// The worker that BlameWorker named; nullopt for any other status.
std::optional<WorkerId> BlamedWorker(const absl::Status& status);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_UPDATE_SET_H_
