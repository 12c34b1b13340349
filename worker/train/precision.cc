#include "worker/train/precision.h"

#include "absl/strings/str_format.h"

namespace koinon::worker {

absl::StatusOr<bool> UsesBfloat16(const v1::TrainingSpec& spec,
                                  bool has_bfloat16) {
  switch (spec.precision()) {
    case v1::TrainingSpec::PRECISION_UNSPECIFIED:
    case v1::TrainingSpec::FLOAT32:
      return false;
    case v1::TrainingSpec::BFLOAT16_OR_FLOAT32:
      return has_bfloat16;
    case v1::TrainingSpec::BFLOAT16:
      if (has_bfloat16) return true;
      return absl::FailedPreconditionError(
          "training.precision: BFLOAT16 needs a processor with avx512_bf16 or "
          "amx_bf16, which this worker's has not; BFLOAT16_OR_FLOAT32 would "
          "train in float32 here");
    default:
      return absl::InvalidArgumentError(
          absl::StrFormat("training.precision: expected FLOAT32, BFLOAT16 or "
                          "BFLOAT16_OR_FLOAT32, found %d",
                          static_cast<int>(spec.precision())));
  }
}

}  // namespace koinon::worker
