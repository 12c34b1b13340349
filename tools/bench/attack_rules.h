#ifndef KOINON_TOOLS_BENCH_ATTACK_RULES_H_
#define KOINON_TOOLS_BENCH_ATTACK_RULES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/job.pb.h"

namespace koinon::tools {

// What the rules below cannot know by themselves.
struct AttackRuleOptions {
  size_t f = 0;          // attackers that a rule is told of
  double clip_norm = 1;  // of norm_clipping
  double tau = 1;        // of centered_clipping
};

// A rule's short name for tables: pre-aggregations, in order, and the rule,
// joined by "+": "nnm+median", "norm_clipping+fedavg". Everything that has an f
// gets options.f; the trimmed mean trims f values on each side; FedAvg is
// weighted by example counts.
//
// INVALID_ARGUMENT lists the known names.
absl::StatusOr<v1::AggregationSpec> AttackRule(
    const std::string& name, const AttackRuleOptions& options);

// The rules of the table, for when nobody chooses.
std::vector<std::string> DefaultAttackRules();

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_ATTACK_RULES_H_
