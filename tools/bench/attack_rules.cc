#include "tools/bench/attack_rules.h"

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace koinon::tools {
namespace {

using Spec = v1::AggregationSpec;

struct NamedRule {
  const char* name;
  void (*set)(const AttackRuleOptions& options, Spec* spec);
};

int64_t Attackers(const AttackRuleOptions& options) {
  return static_cast<int64_t>(options.f);
}

constexpr NamedRule kRules[] = {
    {"fedavg",
     [](const AttackRuleOptions&, Spec* spec) { spec->mutable_fedavg(); }},
    {"median", [](const AttackRuleOptions& o,
                  Spec* spec) { spec->mutable_median()->set_f(Attackers(o)); }},
    {"trimmed_mean",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->mutable_trimmed_mean()->set_f(Attackers(o));
     }},
    {"krum", [](const AttackRuleOptions& o,
                Spec* spec) { spec->mutable_krum()->set_f(Attackers(o)); }},
    {"multi_krum",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->mutable_multi_krum()->set_f(Attackers(o));
     }},
    {"geometric_median",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->mutable_geometric_median()->set_f(Attackers(o));
     }},
    {"bulyan", [](const AttackRuleOptions& o,
                  Spec* spec) { spec->mutable_bulyan()->set_f(Attackers(o)); }},
    {"centered_clipping",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->mutable_centered_clipping()->set_tau(o.tau);
     }},
};

constexpr NamedRule kPreAggregations[] = {
    {"norm_clipping",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->add_pre_aggregation()->mutable_norm_clipping()->set_norm(
           o.clip_norm);
     }},
    {"arc",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->add_pre_aggregation()->mutable_arc()->set_f(Attackers(o));
     }},
    {"nnm",
     [](const AttackRuleOptions& o, Spec* spec) {
       spec->add_pre_aggregation()->mutable_nearest_neighbour_mixing()->set_f(
           Attackers(o));
     }},
};

template <size_t n>
std::string Names(const NamedRule (&rules)[n]) {
  return absl::StrJoin(rules, ", ", [](std::string* out, const NamedRule& r) {
    absl::StrAppend(out, r.name);
  });
}

template <size_t n>
const NamedRule* Find(const NamedRule (&rules)[n], const std::string& name) {
  const auto* const found =
      std::find_if(std::begin(rules), std::end(rules),
                   [&](const NamedRule& rule) { return rule.name == name; });
  return found == std::end(rules) ? nullptr : found;
}

}  // namespace

absl::StatusOr<v1::AggregationSpec> AttackRule(
    const std::string& name, const AttackRuleOptions& options) {
  const std::vector<std::string> parts = absl::StrSplit(name, '+');
  Spec spec;
  for (size_t i = 0; i < parts.size(); ++i) {
    const bool last = i + 1 == parts.size();
    const NamedRule* const rule =
        last ? Find(kRules, parts[i]) : Find(kPreAggregations, parts[i]);
    if (rule == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "rule \"", name, "\": \"", parts[i], "\" is no ",
          last ? "rule" : "pre-aggregation", ", expected one of ",
          last ? Names(kRules) : Names(kPreAggregations),
          last ? absl::StrCat(", with any of ", Names(kPreAggregations),
                              " and a + before it")
               : ""));
    }
    rule->set(options, &spec);
  }
  return spec;
}

std::vector<std::string> DefaultAttackRules() {
  return {"fedavg",
          "norm_clipping+fedavg",
          "median",
          "trimmed_mean",
          "krum",
          "multi_krum",
          "geometric_median",
          "bulyan",
          "centered_clipping",
          "nnm+median",
          "nnm+trimmed_mean",
          "nnm+geometric_median",
          "nnm+multi_krum"};
}

}  // namespace koinon::tools
