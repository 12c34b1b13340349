#include "coordinator/jobs/buffer_spec.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "aggregation/core/staleness.h"
#include "base/status_macros.h"
#include "coordinator/jobs/field_check.h"

namespace koinon::coordinator {
namespace {

constexpr int64_t kMaxSize = 1'000'000;
constexpr int64_t kMaxStaleness = 1'000'000;

// What the zero, or the absence, of a field stands for.
constexpr double kExponent = 0.5;  // the paper's
constexpr int64_t kStaleness = 20;

absl::Status CompleteDiscount(v1::BufferSpec* buffer) {
  switch (buffer->discount_case()) {
    case v1::BufferSpec::kConstant:
      return absl::OkStatus();
    case v1::BufferSpec::kThreshold:
      ABSL_RETURN_IF_ERROR(CheckInteger("buffer.threshold.staleness",
                                        buffer->threshold().staleness(), 0,
                                        kMaxStaleness));
      if (buffer->threshold().staleness() >= buffer->max_staleness()) {
        return FieldConflict(
            "buffer.threshold.staleness",
            absl::StrCat("is ", buffer->threshold().staleness(),
                         ", but no update is staler than buffer.max_staleness ",
                         buffer->max_staleness(),
                         ": the factor would never count; use constant {}, or "
                         "a lower threshold"));
      }
      return CheckNumber("buffer.threshold.factor",
                         buffer->threshold().factor(),
                         {.low = 0, .high = 1, .low_open = true});
    case v1::BufferSpec::kPolynomial:
    case v1::BufferSpec::DISCOUNT_NOT_SET:
      break;
  }
  if (buffer->polynomial().exponent() == 0) {
    buffer->mutable_polynomial()->set_exponent(kExponent);
  }
  return CheckNumber("buffer.polynomial.exponent",
                     buffer->polynomial().exponent(), {.low = 0, .high = 1});
}

absl::Status CompleteNormalise(const v1::AggregationSpec& aggregation,
                               v1::BufferSpec* buffer) {
  switch (buffer->normalise()) {
    case v1::BufferSpec::NORMALISE_UNSPECIFIED:
      buffer->set_normalise(v1::BufferSpec::BY_COUNT);
      return absl::OkStatus();
    case v1::BufferSpec::BY_COUNT:
      return absl::OkStatus();
    case v1::BufferSpec::BY_DISCOUNT:
      if (aggregation::UsesWeights(aggregation)) return absl::OkStatus();
      return FieldConflict(
          "buffer.normalise",
          "is BY_DISCOUNT, but the rule of aggregation does not look at "
          "weights, which the discounts would go into; expected BY_COUNT, or "
          "a rule that does (fedavg without uniform, median or "
          "geometric_median with weighted, multi_krum with FLOWER)");
    default:
      return FieldError("buffer.normalise", absl::StrCat(buffer->normalise()),
                        "BY_COUNT or BY_DISCOUNT");
  }
}

// A buffer that could not be filled. cohort.minimum is no less than what the
// rule can use.
absl::Status CheckSize(const v1::JobSpec& spec) {
  const int64_t size = spec.buffer().size();
  const v1::CohortSpec& cohort = spec.cohort();
  ABSL_RETURN_IF_ERROR(CheckInteger("buffer.size", size, 1, kMaxSize));
  if (cohort.target() > 0 && size > cohort.target()) {
    return FieldConflict(
        "buffer.size",
        absl::StrCat("is ", size, ", more than cohort.target ", cohort.target(),
                     ": a buffer takes one update of each worker at most, and "
                     "only so many are at work at once"));
  }
  if (cohort.minimum() > size) {
    return FieldConflict(
        "buffer.size",
        absl::StrCat("is ", size, ", less than cohort.minimum ",
                     cohort.minimum(),
                     " (the rule's own, if none is given): such a round could "
                     "never close"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CompleteBuffer(v1::JobSpec* spec) {
  if (!spec->has_buffer()) return absl::OkStatus();
  v1::BufferSpec* buffer = spec->mutable_buffer();
  if (!buffer->has_max_staleness()) buffer->set_max_staleness(kStaleness);
  ABSL_RETURN_IF_ERROR(CheckInteger("buffer.max_staleness",
                                    buffer->max_staleness(), 0, kMaxStaleness));
  ABSL_RETURN_IF_ERROR(CheckSize(*spec));
  ABSL_RETURN_IF_ERROR(CompleteDiscount(buffer));
  ABSL_RETURN_IF_ERROR(CompleteNormalise(spec->aggregation(), buffer));
  if (spec->cohort().over_selection() > 1) {
    return FieldConflict(
        "cohort.over_selection",
        absl::StrCat("is ", spec->cohort().over_selection(),
                     ", but a job with a buffer has no stragglers to make up "
                     "for: who is late counts in a later round; raise "
                     "cohort.target instead"));
  }
  if (spec->training().has_scaffold()) {
    return FieldConflict(
        "training.scaffold",
        "does not go together with buffer: control variates are differences "
        "to one version, and the updates of a buffer start from several");
  }
  return absl::OkStatus();
}

}  // namespace koinon::coordinator
