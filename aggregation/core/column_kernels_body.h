// The kernel of column_kernels.h, compiled once for each instruction set: its
// .cc defines KOINON_KERNEL (the attribute that lets a function use the set)
// and the operations on vectors that this text uses, then includes it.
//
//   Lanes                     kLanes columns of one wire, in an order that
//                             Least and Greatest know
//   LoadRow, CheckFinite      from a row, as they are
//   ToOrder, FromOrder        between a row's floats and that order
//   Load, Store               of a group's lanes
//   Least, Greatest
//   KeysOf, LoadKeys, StoreKeys, AllKeys, Minus
//                             int32 that order as the values do, see Key
//   CountGreater, GreatestUpTo, LeastAbove
//   Sums, NoSums, StoreSums   in double, one for each of kLanes columns
//   AddUpTo, AddBetween
//   Bad, AnyBad               whether a value was not finite
//
// Functions here must not be called from other files: they are in an anonymous
// namespace, so that no other file is linked to code of this instruction set.

#ifndef KOINON_KERNEL
#error "included only by the kernels of an instruction set"
#endif

#define KOINON_INLINE KOINON_KERNEL __attribute__((always_inline)) inline

namespace koinon::aggregation {
namespace {

// Ahead of use by so many columns: what memory's latency takes.
constexpr size_t kFetchAhead = 512;
// Columns whose sums in double stay in registers.
constexpr size_t kPart = 16;
// With more rows, the next group of columns is fetched instead, while this one
// is worked on: the processor follows only so many streams by itself.
constexpr size_t kStreams = 32;

static_assert(kColumnGroup % kLanes == 0 && kColumnGroup % 16 == 0);

// 16 columns: the cache line that has the last of them, for if they lie across
// two, the columns before them took the first.
KOINON_INLINE void Fetch16(const float* columns) {
  __builtin_prefetch(columns + 15, 0, 2);
}

// ---- Sorting networks over a group: [m][kColumnGroup] ----

KOINON_INLINE void Exchange(Lanes& low, Lanes& high) {
  const Lanes least = Least(low, high);
  high = Greatest(low, high);
  low = least;
}

template <size_t kRows, size_t... kRow, size_t... kStep>
KOINON_INLINE void SortLanes(const float* const* rows, size_t column,
                             float* group, Bad* bad,
                             std::index_sequence<kRow...>,
                             std::index_sequence<kStep...>) {
  [[maybe_unused]] static constexpr auto kNetwork = MakeSortingNetwork<kRows>();
  Lanes wires[kRows] = {LoadRow(rows[kRow] + column)...};
  (CheckFinite(wires[kRow], bad), ...);
  ((wires[kRow] = ToOrder(wires[kRow])), ...);
  (Exchange(wires[kNetwork[kStep][0]], wires[kNetwork[kStep][1]]), ...);
  (Store(group + kRow * kColumnGroup, wires[kRow]), ...);
}

// Columns [column, column + kColumnGroup) of kRows rows, sorted into `group`.
template <size_t kRows>
KOINON_KERNEL void SortRun(const float* const* rows, size_t column,
                           float* group, bool fetch, Bad* bad) {
  constexpr size_t kSteps = MakeSortingNetwork<kRows>().size();
  if (fetch) {
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t c = 0; c < kColumnGroup; c += 16) {
        Fetch16(rows[i] + column + kFetchAhead + c);
      }
    }
  }
  for (size_t c = 0; c < kColumnGroup; c += kLanes) {
    SortLanes<kRows>(rows, column + c, group + c, bad,
                     std::make_index_sequence<kRows>(),
                     std::make_index_sequence<kSteps>());
  }
}

using SortRunFunction = void (*)(const float* const*, size_t, float*, bool,
                                 Bad*);

template <size_t... kIndex>
constexpr std::array<SortRunFunction, kSortedRun> MakeSortRunTable(
    std::index_sequence<kIndex...>) {
  return {SortRun<kIndex + 1>...};
}

constexpr std::array<SortRunFunction, kSortedRun> kSortRun =
    MakeSortRunTable(std::make_index_sequence<kSortedRun>());

