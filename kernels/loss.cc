#include "kernels/loss.h"

#include <algorithm>
#include <cmath>

namespace koinon::kernels {
namespace {

// One row of logits: [C]. Adds to `metrics`; loss is not yet divided by B.
template <typename Real>
void AddCrossEntropy(const Real* logits, size_t classes, size_t label,
                     double scale, Real* gradient, BatchMetrics* metrics) {
  const Real* largest = std::max_element(logits, logits + classes);
  // Shifted by the maximum, no exponential overflows and the sum is >= 1.
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) {
    sum += std::exp(double{logits[c]} - double{*largest});
  }
  metrics->loss += std::log(sum) - (double{logits[label]} - double{*largest});
  if (static_cast<size_t>(largest - logits) == label) ++metrics->correct;
  if (gradient == nullptr) return;
  for (size_t c = 0; c < classes; ++c) {
    const double probability =
        std::exp(double{logits[c]} - double{*largest}) / sum;
    gradient[c] =
        static_cast<Real>(scale * (probability - (c == label ? 1.0 : 0.0)));
  }
}

template <typename Real>
BatchMetrics CrossEntropy(const Batch& batch, size_t classes,
                          const Real* outputs, Real* gradient) {
  BatchMetrics metrics;
  const double scale = 1.0 / static_cast<double>(batch.size);
  for (size_t b = 0; b < batch.size; ++b) {
    AddCrossEntropy(outputs + b * classes, classes,
                    static_cast<size_t>(batch.labels[b]), scale,
                    gradient == nullptr ? nullptr : gradient + b * classes,
                    &metrics);
  }
  metrics.loss *= scale;
  return metrics;
}

template <typename Real>
BatchMetrics SquaredError(const Batch& batch, size_t output_size,
                          const Real* outputs, Real* gradient) {
  BatchMetrics metrics;
  const size_t count = batch.size * output_size;
  const double scale = 1.0 / static_cast<double>(count);
  for (size_t i = 0; i < count; ++i) {
    const double error = double{outputs[i]} - double{batch.targets[i]};
    metrics.loss += error * error;
    if (gradient != nullptr) {
      gradient[i] = static_cast<Real>(2 * scale * error);
    }
  }
  metrics.loss *= scale;
  return metrics;
}

}  // namespace

template <typename Real>
BatchMetrics ComputeLoss(v1::TrainingSpec::Loss loss, const Batch& batch,
                         size_t output_size, const Real* outputs,
                         Real* gradient) {
  return loss == v1::TrainingSpec::MEAN_SQUARED_ERROR
             ? SquaredError(batch, output_size, outputs, gradient)
             : CrossEntropy(batch, output_size, outputs, gradient);
}

template BatchMetrics ComputeLoss(v1::TrainingSpec::Loss, const Batch&, size_t,
                                  const float*, float*);
template BatchMetrics ComputeLoss(v1::TrainingSpec::Loss, const Batch&, size_t,
                                  const double*, double*);

}  // namespace koinon::kernels
