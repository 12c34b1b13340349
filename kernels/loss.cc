#include "kernels/loss.h"

#include <algorithm>
#include <cmath>

#include "kernels/onednn/openmp.h"
#include "kernels/vector_exp.h"
#include "kernels/widest_vectors.h"

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
                          const Real* outputs, Real* gradient,
                          int /*threads*/) {
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

// In single precision a row is three loops for the processor's vectors, which
// find it in the cache: vocabularies have tens of thousands of classes.

// Sixteen comparisons side by side.
float Largest(const float* values, size_t count) {
  constexpr size_t kLanes = 16;
  float largest = values[0];
  size_t i = 0;
  if (count >= kLanes) {
    float lanes[kLanes];
    std::copy_n(values, kLanes, lanes);
    for (i = kLanes; i + kLanes <= count; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float value = values[i + lane];
        lanes[lane] = value > lanes[lane] ? value : lanes[lane];
      }
    }
    for (float lane : lanes) largest = lane > largest ? lane : largest;
  }
  for (; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

// exponentials <- e^(values - largest); their sum. May be null.
template <bool kKeep>
double SumExponentials(const float* __restrict values, size_t count,
                       float largest, float* __restrict exponentials) {
  constexpr size_t kLanes = 16;
  // So many are summed in single precision before the sum is widened.
  constexpr size_t kBlock = 64 * kLanes;
  double sum = 0;
  size_t begin = 0;
  for (; begin + kLanes <= count;) {
    const size_t end =
        begin + std::min(kBlock, (count - begin) / kLanes * kLanes);
    float lanes[kLanes] = {};
    for (size_t i = begin; i < end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const float e = ExpNotPositive(values[i + lane] - largest);
        if (kKeep) exponentials[i + lane] = e;
        lanes[lane] += e;
      }
    }
    for (float lane : lanes) sum += lane;
    begin = end;
  }
  for (; begin < count; ++begin) {
    const float e = ExpNotPositive(values[begin] - largest);
    if (kKeep) exponentials[begin] = e;
    sum += e;
  }
  return sum;
}

struct RowLoss {
  double loss = 0;
  bool correct = false;
};

RowLoss CrossEntropyOfRow(const float* logits, size_t classes, size_t label,
                          double scale, float* gradient) {
  RowLoss result;
  WithWidestVectors([&] {
    const float largest = Largest(logits, classes);
    const double sum =
        gradient == nullptr
            ? SumExponentials<false>(logits, classes, largest, nullptr)
            : SumExponentials<true>(logits, classes, largest, gradient);
    result.loss = std::log(sum) - (double{logits[label]} - double{largest});
    result.correct =
        logits[label] == largest &&
        std::find(logits, logits + label, largest) == logits + label;
    if (gradient == nullptr) return;
    const float factor = static_cast<float>(scale / sum);
    for (size_t c = 0; c < classes; ++c) gradient[c] *= factor;
    gradient[label] -= static_cast<float>(scale);
  });
  return result;
}

template <>
BatchMetrics CrossEntropy(const Batch& batch, size_t classes,
                          const float* outputs, float* gradient, int threads) {
  // Losses of so many rows wait to be added in order.
  constexpr size_t kRows = 256;
  RowLoss rows[kRows];
  BatchMetrics metrics;
  const double scale = 1.0 / static_cast<double>(batch.size);
  for (size_t first = 0; first < batch.size; first += kRows) {
    const size_t count = std::min(kRows, batch.size - first);
    // Teams are for large vocabularies; a few classes are done sooner alone.
    const int team = count * classes >= 16'384 ? threads : 1;
    onednn::ParallelFor(team, count, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const size_t b = first + i;
        rows[i] = CrossEntropyOfRow(
            outputs + b * classes, classes,
            static_cast<size_t>(batch.labels[b]), scale,
            gradient == nullptr ? nullptr : gradient + b * classes);
      }
    });
    for (size_t i = 0; i < count; ++i) {
      metrics.loss += rows[i].loss;
      metrics.correct += rows[i].correct ? 1 : 0;
    }
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
                         Real* gradient, int threads) {
  return loss == v1::TrainingSpec::MEAN_SQUARED_ERROR
             ? SquaredError(batch, output_size, outputs, gradient)
             : CrossEntropy(batch, output_size, outputs, gradient, threads);
}

template BatchMetrics ComputeLoss(v1::TrainingSpec::Loss, const Batch&, size_t,
                                  const float*, float*, int);
template BatchMetrics ComputeLoss(v1::TrainingSpec::Loss, const Batch&, size_t,
                                  const double*, double*, int);

}  // namespace koinon::kernels
