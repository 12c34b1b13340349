#ifndef KOINON_AGGREGATION_CORE_INSTRUCTION_SET_H_
#define KOINON_AGGREGATION_CORE_INSTRUCTION_SET_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon::aggregation {

// Which of its paths the aggregation's inner loops take. The choice changes
// speed, and never which updates a rule selects.
enum class InstructionSet {
  kBest,      // the first that the processor has of those below
  kAvx512,    // AVX-512 F, DQ, BW, VL
  kAvx2,      // AVX2 and FMA
  kPortable,  // what every processor has
};

// "avx512", "avx2", "portable"; "best".
absl::string_view InstructionSetName(InstructionSet set);
// INVALID_ARGUMENT lists the known names.
absl::StatusOr<InstructionSet> InstructionSetFromName(absl::string_view name);

// Those that this processor has, fastest first; kPortable is last.
std::vector<InstructionSet> SupportedInstructionSets();

// Never kBest. FAILED_PRECONDITION if the processor lacks `set`, with those
// that it has.
absl::StatusOr<InstructionSet> ResolveInstructionSet(InstructionSet set);

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_INSTRUCTION_SET_H_
