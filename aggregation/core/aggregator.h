#ifndef KOINON_AGGREGATION_CORE_AGGREGATOR_H_
#define KOINON_AGGREGATION_CORE_AGGREGATOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "aggregation/core/instruction_set.h"
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

// What a rule may look at besides the updates.
struct AggregationContext {
  ThreadPool* pool = nullptr;
  // Decides what a rule leaves to chance (bucketing); follows from the job's
  // seed and the round.
  uint64_t seed = 0;
  // The previous round's aggregate, for rules that keep it (KeepsAggregate);
  // null: there was none, which counts as zero. P elements.
  const UpdateSource* previous = nullptr;
};

// One rule with its pre-aggregations: n updates in, one update out. Stateless
// and thread-safe.
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

  // Fewer updates than this can never be aggregated with these options; >= 1.
  virtual size_t MinUpdates() const { return 1; }

  // Whether so many updates are neither too few nor too many for the rule:
  // Validate's error about their number. More than MinUpdates may be too few
  // again where f is a part of them.
  virtual absl::Status CheckCount(size_t updates) const {
    return updates > 0 ? absl::OkStatus()
                       : absl::FailedPreconditionError(
                             "a rule needs at least 1 update, got 0");
  }

  // Whether example counts matter to the rule.
  virtual bool UsesWeights() const { return true; }

  // Whether the rule wants its last result as AggregationContext::previous.
  virtual bool KeepsAggregate() const { return false; }

  // Validate's errors, the sink's, or DATA_LOSS from a source (names the
  // worker). After an error the sink holds a part of the result.
  virtual absl::StatusOr<v1::AggregationReport> Aggregate(
      const UpdateSet& set, const AggregationContext& context,
      UpdateSink* out) const = 0;
};

struct AggregatorOptions {
  InstructionSet instruction_set = InstructionSet::kBest;
};

// The one factory. INVALID_ARGUMENT for options that contradict each other or
// an instruction set that this processor lacks.
absl::StatusOr<std::unique_ptr<Aggregator>> MakeAggregator(
    const v1::AggregationSpec& spec, const AggregatorOptions& options = {});

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_AGGREGATOR_H_