KOINON_INLINE void RunComparator(const Comparator& comparator, float* group) {
  float* const low = group + comparator.low * kColumnGroup;
  float* const high = group + comparator.high * kColumnGroup;
  if (comparator.keep_low && comparator.keep_high) {
    for (size_t c = 0; c < kColumnGroup; c += kLanes) {
      const Lanes a = Load(low + c), b = Load(high + c);
      Store(low + c, Least(a, b));
      Store(high + c, Greatest(a, b));
    }
  } else if (comparator.keep_low) {
    for (size_t c = 0; c < kColumnGroup; c += kLanes) {
      Store(low + c, Least(Load(low + c), Load(high + c)));
    }
  } else {
    for (size_t c = 0; c < kColumnGroup; c += kLanes) {
      Store(high + c, Greatest(Load(low + c), Load(high + c)));
    }
  }
}

// Merges the group's runs, and meanwhile fetches the next group's columns.
KOINON_KERNEL void RunMerges(const ColumnProgram& program,
                             const float* const* rows, size_t next_column,
                             float* group) {
  const Comparator* next = program.merges.data();
  const Comparator* const end = next + program.merges.size();
  if (program.m > kStreams) {
    const size_t slice = program.merges.size() / program.m;
    for (size_t i = 0; i < program.m; ++i) {
      for (size_t c = 0; c < kColumnGroup; c += 16) {
        Fetch16(rows[i] + next_column + c);
      }
      for (size_t k = 0; k < slice; ++k) RunComparator(*next++, group);
    }
  }
  while (next != end) RunComparator(*next++, group);
}

// Wires [first, first + count) as floats.
KOINON_KERNEL void RestoreFloats(float* group, size_t first, size_t count) {
  float* const begin = group + first * kColumnGroup;
  for (size_t k = 0; k < count * kColumnGroup; k += kLanes) {
    Store(begin + k, FromOrder(Load(begin + k)));
  }
}

struct GroupResult {
  alignas(64) float mean[kColumnGroup];
  alignas(64) float low[kColumnGroup];
  alignas(64) float high[kColumnGroup];
};

// Of `count` wires, in their order.
KOINON_KERNEL void MeanOf(const float* wires, size_t count, float* mean) {
  const auto divisor = static_cast<double>(count);
  // Dividing by a power of two is exact, and multiplying faster.
  const bool exact = (count & (count - 1)) == 0;
  for (size_t c = 0; c < kColumnGroup; c += kPart) {
    double sum[kPart];
    for (size_t k = 0; k < kPart; ++k) sum[k] = wires[c + k];
    for (size_t i = 1; i < count; ++i) {
      const float* const wire = wires + i * kColumnGroup + c;
      for (size_t k = 0; k < kPart; ++k) sum[k] += static_cast<double>(wire[k]);
    }
    for (size_t k = 0; k < kPart; ++k) {
      mean[c + k] =
          static_cast<float>(exact ? sum[k] * (1 / divisor) : sum[k] / divisor);
    }
  }
}

KOINON_KERNEL void ExtremesOf(const float* wires, size_t count,
                              GroupResult* result) {
  std::copy_n(wires, kColumnGroup, result->low);
  std::copy_n(wires, kColumnGroup, result->high);
  for (size_t i = 1; i < count; ++i) {
    const float* const wire = wires + i * kColumnGroup;
    for (size_t c = 0; c < kColumnGroup; ++c) {
      result->low[c] = std::min(result->low[c], wire[c]);
      result->high[c] = std::max(result->high[c], wire[c]);
    }
  }
}

