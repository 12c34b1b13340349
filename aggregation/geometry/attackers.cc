#include "aggregation/geometry/attackers.h"

#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace koinon::aggregation {

absl::StatusOr<Attackers> Attackers::Create(absl::string_view field, int64_t f,
                                            double fraction, double below) {
  if (f < 0 || f > kMost) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".f is ", f, ", expected 0 to ", kMost));
  }
  // Written so that NaN fails it.
  if (!(fraction >= 0 && fraction < below)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.f_fraction is %g, expected a number in [0, %g)",
                        field, fraction, below));
  }
  if (f > 0 && fraction > 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s.f is %d and %s.f_fraction is %g: set one of them",
                        field, f, field, fraction));
  }
  Attackers attackers;
  attackers.f_ = f;
  attackers.fraction_ = fraction;
  return attackers;
}

int64_t Attackers::Of(size_t n) const {
  if (fraction_ == 0) return f_;
  return static_cast<int64_t>(
      std::floor(fraction_ * static_cast<double>(n) + 1e-9));
}

std::string Attackers::Describe(size_t n) const {
  if (fraction_ == 0) return absl::StrCat("f = ", f_);
  return absl::StrFormat("f_fraction = %g, f = %d", fraction_, Of(n));
}

}  // namespace koinon::aggregation
