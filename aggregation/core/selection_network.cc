#include "aggregation/core/selection_network.h"

#include <algorithm>

namespace koinon::aggregation {

std::vector<Comparator> OddEvenMergeSort(size_t wires, size_t sorted) {
  std::vector<Comparator> network;
  VisitOddEvenMergeSort(wires, sorted, [&network](size_t low, size_t high) {
    network.push_back(
        {static_cast<uint32_t>(low), static_cast<uint32_t>(high)});
  });
  return network;
}

std::vector<Comparator> PruneToSet(const std::vector<Comparator>& network,
                                   size_t wires, size_t first, size_t count) {
  // What the part of the network that follows makes of a wire's value: nothing,
  // one of the set, or something that depends on the wire.
  enum class Use { kNone, kAnyOfSet, kExact };
  std::vector<Use> use(wires, Use::kNone);
  std::fill_n(use.begin() + static_cast<ptrdiff_t>(first), count,
              Use::kAnyOfSet);
  std::vector<Comparator> pruned;
  for (auto it = network.rbegin(); it != network.rend(); ++it) {
    Use& low = use[it->low];
    Use& high = use[it->high];
    if (low == high && low != Use::kExact) continue;
    pruned.push_back(
        {it->low, it->high, low != Use::kNone, high != Use::kNone});
    low = high = Use::kExact;
  }
  std::reverse(pruned.begin(), pruned.end());
  return pruned;
}

}  // namespace koinon::aggregation
