#include "kernels/onednn/attention_kernel.h"

#include <dnnl.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "absl/strings/str_format.h"
#include "kernels/onednn/openmp.h"
#include "kernels/vector_exp.h"
#include "kernels/widest_vectors.h"

namespace koinon::kernels::onednn {
namespace {

constexpr size_t kLanes = 16;

inline float Largest(const float* values, size_t count) {
  float largest = values[0];
  for (size_t i = 1; i < count; ++i) {
    largest = values[i] > largest ? values[i] : largest;
  }
  return largest;
}

// values <- e^(values - shift); returns their sum, in the same order always.
inline float Exponentials(float* values, size_t count, float shift) {
  float lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float e = ExpNotPositive(values[i + lane] - shift);
      values[i + lane] = e;
      lanes[lane] += e;
    }
  }
  for (; i < count; ++i) {
    values[i] = ExpNotPositive(values[i] - shift);
    lanes[0] += values[i];
  }
  float sum = 0;
  for (float lane : lanes) sum += lane;
  return sum;
}

// One head of one example.
class Head {
 public:
  Head(const AttentionShape& shape, size_t unit)
      : shape_(shape),
        b_(unit / shape.heads),
        h_(unit % shape.heads),
        scale_(1 / std::sqrt(static_cast<float>(shape.size))) {}

  // What the first product that failed ended with.
  dnnl_status_t status() const { return status_; }

  void Forward(const float* x, float* y, float* log_sums, float* scores) {
    for (size_t first = 0; first < T(); first += shape_.block()) {
      const size_t rows = std::min(shape_.block(), T() - first);
      const size_t seen = first + rows;
      Scores(x, first, rows, scores);
      WithWidestVectors([&] {
        for (size_t r = 0; r < rows; ++r) {
          log_sums[unit() * T() + first + r] =
              Softmax(scores + r * seen, first + r + 1, seen);
        }
      });
      Multiply('N', 'N', rows, D(), seen, 1, scores, seen, x + Values(0),
               Stride(), 0, y + Output(first), shape_.width());
    }
  }

  // With p the weights and g = dy v^T: dv = p^T dy, and the scores' gradient
  // is p (g - sum(p g)).
  void Backward(const float* x, const float* log_sums, const float* dy,
                float* dx, float* scratch) {
    for (size_t t = 0; t < T(); ++t) {
      std::fill_n(dx + Keys(t), D(), 0.0f);
      std::fill_n(dx + Values(t), D(), 0.0f);
    }
    float* weights = scratch;
    float* slopes = scratch + shape_.block() * T();
    for (size_t first = 0; first < T(); first += shape_.block()) {
      const size_t rows = std::min(shape_.block(), T() - first);
      const size_t seen = first + rows;
      Scores(x, first, rows, weights);
      Multiply('N', 'T', rows, seen, D(), 1, dy + Output(first), shape_.width(),
               x + Values(0), Stride(), 0, slopes, seen);
      WithWidestVectors([&] {
        for (size_t r = 0; r < rows; ++r) {
          Slopes(log_sums[unit() * T() + first + r], first + r + 1, seen,
                 weights + r * seen, slopes + r * seen);
        }
      });
      Multiply('T', 'N', seen, D(), rows, 1, weights, seen, dy + Output(first),
               shape_.width(), 1, dx + Values(0), Stride());
      Multiply('N', 'N', rows, D(), seen, scale_, slopes, seen, x + Keys(0),
               Stride(), 0, dx + Queries(first), Stride());
      Multiply('T', 'N', seen, D(), rows, scale_, slopes, seen,
               x + Queries(first), Stride(), 1, dx + Keys(0), Stride());
    }
  }

 private:
  size_t T() const { return shape_.positions; }
  size_t D() const { return shape_.size; }
  size_t unit() const { return b_ * shape_.heads + h_; }
  size_t Stride() const { return 3 * shape_.width(); }
  size_t Queries(size_t t) const {
    return (b_ * T() + t) * Stride() + h_ * D();
  }
  size_t Keys(size_t t) const { return Queries(t) + shape_.width(); }
  size_t Values(size_t t) const { return Queries(t) + 2 * shape_.width(); }
  size_t Output(size_t t) const {
    return (b_ * T() + t) * shape_.width() + h_ * D();
  }

