#include "aggregation/rules/fixed_point_mean.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// One window of the sink.
constexpr size_t kSlab = 64 * kFixedPointBlock;

double TotalWeight(absl::Span<const FixedPointPart> parts) {
  double total = 0;
  for (const FixedPointPart& part : parts) total += part.weight;
  return total;
}

class FixedPointAggregator final : public Aggregator {
 public:
  FixedPointAggregator(v1::AggregationSpec spec, FixedPoint format,
                       InstructionSet instruction_set)
      : spec_(std::move(spec)),
        format_(format),
        instruction_set_(instruction_set) {}

  absl::Status Validate(const UpdateSet& set) const override {
    if (!set.layout().AllF32()) {
      return absl::FailedPreconditionError(
          "fedavg needs a model of F32 tensors only");
    }
    if (set.size() == 0) {
      return absl::FailedPreconditionError(
          "fedavg needs at least 1 update, got 0");
    }
    const double total = TotalWeight(PartsOf(set));
    return total <= format_.total_weight ? absl::OkStatus()
                                         : TotalWeightError(format_, total);
  }

  bool UsesWeights() const override { return !spec_.fedavg().uniform(); }

  absl::StatusOr<v1::AggregationReport> Aggregate(
      const UpdateSet& set, const AggregationContext& context,
      UpdateSink* out) const override {
    ABSL_RETURN_IF_ERROR(Validate(set));
    const std::vector<FixedPointPart> parts = PartsOf(set);
    const double total_weight = TotalWeight(parts);
    std::vector<double> weights;
    for (const FixedPointPart& part : parts) {
      weights.push_back(FixedPointWeight(part.weight * part.discount));
    }
    const Rows rows = RowsOf(set);
    Mutex mutex;  // guards idle
    std::vector<std::vector<float>> idle;
    for (size_t begin = 0; begin < set.elements(); begin += kSlab) {
      const size_t count = std::min(kSlab, set.elements() - begin);
      const size_t blocks = (count + kFixedPointBlock - 1) / kFixedPointBlock;
      float* const window = out->Window(begin, count);
      std::vector<absl::Status> results(blocks);
      context.pool->ParallelFor(blocks, [&](size_t block) {
        std::vector<float> scratch;
        {
          MutexLock lock(&mutex);
          if (!idle.empty()) {
            scratch = std::move(idle.back());
            idle.pop_back();
          }
        }
        const size_t from = block * kFixedPointBlock;
        const size_t n = std::min(kFixedPointBlock, count - from);
        std::vector<int64_t> sums(n);
        results[block] = AddFixedPointRows(format_, set.layout(), rows, weights,
                                           begin + from, absl::MakeSpan(sums),
                                           instruction_set_, &scratch);
        FixedPointMean(format_, total_weight, sums,
                       absl::MakeSpan(window + from, n));
        MutexLock lock(&mutex);
        idle.push_back(std::move(scratch));
      });
      for (const absl::Status& result : results) {
        ABSL_RETURN_IF_ERROR(result);
      }
      ABSL_RETURN_IF_ERROR(out->Commit(begin, count));
    }
    return FixedPointReport(parts, instruction_set_);
  }

 private:
  std::vector<FixedPointPart> PartsOf(const UpdateSet& set) const {
    std::vector<FixedPointPart> parts;
    for (size_t i = 0; i < set.size(); ++i) {
      parts.push_back({set.worker(i), FixedPointWeightOf(spec_, set.weight(i)),
                       set.discount(i)});
    }
    return parts;
  }

  const v1::AggregationSpec spec_;
  const FixedPoint format_;
  const InstructionSet instruction_set_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Aggregator>> MakeFixedPointMean(
    const v1::AggregationSpec& spec, const AggregatorOptions& options) {
  ABSL_ASSIGN_OR_RETURN(const InstructionSet instruction_set,
                        ResolveInstructionSet(options.instruction_set));
  ABSL_ASSIGN_OR_RETURN(const FixedPoint format, FixedPoint::Of(spec.fedavg()));
  if (spec.pre_aggregation_size() > 0) {
    return absl::InvalidArgumentError(
        "aggregation.pre_aggregation: has to see all updates of a round, but "
        "aggregation.fedavg.arithmetic FIXED_POINT adds each one on arrival; "
        "expected arithmetic DOUBLE, or no pre_aggregation");
  }
  if (spec.fedavg().uniform() && spec.max_weight() > 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "aggregation.max_weight is %d, but aggregation.fedavg.uniform ignores "
        "weights: set one of them",
        spec.max_weight()));
  }
  return std::make_unique<FixedPointAggregator>(spec, format, instruction_set);
}

double FixedPointWeightOf(const v1::AggregationSpec& spec, double examples) {
  if (spec.fedavg().uniform()) return 1;
  if (spec.max_weight() > 0) {
    examples = std::min(examples, static_cast<double>(spec.max_weight()));
  }
  return FixedPointWeight(examples);
}

absl::Status AddFixedPointRows(const FixedPoint& format,
                               const ModelLayout& layout, const Rows& rows,
                               absl::Span<const double> weights, size_t offset,
                               absl::Span<int64_t> sums,
                               InstructionSet instruction_set,
                               std::vector<float>* scratch) {
  const size_t count = sums.size();
  scratch->resize(std::max(scratch->size(),
                           std::min(rows.size(), kFixedPointRows) * count));
  for (size_t first = 0; first < rows.size(); first += kFixedPointRows) {
    std::vector<FixedPointTerm> terms;
    const size_t last = std::min(rows.size(), first + kFixedPointRows);
    for (size_t i = first; i < last; ++i) {
      auto values = rows[i].values->Read(offset, count,
                                         scratch->data() + (i - first) * count);
      if (!values.ok()) return rows[i].Blame(values.status());
      terms.push_back({weights[i], *values});
    }
    const auto outlier = AddFixedPoint(format, terms, sums, instruction_set);
    if (outlier.has_value()) {
      return rows[first + outlier->term].Blame(OutlierError(
          format, layout.DescribeElement(offset + outlier->element),
          outlier->value));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteFixedPointMean(const FixedPoint& format, double total_weight,
                                 size_t elements, const ReadSums& read,
                                 UpdateSink* out) {
  std::vector<int64_t> sums(std::min(elements, kFixedPointBlock));
  for (size_t begin = 0; begin < elements; begin += kSlab) {
    const size_t count = std::min(kSlab, elements - begin);
    float* const window = out->Window(begin, count);
    for (size_t from = 0; from < count; from += kFixedPointBlock) {
      const size_t n = std::min(kFixedPointBlock, count - from);
      const auto block = absl::MakeSpan(sums).first(n);
      ABSL_RETURN_IF_ERROR(read(begin + from, block));
      FixedPointMean(format, total_weight, block,
                     absl::MakeSpan(window + from, n));
    }
    ABSL_RETURN_IF_ERROR(out->Commit(begin, count));
  }
  return absl::OkStatus();
}

v1::AggregationReport FixedPointReport(absl::Span<const FixedPointPart> parts,
                                       InstructionSet instruction_set) {
  v1::AggregationReport report;
  report.set_rule("fedavg");
  const double total = TotalWeight(parts);
  for (const FixedPointPart& part : parts) {
    v1::UpdateDecision* decision = report.add_updates();
    decision->set_worker(part.worker);
    decision->set_coefficient(part.weight * part.discount / total);
  }
  report.set_total_weight(total);
  report.set_instruction_set(std::string(InstructionSetName(instruction_set)));
  return report;
}

}  // namespace koinon::aggregation
