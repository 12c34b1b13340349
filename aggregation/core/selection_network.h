#ifndef KOINON_AGGREGATION_CORE_SELECTION_NETWORK_H_
#define KOINON_AGGREGATION_CORE_SELECTION_NETWORK_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace koinon::aggregation {

// One exchange of a sorting network: wire `low` takes the lesser of the two
// values and wire `high` the greater. A value that nobody looks at any more
// need not be written.
struct Comparator {
  uint32_t low = 0;
  uint32_t high = 0;
  bool keep_low = true;
  bool keep_high = true;

  friend bool operator==(const Comparator&, const Comparator&) = default;
};

// Calls visit(low, high) for each exchange that merges two sorted runs of `run`
// wires, of which the first begins at `begin`.
template <typename Visit>
constexpr void VisitOddEvenMerge(size_t begin, size_t run, size_t wires,
                                 Visit& visit) {
  const size_t end = begin + 2 * run < wires ? begin + 2 * run : wires;
  for (size_t step = run; step >= 1; step /= 2) {
    for (size_t block = begin + step % run; block + step < end;
         block += 2 * step) {
      for (size_t i = block; i < block + step && i + step < end; ++i) {
        visit(i, i + step);
      }
    }
  }
}

// Calls visit(low, high) for each exchange of Batcher's odd-even merge sort
// over `wires` wires whose runs of `sorted` wires (a power of two; 1: none) are
// in order already (Batcher, "Sorting networks and their applications", 1968;
// Knuth, TAOCP 5.3.4). Wires past the last are taken to hold the greatest
// value, so any number of wires will do. Each half is done before the next, so
// that its wires stay in the nearest cache.
template <typename Visit>
constexpr void VisitOddEvenMergeSort(size_t begin, size_t span, size_t wires,
                                     size_t sorted, Visit& visit) {
  if (span <= sorted || begin + 1 >= wires) return;
  const size_t run = span / 2;
  VisitOddEvenMergeSort(begin, run, wires, sorted, visit);
  VisitOddEvenMergeSort(begin + run, run, wires, sorted, visit);
  VisitOddEvenMerge(begin, run, wires, visit);
}

template <typename Visit>
constexpr void VisitOddEvenMergeSort(size_t wires, size_t sorted, Visit visit) {
  VisitOddEvenMergeSort(0, std::bit_ceil(wires), wires, sorted, visit);
}

std::vector<Comparator> OddEvenMergeSort(size_t wires, size_t sorted = 1);

// What is left of a network if all that is asked for is which values end on the
// wires [first, first + count), in whatever order: without exchanges between
// wires that are both asked for, or both not, from there on; others keep one
// side only where nobody looks at the other.
std::vector<Comparator> PruneToSet(const std::vector<Comparator>& network,
                                   size_t wires, size_t first, size_t count);

// The whole network for compilers to unroll.
template <size_t kWires>
constexpr auto MakeSortingNetwork() {
  constexpr size_t kSize = [] {
    size_t size = 0;
    VisitOddEvenMergeSort(kWires, 1, [&size](size_t, size_t) { ++size; });
    return size;
  }();
  std::array<std::array<size_t, 2>, kSize> network{};
  size_t next = 0;
  VisitOddEvenMergeSort(kWires, 1, [&](size_t low, size_t high) {
    network[next++] = {low, high};
  });
  return network;
}

}  // namespace koinon::aggregation

#endif  // KOINON_AGGREGATION_CORE_SELECTION_NETWORK_H_
