#ifndef KOINON_AGGREGATION_ATTACKS_ATTACKS_H_
#define KOINON_AGGREGATION_ATTACKS_ATTACKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon::aggregation {

// What attackers who know every honest update send: for the tests of robust
// rules and for `koinon bench attacks`. Attacks on a worker's data (flipped
// labels) are none of these.
enum class AttackKind {
  // -strength times the honest mean. Default 4: 6 of 20 attackers turn the sign
  // of the overall mean.
  kSignFlip,
  // strength times the honest mean. Default 1000.
  kScaling,
  // Independent normal values with mean 0 and standard deviation `strength`.
  // Default 200 (Blanchard et al. 2017, section 5).
  kGaussianNoise,
  // Inner-product manipulation (Xie, Koyejo, Gupta 2019, "Fall of Empires"):
  // -strength times the honest mean, short enough to hide. Default 0.1.
  kInnerProduct,
  // "A little is enough" (Baruch, Baruch, Goldberg 2019, algorithm 3): in each
  // coordinate the honest mean less `strength` standard deviations. Default:
  // the paper's z_max for n and f, at least 0.
  kALittleIsEnough,
  // Mimic (Karimireddy, He, Jaggi 2022, section 3.2): copies of the honest
  // update that lies furthest out along the direction of most variance, which
  // is sought by power iteration. Has no strength.
  kMimic,
};

absl::Span<const AttackKind> AllAttacks();
// "sign_flip", "scaling", "gaussian_noise", "inner_product",
// "a_little_is_enough", "mimic".
absl::string_view AttackName(AttackKind kind);
// INVALID_ARGUMENT lists the known names.
absl::StatusOr<AttackKind> AttackFromName(absl::string_view name);

// The updates of f attackers. Deterministic.
//
// honest: [h][P], h >= 1, finite; strength: 0 for the kind's default.
std::vector<std::vector<float>> Attack(
    AttackKind kind, absl::Span<const std::vector<float>> honest, size_t f,
    uint64_t seed, double strength = 0);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_ATTACKS_ATTACKS_H_
