#ifndef KOINON_TESTS_INTEGRATION_SCAFFOLD_REFERENCE_H_
#define KOINON_TESTS_INTEGRATION_SCAFFOLD_REFERENCE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace koinon::testing {

// Logistic regression (softmax over linear logits) in double, written down
// plainly: the truth that the system is held against. Parameters lie as the
// model's layout has them: weight [classes, inputs], then bias [classes].
struct LogisticProblem {
  size_t inputs = 0;
  size_t classes = 0;
  std::vector<std::vector<double>> examples;
  std::vector<int> labels;

  size_t parameters() const { return classes * (inputs + 1); }
  // Mean cross entropy + decay / 2 |w|^2, and its gradient.
  double Loss(const std::vector<double>& w, double decay) const;
  std::vector<double> Gradient(const std::vector<double>& w,
                               double decay) const;
};

// SCAFFOLD, option II, and FedAvg, as algorithm 1 of Karimireddy et al. 2020
// has them, full gradients, a global step of 1.
class ScaffoldReference {
 public:
  struct Options {
    bool control_variates = true;  // false: FedAvg
    size_t population = 0;         // N
    std::vector<double> rates;     // of the local steps; their number is K
    double weight_decay = 0;
  };

  ScaffoldReference(Options options,
                    std::map<std::string, LogisticProblem> workers,
                    std::vector<double> initial);

  // One round of the workers in `sampled`.
  void Round(const std::vector<std::string>& sampled);

  const std::vector<double>& model() const { return x_; }
  const std::vector<double>& control() const { return c_; }
  const std::vector<double>& control_of(const std::string& worker) const {
    return own_.at(worker);
  }
  // Mean over all workers.
  double Loss(const std::vector<double>& w) const;

 private:
  const Options options_;
  const std::map<std::string, LogisticProblem> workers_;
  std::vector<double> x_, c_;
  std::map<std::string, std::vector<double>> own_;
};

}  // namespace koinon::testing

#endif  // KOINON_TESTS_INTEGRATION_SCAFFOLD_REFERENCE_H_
