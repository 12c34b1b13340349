#ifndef KOINON_AGGREGATION_GEOMETRY_ATTACKERS_H_
#define KOINON_AGGREGATION_GEOMETRY_ATTACKERS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon::aggregation {

// The number of attackers that a rule is asked to withstand: f, or a part of
// the updates received. A value.
class Attackers {
 public:
  // The largest f that can be asked for.
  static constexpr int64_t kMost = 1'000'000;

  // Nobody.
  Attackers() = default;
  // `field` is where the two fields stand ("aggregation.krum"), `below` what
  // the fraction must be less than. INVALID_ARGUMENT, naming the field, for
  // numbers out of range and if both are set.
  static absl::StatusOr<Attackers> Create(absl::string_view field, int64_t f,
                                          double fraction, double below);

  // Of n updates received: f, or floor(fraction n + 1e-9).
  int64_t Of(size_t n) const;
  // Whether one of the two fields is set.
  bool asked() const { return f_ > 0 || fraction_ > 0; }
  // "f = 2", or "f_fraction = 0.2, f = 2".
  std::string Describe(size_t n) const;

 private:
  int64_t f_ = 0;
  double fraction_ = 0;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_GEOMETRY_ATTACKERS_H_
