#ifndef KOINON_AGGREGATION_CORE_AGGREGATOR_H_
#define KOINON_AGGREGATION_CORE_AGGREGATOR_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "aggregation/core/update_set.h"
#include "base/thread_pool.h"
#include "proto/job.pb.h"

namespace koinon::aggregation {

// Where an aggregate goes, block by block, in ascending order without gaps.
class UpdateSink {
 public:
  virtual ~UpdateSink() = default;
  // Room for elements [offset, offset + count), written concurrently by the
  // caller's threads until Commit of the same range.
  virtual float* Window(size_t offset, size_t count) = 0;
  virtual absl::Status Commit(size_t offset, size_t count) = 0;
};

// Into memory that somebody else keeps alive.
class MemorySink final : public UpdateSink {
 public:
  explicit MemorySink(absl::Span<float> out) : out_(out) {}
  float* Window(size_t offset, size_t) override { return out_.data() + offset; }
  absl::Status Commit(size_t, size_t) override { return absl::OkStatus(); }

 private:
  absl::Span<float> out_;
};

// What a rule decided, for the round's report.
struct AggregationReport {
  std::string rule;
  // Normalised weight of each update, in canonical order; sums to 1.
  std::vector<double> weights;
  double total_weight = 0;  // before normalisation
};

// One rule: n updates in, one update out. Stateless and thread-safe.
//
// The same updates give the same bytes, whatever the order of arrival and the
// number of threads.
class Aggregator {
 public:
  virtual ~Aggregator() = default;

  // Whether the rule can be applied to this set. FAILED_PRECONDITION says what
  // the rule needs and what it got (an empty set, zero total weight, too few
  // updates). Changes nothing.
  virtual absl::Status Validate(const UpdateSet& set) const = 0;

  // Validate's errors, the sink's, or DATA_LOSS from a source (names the
  // worker). After an error the sink holds a part of the result.
  virtual absl::StatusOr<AggregationReport> Aggregate(
      const UpdateSet& set, ThreadPool* pool, UpdateSink* out) const = 0;
};

// The one factory. INVALID_ARGUMENT for options that contradict each other.
absl::StatusOr<std::unique_ptr<Aggregator>> MakeAggregator(
    const v1::AggregationSpec& spec);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_AGGREGATOR_H_
