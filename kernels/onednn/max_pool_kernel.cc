#include "kernels/onednn/max_pool_kernel.h"

#include <cstring>

#include "kernels/onednn/openmp.h"

namespace koinon::kernels::onednn {
namespace {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define KOINON_MAX_POOL_AVX512
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")
namespace avx512 {
#include "kernels/onednn/max_pool_rows.inc"
}  // namespace avx512
#pragma GCC pop_options
#endif

namespace plain {
#include "kernels/onednn/max_pool_rows.inc"
}  // namespace plain

// Zeros where no window looks: between the windows and behind the last one.
template <typename Value>
void ClearGaps(const MaxPoolShape& shape, size_t first_row, size_t last_row,
               Value* image) {
  const size_t row = shape.width * shape.inner;
  for (size_t h = first_row; h < last_row; ++h) {
    Value* values = image + h * row;
    const size_t p = h / shape.stride;
    if (p >= shape.output_height() || h % shape.stride >= shape.kernel) {
      std::memset(values, 0, row * sizeof(Value));
      continue;
    }
    for (size_t w = 0; w < shape.width; ++w) {
      const size_t q = w / shape.stride;
      if (q < shape.output_width() && w % shape.stride < shape.kernel) continue;
      std::memset(values + w * shape.inner, 0, shape.inner * sizeof(Value));
    }
  }
}

bool HasGaps(const MaxPoolShape& shape) {
  return shape.output_height() * shape.kernel != shape.height ||
         shape.output_width() * shape.kernel != shape.width;
}

#if defined(KOINON_MAX_POOL_AVX512)
bool HasAvx512() {
  return __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}
#endif

// The row of windows for this processor, kernel and rounding.
#define KOINON_ROW_FOR(Row, set, shape, rounds)                          \
  ((shape).kernel == 2                                                   \
       ? (rounds ? set::Row<2, true, Value> : set::Row<2, false, Value>) \
       : (rounds ? set::Row<0, true, Value> : set::Row<0, false, Value>))

template <typename Value>
auto ForwardRowFor(const MaxPoolShape& shape) {
#if defined(KOINON_MAX_POOL_AVX512)
  if (HasAvx512()) {
    return KOINON_ROW_FOR(ForwardRow, avx512, shape, shape.rounds_output);
  }
#endif
  return KOINON_ROW_FOR(ForwardRow, plain, shape, shape.rounds_output);
}

template <typename Value>
auto BackwardRowFor(const MaxPoolShape& shape) {
#if defined(KOINON_MAX_POOL_AVX512)
  if (HasAvx512()) {
    return KOINON_ROW_FOR(BackwardRow, avx512, shape, shape.rounds_gradient);
  }
#endif
  return KOINON_ROW_FOR(BackwardRow, plain, shape, shape.rounds_gradient);
}

#undef KOINON_ROW_FOR

}  // namespace

template <typename Value>
void ForwardMaxPool(const MaxPoolShape& shape, int threads, const Value* x,
                    Value* y, uint8_t* index) {
  const size_t rows = shape.output_height();
  const size_t row = shape.output_width() * shape.inner;
  const auto forward_row = ForwardRowFor<Value>(shape);
  const auto run = [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const size_t h = (r / rows) * shape.height + r % rows * shape.stride;
      forward_row(shape, x + h * shape.width * shape.inner, y + r * row,
                  index == nullptr ? nullptr : index + r * row);
    }
  };
  ParallelFor(threads, shape.outer * rows, run);
}

template <typename Value>
void BackwardMaxPool(const MaxPoolShape& shape, int threads,
                     const Value* y_gradient, const uint8_t* index,
                     Value* x_gradient) {
  const size_t rows = shape.output_height();
  const size_t row = shape.output_width() * shape.inner;
  const size_t input_row = shape.width * shape.inner;
  const bool has_gaps = HasGaps(shape);
  const auto backward_row = BackwardRowFor<Value>(shape);
  const auto run = [&](size_t begin, size_t end) {
    for (size_t r = begin; r < end; ++r) {
      const size_t p = r % rows;
      Value* image = x_gradient + (r / rows) * shape.height * input_row;
      backward_row(shape, y_gradient + r * row, index + r * row,
                   image + p * shape.stride * input_row);
      if (!has_gaps) continue;
      ClearGaps(shape, p * shape.stride,
                p + 1 == rows ? shape.height : (p + 1) * shape.stride, image);
    }
  };
  ParallelFor(threads, shape.outer * rows, run);
}

template void ForwardMaxPool(const MaxPoolShape&, int, const float*, float*,
                             uint8_t*);
template void ForwardMaxPool(const MaxPoolShape&, int, const uint16_t*,
                             uint16_t*, uint8_t*);
template void BackwardMaxPool(const MaxPoolShape&, int, const float*,
                              const uint8_t*, float*);
template void BackwardMaxPool(const MaxPoolShape&, int, const uint16_t*,
                              const uint8_t*, uint16_t*);

}  // namespace koinon::kernels::onednn