  // c = alpha a b + beta c, row-major; a: [m, k], or [k, m] to be transposed,
  // and so on. Within a team of threads, oneDNN uses the one that calls.
  void Multiply(char transpose_a, char transpose_b, size_t m, size_t n,
                size_t k, float alpha, const float* a, size_t a_stride,
                const float* b, size_t b_stride, float beta, float* c,
                size_t c_stride) {
    if (status_ != dnnl_success) return;
    status_ = dnnl_sgemm(transpose_a, transpose_b, static_cast<dnnl_dim_t>(m),
                         static_cast<dnnl_dim_t>(n), static_cast<dnnl_dim_t>(k),
                         alpha, a, static_cast<dnnl_dim_t>(a_stride), b,
                         static_cast<dnnl_dim_t>(b_stride), beta, c,
                         static_cast<dnnl_dim_t>(c_stride));
  }

  // scores: [rows, first + rows]; those of later positions are there too.
  void Scores(const float* x, size_t first, size_t rows, float* scores) {
    const size_t seen = first + rows;
    Multiply('N', 'T', rows, seen, D(), scale_, x + Queries(first), Stride(),
             x + Keys(0), Stride(), 0, scores, seen);
  }

  // Over the first `count` of a row; the rest, later positions, become 0.
  // Returns the logarithm of what the exponentials are divided by.
  static float Softmax(float* row, size_t count, size_t seen) {
    const float largest = Largest(row, count);
    const float sum = Exponentials(row, count, largest);
    const float factor = 1 / sum;
    for (size_t i = 0; i < count; ++i) row[i] *= factor;
    std::fill(row + count, row + seen, 0.0f);
    return largest + std::log(sum);
  }

  // weights: scores, and then what the softmax made of them. slopes: g, and
  // then the scores' gradient.
  static void Slopes(float log_sum, size_t count, size_t seen,
                     float* __restrict weights, float* __restrict slopes) {
    float lanes[kLanes] = {};
    size_t i = 0;
    const auto at = [&](size_t i) {
      // A score is not above the logarithm but for a rounding.
      const float score = weights[i] - log_sum;
      weights[i] = ExpNotPositive(score < 0 ? score : 0);
      return weights[i] * slopes[i];
    };
    for (; i + kLanes <= count; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += at(i + lane);
    }
    for (; i < count; ++i) lanes[0] += at(i);
    float mean = 0;
    for (float lane : lanes) mean += lane;
    for (size_t j = 0; j < count; ++j) {
      slopes[j] = weights[j] * (slopes[j] - mean);
    }
    std::fill(weights + count, weights + seen, 0.0f);
    std::fill(slopes + count, slopes + seen, 0.0f);
  }

  const AttentionShape& shape_;
  const size_t b_, h_;
  const float scale_;
  dnnl_status_t status_ = dnnl_success;
};

// Calls body(&head, scratch of the thread). INTERNAL if a product failed.
template <typename Body>
absl::Status ForEachHead(const AttentionShape& shape, int threads,
                         float* scratch, const Body& body) {
  std::atomic<dnnl_status_t> failure{dnnl_success};  // one of them
  const size_t units = shape.batch * shape.heads;
  const size_t parts = std::min(units, static_cast<size_t>(threads));
  // One part for each thread, so that each has its scratch.
  ParallelFor(threads, parts, [&](size_t begin, size_t end) {
    for (size_t part = begin; part < end; ++part) {
      for (size_t unit = units * part / parts;
           unit < units * (part + 1) / parts; ++unit) {
        Head head(shape, unit);
        body(&head, scratch + part * shape.scratch());
        if (head.status() != dnnl_success) failure = head.status();
      }
    }
  });
  if (failure == dnnl_success) return absl::OkStatus();
  return absl::InternalError(
      absl::StrFormat("oneDNN ended a product with status %d",
                      static_cast<int>(failure.load())));
}

}  // namespace

absl::Status ForwardAttention(const AttentionShape& shape, int threads,
                              const float* x, float* y, float* log_sums,
                              float* scratch) {
  return ForEachHead(shape, threads, scratch, [&](Head* head, float* scores) {
    head->Forward(x, y, log_sums, scores);
  });
}

absl::Status BackwardAttention(const AttentionShape& shape, int threads,
                               const float* x, const float* log_sums,
                               const float* y_gradient, float* x_gradient,
                               float* scratch) {
  return ForEachHead(shape, threads, scratch, [&](Head* head, float* memory) {
    head->Backward(x, log_sums, y_gradient, x_gradient, memory);
  });
}

}  // namespace koinon::kernels::onednn
