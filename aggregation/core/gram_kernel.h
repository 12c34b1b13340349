#ifndef KOINON_AGGREGATION_CORE_GRAM_KERNEL_H_
#define KOINON_AGGREGATION_CORE_GRAM_KERNEL_H_

#include <cstddef>
#include <cstdint>

#include "aggregation/core/instruction_set.h"

namespace koinon::aggregation {

// The two inner loops of ComputeGram, over one block of columns.
//
// A group of up to kGramGroup rows lies packed in memory, step after step, a
// step being kGramLanes columns of each of its rows:
//
//   packed[(step * rows + row) * kGramLanes + lane]
//
// so that a kernel reads two groups as two streams. Every path computes a dot
// product of two rows in kGramLanes chains of fused multiply-adds, one for each
// lane, in ascending order of the steps; and adds up the lanes in pairs (l, l +
// 8), then (l, l + 4), (l, l + 2), (l, l + 1). So all give the same bits.
inline constexpr size_t kGramLanes = 16;
inline constexpr size_t kGramGroup = 5;
inline constexpr size_t kGramBlock = 1024;  // columns, at most
// Room for the sums of two groups' products.
inline constexpr size_t kGramSums = 32;

// Fetching ahead: raw values of the next block go into the second-level cache
// while this one is worked on, in quarters of a row, spread over all that is
// done. Bursts of fetches would hold up the kernels' own reads.
inline constexpr size_t kGramFetch = kGramBlock / 4;

// Writes `count` columns of a row, less those of the centre, as the first row
// of a group of `rows` (the others are reached by shifting `packed`), with
// zeros up to a whole step. Returns the bits of the largest magnitude among
// them: at least those of infinity if a value is not finite or the difference
// overflows.
struct GramRow {
  const float* x = nullptr;       // [count]
  const float* centre = nullptr;  // [count]
  size_t count = 0;               // at most kGramBlock
  size_t rows = 0;                // [1, kGramGroup]
  const float* ahead = nullptr;   // [kGramFetch], as in GramTile
  float* packed = nullptr;
};
using GramPack = uint32_t (*)(const GramRow& row);

struct GramTile {
  const float* a;  // [steps][rows_a][kGramLanes], 64-byte aligned
  const float* b;  // [steps][rows_b][kGramLanes]; a itself: its lower triangle
  size_t rows_a = 0;  // [1, kGramGroup]
  size_t rows_b = 0;
  size_t steps = 0;  // at most kGramBlock / kGramLanes
  // Each [kGramFetch], to be fetched meanwhile; never read, but not null: that
  // would be slow.
  const float* ahead[4] = {};
  // sums[r * rows_b + c] += factors[r * rows_b + c] * (a's row r . b's row c),
  // in double. factors: nullptr for ones.
  double* sums = nullptr;           // [kGramSums], 64-byte aligned
  const double* factors = nullptr;  // [kGramSums]
};
using GramDots = void (*)(const GramTile& tile);

struct GramKernel {
  GramPack pack;
  GramDots dots;
};

// Of one of SupportedInstructionSets().
GramKernel GramKernelOf(InstructionSet set);

// While it lives, this thread takes subnormal numbers as zero and rounds to
// zero what would be one, where processors can: on many, such numbers make
// arithmetic a hundred times slower, which an attacker could use. Nothing that
// is scaled as ComputeGram does it has anything to lose there.
class FlushSubnormals {
 public:
  FlushSubnormals();
  ~FlushSubnormals();
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
  const unsigned int saved_;
};

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_GRAM_KERNEL_H_
