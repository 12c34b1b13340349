#include "coordinator/publish/control_sink.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace koinon::coordinator {

ControlSink::ControlSink(size_t first_control, double share,
                         aggregation::UpdateSink* next)
    : first_control_(first_control), share_(share), next_(next) {}

float* ControlSink::Window(size_t offset, size_t count) {
  window_ = next_->Window(offset, count);
  return window_;
}

absl::Status ControlSink::Commit(size_t offset, size_t count) {
  // Everybody took part: nothing to scale, nothing to round.
  if (share_ != 1) {
    const size_t first =
        std::clamp(first_control_, offset, offset + count) - offset;
    for (size_t i = first; i < count; ++i) {
      window_[i] = static_cast<float>(share_ * window_[i]);
    }
  }
  return next_->Commit(offset, count);
}

absl::StatusOr<double> ControlShare(const v1::JobSpec& spec, int64_t updates,
                                    int64_t cohort) {
  const int64_t declared = spec.training().scaffold().population();
  const int64_t population = declared > 0 ? declared : cohort;
  if (updates <= population) {
    return static_cast<double>(updates) / static_cast<double>(population);
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "training.scaffold.population is ", declared, ", but ", updates,
      " workers took part in one round: it must count all that may ever take "
      "part"));
}

}  // namespace koinon::coordinator
