#include "coordinator/folds/sum_mean.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "base/status_macros.h"
#include "coordinator/folds/fold.h"

namespace koinon::coordinator {
namespace {

// A sum that is lost can be had again from the workers.
absl::Status Again(const absl::Status& status) {
  return status.ok() ? status
                     : absl::AbortedError(std::string(status.message()));
}

class SumMean final : public aggregation::Aggregator {
 public:
  SumMean(const Spool* spool, v1::AggregationSpec spec,
          aggregation::FixedPoint format, FoldRow row,
          aggregation::InstructionSet instruction_set)
      : spool_(spool),
        spec_(std::move(spec)),
        format_(format),
        row_(std::move(row)),
        instruction_set_(instruction_set) {}

  absl::Status Validate(const aggregation::UpdateSet& set) const override {
    if (set.size() == 0) {
      return absl::FailedPreconditionError(
          "fedavg needs at least 1 update, got 0");
    }
    if (row_.extent.size == SumBytes(set.layout())) return absl::OkStatus();
    return absl::AbortedError(
        absl::StrCat("a running sum of ", row_.extent.size,
                     " bytes, the model's has ", SumBytes(set.layout())));
  }

  absl::StatusOr<v1::AggregationReport> Aggregate(
      const aggregation::UpdateSet& set, const aggregation::AggregationContext&,
      aggregation::UpdateSink* out) const override {
    ABSL_RETURN_IF_ERROR(Validate(set));
    std::vector<aggregation::FixedPointPart> parts;
    for (size_t i = 0; i < set.size(); ++i) {
      parts.push_back(
          {.worker = set.worker(i),
           .weight = aggregation::FixedPointWeightOf(spec_, set.weight(i))});
    }
    v1::AggregationReport report =
        aggregation::FixedPointReport(parts, instruction_set_);
    SumReader reader(spool_, row_);
    ABSL_RETURN_IF_ERROR(aggregation::WriteFixedPointMean(
        format_, report.total_weight(), set.elements(),
        [&reader](size_t, absl::Span<int64_t> sums) {
          return Again(reader.Read(sums));
        },
        out));
    ABSL_RETURN_IF_ERROR(Again(reader.Check()));
    return report;
  }

 private:
  const Spool* const spool_;
  const v1::AggregationSpec spec_;
  const aggregation::FixedPoint format_;
  const FoldRow row_;
  const aggregation::InstructionSet instruction_set_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<aggregation::Aggregator>> MakeSumMean(
    const Spool* spool, const v1::AggregationSpec& spec, const FoldRow& row,
    const aggregation::AggregatorOptions& options) {
  ABSL_ASSIGN_OR_RETURN(
      const aggregation::InstructionSet instruction_set,
      aggregation::ResolveInstructionSet(options.instruction_set));
  ABSL_ASSIGN_OR_RETURN(const aggregation::FixedPoint format,
                        aggregation::FixedPoint::Of(spec.fedavg()));
  return std::make_unique<SumMean>(spool, spec, format, row, instruction_set);
}

absl::StatusOr<const float*> SummedSource::Read(size_t, size_t, float*) const {
  return absl::FailedPreconditionError(
      "the update was added to a running sum; its values are not kept");
}

}  // namespace koinon::coordinator