// The `keep` sorted wires that are nearest to the median: a window, which moves
// up by one for as long as the value above it is nearer than its lowest.
KOINON_KERNEL void MeanAround(const ColumnProgram& program, const float* sorted,
                              GroupResult* result) {
  const size_t keep = program.keep;
  const auto last = static_cast<double>(keep - 1);
  const float* const low = sorted + program.first * kColumnGroup;
  const float* const high = low + (program.kept - 1) * kColumnGroup;
  for (size_t part = 0; part < kColumnGroup; part += kPart) {
    // Ranks as doubles: the compiler keeps one width of lanes.
    double twice_median[kPart], shift[kPart], sum[kPart];
    for (size_t k = 0; k < kPart; ++k) {
      const size_t c = part + k;
      twice_median[k] = static_cast<double>(low[c]) + high[c];
      shift[k] = 0;
      sum[k] = -0.0;  // neutral, also to -0
    }
    for (size_t i = 0; i + keep < program.m; ++i) {
      const float* const lowest = sorted + i * kColumnGroup + part;
      const float* const above = lowest + keep * kColumnGroup;
      for (size_t k = 0; k < kPart; ++k) {
        // above - median < median - lowest; true up to some i, then never.
        const double both = static_cast<double>(lowest[k]) + above[k];
        shift[k] += both < twice_median[k] ? 1.0 : 0.0;
      }
    }
    for (size_t i = 0; i < program.m; ++i) {
      const float* const wire = sorted + i * kColumnGroup + part;
      const auto rank = static_cast<double>(i);
      for (size_t k = 0; k < kPart; ++k) {
        const double past = rank - shift[k];
        const double x = wire[k];
        sum[k] += ((past >= 0) & (past <= last)) ? x : -0.0;
      }
    }
    for (size_t k = 0; k < kPart; ++k) {
      const size_t c = part + k;
      const float* const lowest =
          sorted + static_cast<size_t>(shift[k]) * kColumnGroup + c;
      result->mean[c] = static_cast<float>(sum[k] / static_cast<double>(keep));
      result->low[c] = *lowest;
      result->high[c] = lowest[(keep - 1) * kColumnGroup];
    }
  }
}

KOINON_KERNEL bool ReduceByNetwork(const ColumnProgram& program,
                                   const float* const* rows, size_t column,
                                   size_t next_column, bool extremes,
                                   float* group, GroupResult* result) {
  Bad bad{};
  const bool fetch = program.m <= kStreams && next_column != column;
  for (size_t first = 0; first < program.m; first += kSortedRun) {
    const size_t count = std::min(kSortedRun, program.m - first);
    kSortRun[count - 1](rows + first, column, group + first * kColumnGroup,
                        fetch, &bad);
  }
  RunMerges(program, rows, next_column, group);
  if (program.kind == ColumnRule::kMeanAround) {
    RestoreFloats(group, 0, program.m);
    MeanAround(program, group, result);
    return !AnyBad(bad);
  }
  RestoreFloats(group, program.first, program.kept);
  const float* const kept = group + program.first * kColumnGroup;
  MeanOf(kept, program.kept, result->mean);
  if (extremes) ExtremesOf(kept, program.kept, result);
  return !AnyBad(bad);
}

// ---- Bisection over a part of a group: keys [m][kPart] ----

