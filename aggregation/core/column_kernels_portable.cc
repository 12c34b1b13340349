#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "aggregation/core/column_kernels.h"

#define KOINON_KERNEL
#define KOINON_OPERATION inline __attribute__((always_inline))

namespace koinon::aggregation {
namespace {

constexpr size_t kLanes = 4;

// Vectors as GCC and Clang have them on every processor. Values are compared as
// keys.
using Lanes = int32_t __attribute__((vector_size(4 * kLanes)));
using Keys = Lanes;
struct Bad {
  Lanes carries;
};

KOINON_OPERATION Lanes LoadRow(const float* row) {
  Lanes values;
  std::memcpy(&values, row, sizeof(values));
  return values;
}
// Adding one to an exponent of all ones carries into the sign.
KOINON_OPERATION void CheckFinite(Lanes values, Bad* bad) {
  using Unsigned = uint32_t __attribute__((vector_size(4 * kLanes)));
  bad->carries |= (Lanes)((Unsigned)(values & 0x7fffffff) + 0x00800000u);
}
KOINON_OPERATION bool AnyBad(Bad bad) {
  int32_t any = 0;
  for (size_t i = 0; i < kLanes; ++i) any |= bad.carries[i];
  return any < 0;
}
KOINON_OPERATION Keys KeysOf(Lanes bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}
KOINON_OPERATION Lanes ToOrder(Lanes values) { return KeysOf(values); }
KOINON_OPERATION Lanes FromOrder(Lanes keys) { return KeysOf(keys); }
KOINON_OPERATION Lanes Load(const float* from) { return LoadRow(from); }
KOINON_OPERATION void Store(float* to, Lanes values) {
  std::memcpy(to, &values, sizeof(values));
}
KOINON_OPERATION Lanes Least(Lanes a, Lanes b) {
  const Lanes less = a < b;
  return (a & less) | (b & ~less);
}
KOINON_OPERATION Lanes Greatest(Lanes a, Lanes b) {
  const Lanes less = a < b;
  return (b & less) | (a & ~less);
}
KOINON_OPERATION Keys AllKeys(int32_t key) { return Keys{} + key; }
KOINON_OPERATION Keys Minus(Keys a, Keys b) { return a - b; }
KOINON_OPERATION Keys LoadKeys(const int32_t* from) {
  Keys keys;
  std::memcpy(&keys, from, sizeof(keys));
  return keys;
}
KOINON_OPERATION void StoreKeys(int32_t* to, Keys keys) {
  std::memcpy(to, &keys, sizeof(keys));
}
KOINON_OPERATION Keys CountGreater(Keys count, Keys keys, Keys than) {
  return count - (keys > than);
}
KOINON_OPERATION Keys GreatestUpTo(Keys greatest, Keys keys, Keys top) {
  const Lanes over = keys > top;
  return Greatest(greatest, (keys & ~over) | (INT32_MIN & over));
}
KOINON_OPERATION Keys LeastAbove(Keys least, Keys keys, Keys below) {
  const Lanes over = keys > below;
  return Least(least, (keys & over) | (INT32_MAX & ~over));
}
struct Sums {
  double sum[kLanes];
};
KOINON_OPERATION Sums NoSums() { return {}; }
KOINON_OPERATION void StoreSums(double* to, Sums sums) {
  std::copy_n(sums.sum, kLanes, to);
}
KOINON_OPERATION void AddUpTo(Sums* sums, Keys keys, Keys most, double x) {
  for (size_t i = 0; i < kLanes; ++i) {
    sums->sum[i] += keys[i] <= most[i] ? x : 0.0;
  }
}
KOINON_OPERATION void AddBetween(Sums* sums, Keys keys, Keys low, Keys high) {
  const Lanes bits = KeysOf(keys);
  for (size_t i = 0; i < kLanes; ++i) {
    const double x = std::bit_cast<float>(static_cast<int32_t>(bits[i]));
    sums->sum[i] += ((keys[i] > low[i]) & (keys[i] < high[i])) ? x : 0.0;
  }
}
KOINON_OPERATION void StreamTo(float* to, const float* from, size_t count) {
  std::copy_n(from, count, to);
}

}  // namespace
}  // namespace koinon::aggregation

#include "aggregation/core/column_kernels_body.h"

namespace koinon::aggregation {

bool ReduceColumnsPortable(const ColumnProgram& program,
                           const ColumnBlock& block, float* scratch) {
  return ReduceBlock(program, block, scratch);
}

}  // namespace koinon::aggregation
