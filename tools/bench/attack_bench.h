#ifndef KOINON_TOOLS_BENCH_ATTACK_BENCH_H_
#define KOINON_TOOLS_BENCH_ATTACK_BENCH_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tools/bench/attack_federation.h"
#include "tools/bench/attack_rules.h"
#include "worker/data/dataset.h"

namespace koinon::tools {

struct AttackBenchOptions {
  FederationOptions federation;
  // A table for each number of attackers.
  std::vector<size_t> attackers = {6};
  std::vector<std::string> rules = DefaultAttackRules();  // attack_rules.h
  std::vector<std::string> attacks = {};  // AllAttackNames(); empty: all
  double clip_norm = 1;
  double tau = 1;
  // Runs at the same time; the figures do not depend on it.
  int threads = 1;
};

// "none", "label_flip" and those of aggregation/attacks.
std::vector<std::string> AllAttackNames();

// One run of one federation.
struct AttackFigure {
  size_t f = 0;
  std::string rule;
  std::string attack;
  // False: the rule cannot be applied to so many updates and attackers;
  // `note` says why, and there is no accuracy.
  bool applicable = true;
  double accuracy = 0;  // on the test set, after the last round
  int rounds = 0;
  std::string note;  // why it stopped early; empty: it did not
};

// Every rule under every attack: f, then rule, then attack, in the order of the
// options. In "none" all workers are honest and the rule still reckons with f.
// `progress` (may be empty) is called after each run, from any thread, with the
// number of runs done and wanted.
//
// INVALID_ARGUMENT, before anything is run, for an unknown rule or attack, and
// as AttackFederation.
absl::StatusOr<std::vector<AttackFigure>> MeasureAttacks(
    const worker::Dataset& train, const worker::Dataset& test,
    const AttackBenchOptions& options,
    const std::function<void(size_t done, size_t wanted)>& progress = {});

// A table for each f: a row for each rule, a column for each attack, accuracy
// in percent; what could not be run, or stopped, is explained below it.
std::string AttackMarkdown(absl::Span<const AttackFigure> figures);
// One line for each figure, with a header.
std::string AttackCsv(absl::Span<const AttackFigure> figures);
// One JSON array of objects; accuracy is null where the rule is not applicable.
std::string AttackJson(absl::Span<const AttackFigure> figures);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_ATTACK_BENCH_H_
