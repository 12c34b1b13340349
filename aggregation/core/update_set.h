#ifndef KOINON_AGGREGATION_CORE_UPDATE_SET_H_
#define KOINON_AGGREGATION_CORE_UPDATE_SET_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
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
    double max_weight = 0;  // larger weights are capped to it; 0: no cap
  };

  // Sorts, and drops each update that breaks the contract (wrong layout, size or
  // base version; weight not finite, zero or negative; a worker's second
  // update), adding it to `refusals` with a message that names the worker.
  static UpdateSet Create(Expected expected, std::vector<Update> updates,
                          std::vector<Refusal>* refusals);

  size_t size() const { return updates_.size(); }  // n
  size_t elements() const;                         // P
  const ModelLayout& layout() const { return expected_.layout; }
  const WorkerId& worker(size_t i) const { return updates_[i].worker; }
  // Finite, > 0, capped.
  double weight(size_t i) const { return updates_[i].weight; }
  const UpdateSource& values(size_t i) const { return *updates_[i].values; }

 private:
  Expected expected_;
  std::vector<Update> updates_;
};

// Finds NaN and infinities in a stream of little-endian fp32 bytes that comes in
// pieces of any length. A value; not thread-safe.
class FiniteScanner {
 public:
  void Scan(absl::Span<const char> bytes);
  // INVALID_ARGUMENT that names the tensor and index of the first non-finite
  // element seen: "fc1.weight[17] is NaN".
  absl::Status Check(const ModelLayout& layout) const;

 private:
  uint64_t scanned_bytes_ = 0;
  unsigned char partial_[4] = {};
  int64_t first_bad_element_ = -1;
  bool first_bad_is_nan_ = false;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_UPDATE_SET_H_
