#include "aggregation/core/instruction_set.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace koinon::aggregation {
namespace {

constexpr struct {
  InstructionSet set;
  absl::string_view name;
} kNames[] = {
    {InstructionSet::kBest, "best"},
    {InstructionSet::kAvx512, "avx512"},
    {InstructionSet::kAvx2, "avx2"},
    {InstructionSet::kPortable, "portable"},
};

bool HasAvx512() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
#else
  return false;
#endif
}

bool HasAvx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

}  // namespace

absl::string_view InstructionSetName(InstructionSet set) {
  for (const auto& entry : kNames) {
    if (entry.set == set) return entry.name;
  }
  return "unknown";
}

absl::StatusOr<InstructionSet> InstructionSetFromName(absl::string_view name) {
  for (const auto& entry : kNames) {
    if (entry.name == name) return entry.set;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "instruction set \"", name, "\", expected ",
      absl::StrJoin(kNames, ", ", [](std::string* out, const auto& e) {
        absl::StrAppend(out, e.name);
      })));
}

std::vector<InstructionSet> SupportedInstructionSets() {
  std::vector<InstructionSet> sets;
  if (HasAvx512()) sets.push_back(InstructionSet::kAvx512);
  if (HasAvx2()) sets.push_back(InstructionSet::kAvx2);
  sets.push_back(InstructionSet::kPortable);
  return sets;
}

absl::StatusOr<InstructionSet> ResolveInstructionSet(InstructionSet set) {
  const std::vector<InstructionSet> supported = SupportedInstructionSets();
  if (set == InstructionSet::kBest) return supported.front();
  if (std::find(supported.begin(), supported.end(), set) != supported.end()) {
    return set;
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "this processor lacks ", InstructionSetName(set), "; it has ",
      absl::StrJoin(supported, ", ", [](std::string* out, InstructionSet s) {
        absl::StrAppend(out, InstructionSetName(s));
      })));
}

}  // namespace koinon::aggregation
