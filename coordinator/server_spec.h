#ifndef KOINON_COORDINATOR_SERVER_SPEC_H_
#define KOINON_COORDINATOR_SERVER_SPEC_H_

#include <string>

#include "absl/status/statusor.h"
#include "aggregation/core/instruction_set.h"

namespace koinon::coordinator {

// INVALID_ARGUMENT for a name that is none, or is not this processor's.
absl::StatusOr<aggregation::InstructionSet> ParseInstructionSet(
    const std::string& name);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVER_SPEC_H_
