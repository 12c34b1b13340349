#include "coordinator/publish/control_sink.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::coordinator {

ControlSink::ControlSink(size_t first_control, ControlStep step,
                         const aggregation::UpdateSource* base,
                         aggregation::UpdateSink* next)
    : first_control_(first_control), step_(step), base_(base), next_(next) {}

float* ControlSink::Window(size_t offset, size_t count) {
  window_ = next_->Window(offset, count);
  return window_;
}

absl::Status ControlSink::Commit(size_t offset, size_t count) {
  const size_t first =
      std::clamp(first_control_, offset, offset + count) - offset;
  const size_t controls = count - first;
  // Everybody took part, as before: nothing to scale, nothing to round.
  if (step_.kept == 1 && step_.share != 1) {
    for (size_t i = first; i < count; ++i) {
      window_[i] = static_cast<float>(step_.share * window_[i]);
    }
  } else if (step_.kept != 1 && controls > 0) {
    scratch_.resize(std::max(scratch_.size(), controls));
    ABSL_ASSIGN_OR_RETURN(
        const float* before,
        base_->Read(offset + first, controls, scratch_.data()));
    for (size_t i = 0; i < controls; ++i) {
      float* const value = &window_[first + i];
      *value = static_cast<float>(step_.share * *value +
                                  (step_.kept - 1) * before[i]);
    }
  }
  return next_->Commit(offset, count);
}

absl::StatusOr<ControlStep> ControlStepOf(const v1::JobSpec& spec,
                                          int64_t updates, int64_t asked,
                                          int64_t asked_before) {
  const int64_t declared = spec.training().scaffold().population();
  const int64_t population = declared > 0 ? declared : asked;
  if (updates > population) {
    return absl::FailedPreconditionError(absl::StrCat(
        "training.scaffold.population is ", declared, ", but ", updates,
        " workers took part in one round: it must count all that may ever take "
        "part"));
  }
  ControlStep step;
  step.share = static_cast<double>(updates) / static_cast<double>(population);
  if (declared == 0 && asked_before > 0) {
    step.kept = static_cast<double>(asked_before) / static_cast<double>(asked);
  }
  return step;
}

}  // namespace koinon::coordinator
