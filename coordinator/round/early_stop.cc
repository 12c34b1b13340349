#include "coordinator/round/early_stop.h"

#include "absl/strings/str_format.h"

namespace koinon::coordinator {
namespace {

constexpr char kAccuracy[] = "accuracy";

bool HigherIsBetter(const v1::StopSpec& stop) {
  return stop.metric() == kAccuracy;
}

bool ReachesThreshold(const v1::StopSpec& stop, double value) {
  if (stop.threshold() == 0) return false;  // none given
  return HigherIsBetter(stop) ? value >= stop.threshold()
                              : value <= stop.threshold();
}

}  // namespace

std::optional<double> FederatedMetric(
    const std::map<WorkerId, v1::Metrics>& metrics, const std::string& name) {
  double weighted_sum = 0;
  double examples = 0;
  for (const auto& [worker, m] : metrics) {
    if (m.examples() <= 0) continue;
    if (name == kAccuracy && !m.has_accuracy()) continue;
    const double weight = static_cast<double>(m.examples());
    weighted_sum += weight * (name == kAccuracy ? m.accuracy() : m.loss());
    examples += weight;
  }
  if (examples == 0) return std::nullopt;
  return weighted_sum / examples;
}

std::string EarlyStopReason(const v1::StopSpec& stop,
                            const std::map<int64_t, double>& history) {
  if (stop.metric().empty() || history.empty()) return "";
  const auto& [last_round, last_value] = *history.rbegin();
  if (ReachesThreshold(stop, last_value)) {
    return absl::StrFormat("%s %.6g reached the threshold %.6g in round %d",
                           stop.metric(), last_value, stop.threshold(),
                           last_round);
  }
  if (stop.patience() <= 0) return "";
  auto best = history.end();
  int64_t without_improvement = 0;
  for (auto it = history.begin(); it != history.end(); ++it) {
    const bool improves =
        best == history.end()
            ? it->second == it->second  // not NaN
            : (HigherIsBetter(stop) ? it->second > best->second
                                    : it->second < best->second);
    if (improves) best = it;
    without_improvement = improves ? 0 : without_improvement + 1;
  }
  if (without_improvement < stop.patience()) return "";
  if (best == history.end()) {
    return absl::StrFormat("%s was not a number in %d evaluations",
                           stop.metric(), without_improvement);
  }
  return absl::StrFormat(
      "%s has not improved on %.6g (round %d) for %d evaluations",
      stop.metric(), best->second, best->first, without_improvement);
}

}  // namespace koinon::coordinator
