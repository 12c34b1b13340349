#include "tests/integration/scaffold_reference.h"

#include <cmath>
#include <utility>

namespace koinon::testing {
namespace {

// Probabilities of one example's classes.
std::vector<double> Softmax(const LogisticProblem& problem,
                            const std::vector<double>& w,
                            const std::vector<double>& example) {
  std::vector<double> p(problem.classes);
  double sum = 0;
  for (size_t k = 0; k < problem.classes; ++k) {
    double logit = w[problem.classes * problem.inputs + k];
    for (size_t j = 0; j < problem.inputs; ++j) {
      logit += w[k * problem.inputs + j] * example[j];
    }
    p[k] = std::exp(logit);  // of small problems: no overflow
    sum += p[k];
  }
  for (double& value : p) value /= sum;
  return p;
}

}  // namespace

double LogisticProblem::Loss(const std::vector<double>& w, double decay) const {
  double loss = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    loss -= std::log(Softmax(*this, w, examples[i])[labels[i]]);
  }
  loss /= static_cast<double>(examples.size());
  for (double value : w) loss += decay / 2 * value * value;
  return loss;
}

std::vector<double> LogisticProblem::Gradient(const std::vector<double>& w,
                                              double decay) const {
  std::vector<double> gradient(w.size());
  const double share = 1.0 / static_cast<double>(examples.size());
  for (size_t i = 0; i < examples.size(); ++i) {
    std::vector<double> error = Softmax(*this, w, examples[i]);
    error[labels[i]] -= 1;
    for (size_t k = 0; k < classes; ++k) {
      for (size_t j = 0; j < inputs; ++j) {
        gradient[k * inputs + j] += share * error[k] * examples[i][j];
      }
      gradient[classes * inputs + k] += share * error[k];
    }
  }
  for (size_t p = 0; p < w.size(); ++p) gradient[p] += decay * w[p];
  return gradient;
}

ScaffoldReference::ScaffoldReference(
    Options options, std::map<std::string, LogisticProblem> workers,
    std::vector<double> initial)
    : options_(std::move(options)),
      workers_(std::move(workers)),
      x_(std::move(initial)),
      c_(x_.size()) {
  for (const auto& [name, problem] : workers_) own_[name].resize(x_.size());
}

void ScaffoldReference::Round(const std::vector<std::string>& sampled) {
  const size_t n = x_.size();
  std::vector<double> model_sum(n), control_sum(n);
  double rates = 0;
  for (double rate : options_.rates) rates += rate;
  for (const std::string& name : sampled) {
    std::vector<double> y = x_;
    std::vector<double>& own = own_.at(name);
    for (double rate : options_.rates) {
      const std::vector<double> g =
          workers_.at(name).Gradient(y, options_.weight_decay);
      for (size_t p = 0; p < n; ++p) y[p] -= rate * (g[p] - own[p] + c_[p]);
    }
    for (size_t p = 0; p < n; ++p) {
      model_sum[p] += y[p] - x_[p];
      if (!options_.control_variates) continue;
      const double next = own[p] - c_[p] + (x_[p] - y[p]) / rates;
      control_sum[p] += next - own[p];
      own[p] = next;
    }
  }
  const auto count = static_cast<double>(sampled.size());
  for (size_t p = 0; p < n; ++p) {
    x_[p] += model_sum[p] / count;
    c_[p] += control_sum[p] / static_cast<double>(options_.population);
  }
}

double ScaffoldReference::Loss(const std::vector<double>& w) const {
  double sum = 0;
  for (const auto& [name, problem] : workers_) {
    sum += problem.Loss(w, options_.weight_decay);
  }
  return sum / static_cast<double>(workers_.size());
}

}  // namespace koinon::testing
