#include "tools/bench/bench_rules.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace koinon::tools {
namespace {

// Half a unit in the last place of fp32, for values in [-1, 1].
constexpr double kHalfUlp = 0x1p-24;

// Sums in fp32, in whatever order: a rounding for each term and of each weight.
double SumTolerance(size_t n) { return static_cast<double>(n + 2) * kHalfUlp; }

std::vector<RivalForm> MeanRivals(size_t n) {
  return {// Sums in double; its answer and ours are each rounded once.
          {"np.average", "average", 3 * kHalfUlp},
          {"np.average fp32", "average_fp32", SumTolerance(n)},
          {"in place", "in_place", SumTolerance(n)},
          {"BLAS", "matvec", SumTolerance(n)}};
}

void SetFedAvg(size_t n, BenchRule* rule) {
  rule->spec.mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::DOUBLE);
  rule->rivals = MeanRivals(n);
}

void SetFixedPoint(size_t n, BenchRule* rule) {
  rule->spec.mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  rule->rivals = MeanRivals(n);
}

void SetMedian(size_t, BenchRule* rule) {
  rule->family = BenchRule::kColumns;
  rule->spec.mutable_median();
  // The middle, or the mean of two: rounded to fp32 once by each side, before
  // (NumPy's sum) and after.
  rule->rivals = {{"np.median", "median", 2 * kHalfUlp},
                  {"np.sort", "median_sort", 2 * kHalfUlp},
                  {"np.partition", "median_partition", 2 * kHalfUlp}};
}

void SetTrimmedMean(size_t n, BenchRule* rule) {
  constexpr double kBeta = 0.2;
  rule->family = BenchRule::kColumns;
  rule->spec.mutable_trimmed_mean()->set_beta(kBeta);
  rule->trim = static_cast<size_t>(kBeta * static_cast<double>(n) + 1e-9);
  rule->rivals = {
      {"np.sort", absl::StrCat("trimmed_sort ", rule->trim), SumTolerance(n)},
      {"np.partition", absl::StrCat("trimmed_partition ", rule->trim),
       SumTolerance(n)}};
}

// NumPy's pairs cost three operations a value and no BLAS speed.
void AddKrumRivals(size_t n, BenchRule* rule) {
  const std::string arguments = absl::StrCat(rule->f, " ", rule->keep);
  const double tolerance = rule->keep == 1 ? 0 : SumTolerance(n);
  const auto pairs = static_cast<double>(n * (n - 1) / 2);
  rule->rivals = {
      {"BLAS Gram", absl::StrCat("krum_gram ", arguments), tolerance},
      {"pairwise", absl::StrCat("krum_pairwise ", arguments), tolerance,
       3 * pairs}};
}

void SetKrum(size_t n, BenchRule* rule) {
  rule->family = BenchRule::kGram;
  rule->f = n / 5;
  rule->spec.mutable_krum()->set_f(static_cast<int64_t>(rule->f));
  AddKrumRivals(n, rule);
}

void SetMultiKrum(size_t n, BenchRule* rule) {
  rule->family = BenchRule::kGram;
  rule->f = n / 5;
  rule->keep = n > rule->f + 2 ? n - rule->f - 2 : 1;
  rule->spec.mutable_multi_krum()->set_f(static_cast<int64_t>(rule->f));
  AddKrumRivals(n, rule);
}

void SetBulyan(size_t n, BenchRule* rule) {
  rule->family = BenchRule::kBoth;
  rule->f = n < 3 ? 0 : std::min(n / 5, (n - 3) / 4);
  rule->spec.mutable_bulyan()->set_f(static_cast<int64_t>(rule->f));
}

void SetGeometricMedian(int iterations, BenchRule* rule) {
  rule->family = BenchRule::kGram;
  rule->iterations = iterations;
  rule->spec.mutable_geometric_median()->mutable_fixed()->set_iterations(
      iterations);
  // A Gram matrix in fp32 over millions of terms: its distances are good to
  // about five digits, and so are the weights that follow from them.
  rule->rivals = {
      {"BLAS Gram", absl::StrCat("weiszfeld_gram ", iterations), 1e-4}};
  if (iterations == 1) {
    rule->rivals.push_back({"direct", "weiszfeld_direct 1", 1e-4});
  } else {
    rule->baseline = "geometric_median_1";
  }
}

struct Named {
  const char* name;
  void (*set)(size_t n, BenchRule* rule);
};

constexpr Named kRules[] = {
    {"fedavg", SetFedAvg},
    {"fedavg_fixed_point", SetFixedPoint},
    {"median", SetMedian},
    {"trimmed_mean", SetTrimmedMean},
    {"krum", SetKrum},
    {"multi_krum", SetMultiKrum},
    {"bulyan", SetBulyan},
    {"geometric_median_1",
     [](size_t, BenchRule* rule) { SetGeometricMedian(1, rule); }},
    {"geometric_median_100",
     [](size_t, BenchRule* rule) { SetGeometricMedian(100, rule); }},
};

}  // namespace

std::vector<std::string> BenchRuleNames() {
  std::vector<std::string> names;
  for (const Named& rule : kRules) names.emplace_back(rule.name);
  return names;
}

absl::StatusOr<BenchRule> MakeBenchRule(const std::string& name, size_t n) {
  for (const Named& named : kRules) {
    if (name != named.name) continue;
    BenchRule rule;
    rule.name = name;
    named.set(n, &rule);
    return rule;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("rule \"", name, "\", expected one of ",
                   absl::StrJoin(BenchRuleNames(), ", ")));
}

}  // namespace koinon::tools