// An int32 that orders as the value does, -0 before 0, and back: the same
// exchange of bits.
KOINON_INLINE int32_t Key(int32_t bits) {
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

KOINON_INLINE float ValueOf(int32_t key) {
  return std::bit_cast<float>(Key(key));
}

// Keys of one part; as many passes over them as a search takes.
struct Part {
  const int32_t* keys;  // [m][kPart]
  size_t m;
  // What is worked on next, fetched before the search: [m], 16 columns from
  // `next_column` on; null: nothing.
  const float* const* rows;
  size_t next_column;
};

// Where a value of some rank lies in each column: in (below, top], of which
// `below` has too few values at or under it, and `top` enough.
struct Bounds {
  alignas(64) int32_t below[kPart];
  alignas(64) int32_t top[kPart];
};

KOINON_KERNEL void CountAbove(const Part& part, const int32_t* guess,
                              int32_t* count) {
  for (size_t c = 0; c < kPart; c += kLanes) {
    const Keys above = LoadKeys(guess + c);
    Keys sum = AllKeys(0);
    for (size_t i = 0; i < part.m; ++i) {
      sum = CountGreater(sum, LoadKeys(part.keys + i * kPart + c), above);
    }
    StoreKeys(count + c, sum);
  }
}

KOINON_KERNEL void FetchNext(const Part& part) {
  for (size_t i = 0; i < part.m && part.rows != nullptr; ++i) {
    Fetch16(part.rows[i] + part.next_column);
  }
}

// Narrows bounds to values that are there: `top` becomes the greatest value at
// or under it, `below` one under the least value above it.
KOINON_KERNEL void Snap(const Part& part, Bounds* bounds) {
  for (size_t c = 0; c < kPart; c += kLanes) {
    const Keys below = LoadKeys(bounds->below + c);
    const Keys top = LoadKeys(bounds->top + c);
    Keys greatest = AllKeys(INT32_MIN), least = AllKeys(INT32_MAX);
    for (size_t i = 0; i < part.m; ++i) {
      const Keys keys = LoadKeys(part.keys + i * kPart + c);
      greatest = GreatestUpTo(greatest, keys, top);
      least = LeastAbove(least, keys, below);
    }
    StoreKeys(bounds->top + c, greatest);
    StoreKeys(bounds->below + c, Minus(least, AllKeys(1)));
  }
}

// All finite values' keys.
KOINON_KERNEL void Widest(Bounds* bounds) {
  std::fill_n(bounds->below, kPart, INT32_MIN);
  std::fill_n(bounds->top, kPart, INT32_MAX);
}

KOINON_KERNEL void Middle(const Bounds& bounds, int32_t* guess) {
  for (size_t c = 0; c < kPart; ++c) {
    const auto below = static_cast<uint32_t>(bounds.below[c]);
    const auto top = static_cast<uint32_t>(bounds.top[c]);
    guess[c] = static_cast<int32_t>(below + (top - below) / 2);
  }
}

// How a search for the value of a rank (from 0) stands.
struct Search {
  int32_t rank;
  Bounds bounds;
  // How many values are at or under the bounds: at_below <= rank < at_top.
  alignas(64) int32_t at_below[kPart];
  alignas(64) int32_t at_top[kPart];
};

// Whether the value may still be one of several between the bounds, and neither
// the least of them nor the greatest.
KOINON_KERNEL bool IsOpen(const Search& search) {
  int32_t open = 0;
  for (size_t c = 0; c < kPart; ++c) {
    open |= (search.at_below[c] != search.rank) &
            (search.at_top[c] != search.rank + 1) &
            (search.bounds.top[c] - 1 != search.bounds.below[c]);
  }
  return open != 0;
}

KOINON_KERNEL void Halve(const Part& part, Search* search) {
  alignas(64) int32_t guess[kPart], above[kPart];
  Middle(search->bounds, guess);
  CountAbove(part, guess, above);
  for (size_t c = 0; c < kPart; ++c) {
    const int32_t under = static_cast<int32_t>(part.m) - above[c];
    const bool reached = under > search->rank;
    search->bounds.top[c] = reached ? guess[c] : search->bounds.top[c];
    search->at_top[c] = reached ? under : search->at_top[c];
    search->bounds.below[c] = reached ? search->bounds.below[c] : guess[c];
    search->at_below[c] = reached ? search->at_below[c] : under;
  }
}

// A search that goes on for so long probably has many equal values between its
// bounds, which a look at the values tells.
constexpr int kPassesToSnap = 10;

// The values of rank `rank`, in 32 passes at most.
KOINON_KERNEL void Select(const Part& part, size_t rank, int32_t* value) {
  Search search;
  search.rank = static_cast<int32_t>(rank);
  std::fill_n(search.at_below, kPart, 0);
  std::fill_n(search.at_top, kPart, static_cast<int32_t>(part.m));
  Widest(&search.bounds);
  Snap(part, &search.bounds);
  FetchNext(part);
  for (int pass = 1; IsOpen(search); ++pass) {
    Halve(part, &search);
    if (pass % kPassesToSnap == 0) Snap(part, &search.bounds);
  }
  Snap(part, &search.bounds);
  for (size_t c = 0; c < kPart; ++c) {
    value[c] = search.at_below[c] == search.rank ? search.bounds.below[c] + 1
                                                 : search.bounds.top[c];
  }
}

// The values of rank `rank` + 1, where those of rank `rank` are known: the same
// if there are more of them, else the next.
KOINON_KERNEL void SelectNext(const Part& part, size_t rank,
                              const int32_t* known, int32_t* value) {
  alignas(64) int32_t above[kPart];
  Bounds next;
  Widest(&next);
  std::copy_n(known, kPart, next.below);
  CountAbove(part, known, above);
  Snap(part, &next);
  for (size_t c = 0; c < kPart; ++c) {
    const size_t up_to_known = part.m - static_cast<size_t>(above[c]);
    value[c] = up_to_known > rank + 1 ? known[c] : next.below[c] + 1;
  }
}

// Lower weighted median.
KOINON_KERNEL void SelectByWeight(const Part& part,
                                  const std::vector<double>& weights,
                                  double half, int32_t* value) {
  alignas(64) int32_t guess[kPart];
  alignas(64) double sum[kPart];
  Bounds bounds;
  Widest(&bounds);
  Snap(part, &bounds);
  FetchNext(part);
  for (int pass = 1;; ++pass) {
    int32_t open = 0;
    for (size_t c = 0; c < kPart; ++c) {
      open |= bounds.top[c] - 1 != bounds.below[c];
    }
    if (open == 0) break;
    Middle(bounds, guess);
    for (size_t c = 0; c < kPart; c += kLanes) {
      const Keys most = LoadKeys(guess + c);
      Sums sums = NoSums();
      for (size_t i = 0; i < part.m; ++i) {
        AddUpTo(&sums, LoadKeys(part.keys + i * kPart + c), most, weights[i]);
      }
      StoreSums(sum + c, sums);
    }
    for (size_t c = 0; c < kPart; ++c) {
      const bool reached = sum[c] >= half;
      bounds.top[c] = reached ? guess[c] : bounds.top[c];
      bounds.below[c] = reached ? bounds.below[c] : guess[c];
    }
    if (pass % 4 == 0) Snap(part, &bounds);
  }
  std::copy_n(bounds.top, kPart, value);
}

// Of the values from rank `first` to rank `last`, which are `low` and `high`:
// those strictly between in the order of the rows, then the copies of `low`
// and of `high` that are kept.
KOINON_KERNEL void MeanBetween(const Part& part, size_t first, size_t last,
                               const int32_t* low, const int32_t* high,
                               float* mean) {
  alignas(64) double sum[kPart];
  // Values greater than `low`; at least `high`.
  alignas(64) int32_t over[kPart], from[kPart];
  for (size_t c = 0; c < kPart; c += kLanes) {
    const Keys lows = LoadKeys(low + c), highs = LoadKeys(high + c);
    const Keys under_high = Minus(highs, AllKeys(1));
    Sums sums = NoSums();
    Keys count_over = AllKeys(0), count_from = AllKeys(0);
    for (size_t i = 0; i < part.m; ++i) {
      const Keys keys = LoadKeys(part.keys + i * kPart + c);
      AddBetween(&sums, keys, lows, highs);
      count_over = CountGreater(count_over, keys, lows);
      count_from = CountGreater(count_from, keys, under_high);
    }
    StoreSums(sum + c, sums);
    StoreKeys(over + c, count_over);
    StoreKeys(from + c, count_from);
  }
  const auto kept = static_cast<double>(last - first + 1);
  for (size_t c = 0; c < kPart; ++c) {
    // Exact products: a float times a count.
    const double lows = static_cast<double>(ValueOf(low[c])) *
                        static_cast<double>(part.m - first - over[c]);
    const double highs = static_cast<double>(ValueOf(high[c])) *
                         static_cast<double>(from[c] - (part.m - 1 - last));
    mean[c] = low[c] == high[c]
                  ? ValueOf(low[c])
                  : static_cast<float>((sum[c] + lows + highs) / kept);
  }
}

KOINON_KERNEL void ReducePart(const ColumnProgram& program, const Part& part,
                              float* mean, float* low, float* high) {
  alignas(64) int32_t lows[kPart], highs[kPart];
  const size_t last = program.first + program.kept - 1;
  if (program.kind == ColumnRule::kWeightedMedian) {
    SelectByWeight(part, program.weights, program.half, lows);
    std::copy_n(lows, kPart, highs);
  } else {
    Select(part, program.first, lows);
    if (program.kept == 1) {
      std::copy_n(lows, kPart, highs);
    } else if (program.kept == 2) {
      SelectNext(part, program.first, lows, highs);
    } else {
      Select(part, last, highs);
    }
  }
  if (program.kind == ColumnRule::kTrimmedMean) {
    MeanBetween(part, program.first, last, lows, highs, mean);
  } else {
    for (size_t c = 0; c < kPart; ++c) {
      const double both =
          static_cast<double>(ValueOf(lows[c])) + ValueOf(highs[c]);
      mean[c] = static_cast<float>(both / 2);
    }
  }
  for (size_t c = 0; c < kPart; ++c) {
    low[c] = ValueOf(lows[c]);
    high[c] = ValueOf(highs[c]);
  }
}

KOINON_KERNEL bool ReduceByBisection(const ColumnProgram& program,
                                     const float* const* rows, size_t column,
                                     size_t next_column, float* group,
                                     GroupResult* result) {
  // Aliased as integers through vectors of bits only.
  Bad bad{};
  const size_t part_size = program.m * kPart;
  for (size_t i = 0; i < program.m; ++i) {
    for (size_t c = 0; c < kColumnGroup; c += kLanes) {
      const Lanes values = LoadRow(rows[i] + column + c);
      CheckFinite(values, &bad);
      StoreKeys(reinterpret_cast<int32_t*>(group) + c / kPart * part_size +
                    i * kPart + c % kPart,
                KeysOf(values));
    }
  }
  if (AnyBad(bad)) return false;
  for (size_t c = 0; c < kColumnGroup; c += kPart) {
    const Part part = {
        reinterpret_cast<const int32_t*>(group) + c / kPart * part_size,
        program.m, next_column == column ? nullptr : rows, next_column + c};
    ReducePart(program, part, result->mean + c, result->low + c,
               result->high + c);
  }
  return true;
}

// ---- A block, group by group ----

// Columns [column, column + kColumnGroup) into `result`.
KOINON_KERNEL bool ReduceGroup(const ColumnProgram& program,
                               const float* const* rows, size_t column,
                               size_t next_column, bool extremes,
                               float* scratch, GroupResult* result) {
  return program.bisect ? ReduceByBisection(program, rows, column, next_column,
                                            scratch, result)
                        : ReduceByNetwork(program, rows, column, next_column,
                                          extremes, scratch, result);
}

KOINON_KERNEL void WriteGroup(const ColumnBlock& block, size_t column,
                              size_t count, const GroupResult& result) {
  StreamTo(block.out + column, result.mean, count);
  if (block.low == nullptr) return;
  std::copy_n(result.low, count, block.low + column);
  std::copy_n(result.high, count, block.high + column);
}

// The last columns, which are less than a group: copied, with zeros after.
KOINON_KERNEL bool ReduceRest(const ColumnProgram& program,
                              const ColumnBlock& block, size_t column,
                              float* scratch, GroupResult* result) {
  float* const padded = scratch + program.m * kColumnGroup;
  const size_t count = block.count - column;
  std::vector<const float*> rows(program.m);
  for (size_t i = 0; i < program.m; ++i) {
    float* const row = padded + i * kColumnGroup;
    std::fill_n(std::copy_n(block.rows[i] + column, count, row),
                kColumnGroup - count, 0.0f);
    rows[i] = row;
  }
  return ReduceGroup(program, rows.data(), 0, 0, true, scratch, result);
}

KOINON_KERNEL bool ReduceBlock(const ColumnProgram& program,
                               const ColumnBlock& block, float* scratch) {
  GroupResult result;
  size_t column = 0;
  for (; column + kColumnGroup <= block.count; column += kColumnGroup) {
    if (!ReduceGroup(program, block.rows, column, column + kColumnGroup,
                     block.low != nullptr, scratch, &result)) {
      return false;
    }
    WriteGroup(block, column, kColumnGroup, result);
  }
  if (column == block.count) return true;
  if (!ReduceRest(program, block, column, scratch, &result)) return false;
  WriteGroup(block, column, block.count - column, result);
  return true;
}

}  // namespace
}  // namespace koinon::aggregation
