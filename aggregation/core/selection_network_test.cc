#include "aggregation/core/selection_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/random.h"

namespace koinon::aggregation {
namespace {

// A network that selects right among zeros and ones selects right among any
// values (Knuth, TAOCP 5.3.4, theorem Z): thresholds commute with exchanges.
// So 64 columns of bits at a time: least is AND, greatest OR.
using Wires = std::vector<uint64_t>;

// Sides that are not kept get noise: nobody may look at them.
void Apply(const std::vector<Comparator>& network, Wires* wires) {
  for (const Comparator& c : network) {
    const uint64_t low = (*wires)[c.low], high = (*wires)[c.high];
    (*wires)[c.low] = c.keep_low ? low & high : 0x5555555555555555;
    (*wires)[c.high] = c.keep_high ? low | high : 0x3333333333333333;
  }
}

// How many of wires [first, first + count) are one, in column `bit`.
size_t Ones(const Wires& wires, size_t first, size_t count, int bit) {
  size_t ones = 0;
  for (size_t i = first; i < first + count; ++i) ones += wires[i] >> bit & 1;
  return ones;
}

// Of `ones` ones among m values, so many belong to ranks [first, first+count).
size_t OnesOfRanks(size_t m, size_t ones, size_t first, size_t count) {
  const size_t zeros = m - ones;
  const size_t from = std::max(zeros, first);
  return from < first + count ? first + count - from : 0;
}

// Runs `network` on the given columns; false if the set is wrong in one.
bool SelectsRight(const std::vector<Comparator>& network, const Wires& input,
                  size_t first, size_t count) {
  Wires wires = input;
  Apply(network, &wires);
  for (int bit = 0; bit < 64; ++bit) {
    const size_t ones = Ones(input, 0, input.size(), bit);
    if (Ones(wires, first, count, bit) !=
        OnesOfRanks(input.size(), ones, first, count)) {
      return false;
    }
  }
  return true;
}

bool SelectsRightAlways(const std::vector<Comparator>& network, size_t m,
                        size_t first, size_t count) {
  const uint64_t inputs = uint64_t{1} << m;
  for (uint64_t start = 0; start < inputs; start += 64) {
    Wires wires(m);
    for (uint64_t bit = 0; bit < 64; ++bit) {
      const uint64_t input = (start + bit) % inputs;
      for (size_t i = 0; i < m; ++i) wires[i] |= (input >> i & 1) << bit;
    }
    if (!SelectsRight(network, wires, first, count)) return false;
  }
  return true;
}

bool Sorts(const std::vector<Comparator>& network, size_t m) {
  for (size_t i = 0; i < m; ++i) {
    if (!SelectsRightAlways(network, m, i, 1)) return false;
  }
  return true;
}

TEST(OddEvenMergeSortTest, UpTo16Wires_SortsEveryInput) {
  for (size_t m = 1; m <= 16; ++m) {
    EXPECT_TRUE(Sorts(OddEvenMergeSort(m), m)) << m;
  }
}

TEST(OddEvenMergeSortTest, PowersOfTwo_HaveBatchersSizes) {
  EXPECT_EQ(OddEvenMergeSort(1).size(), 0);
  EXPECT_EQ(OddEvenMergeSort(2).size(), 1);
  EXPECT_EQ(OddEvenMergeSort(8).size(), 19);
  EXPECT_EQ(OddEvenMergeSort(16).size(), 63);
  EXPECT_EQ(OddEvenMergeSort(64).size(), 543);
}

TEST(OddEvenMergeSortTest, SortedRuns_LeaveOutWhatIsInsideOfThem) {
  for (size_t m : {1, 15, 16, 17, 33, 100}) {
    std::vector<Comparator> expected;
    for (const Comparator& c : OddEvenMergeSort(m)) {
      // What sorts a run comes before what touches any wire of it from outside.
      if (c.low / 16 != c.high / 16) expected.push_back(c);
    }
    std::vector<Comparator> between;
    for (const Comparator& c : OddEvenMergeSort(m, 16)) {
      if (c.low / 16 != c.high / 16) between.push_back(c);
    }
    EXPECT_EQ(between, expected);
    Random random(m);
    for (int round = 0; round < 50; ++round) {
      Wires wires(m);
      for (uint64_t& wire : wires) wire = random.NextUint64();
      for (size_t run = 0; run < m; run += 16) {
        const size_t count = std::min<size_t>(16, m - run);
        const auto begin = wires.begin() + static_cast<ptrdiff_t>(run);
        Wires part(begin, begin + static_cast<ptrdiff_t>(count));
        Apply(OddEvenMergeSort(count), &part);
        std::copy(part.begin(), part.end(), begin);
      }
      for (size_t first = 0; first < m; ++first) {
        EXPECT_TRUE(SelectsRight(OddEvenMergeSort(m, 16), wires, first, 1));
      }
    }
  }
}

TEST(OddEvenMergeSortTest, CompileTime_IsTheSame) {
  const auto fixed = MakeSortingNetwork<13>();
  const std::vector<Comparator> network = OddEvenMergeSort(13);
  ASSERT_EQ(fixed.size(), network.size());
  for (size_t i = 0; i < network.size(); ++i) {
    EXPECT_EQ(fixed[i][0], network[i].low);
    EXPECT_EQ(fixed[i][1], network[i].high);
  }
}

TEST(PruneToSetTest, UpTo16Wires_EveryCentredSetOfEveryInput) {
  for (size_t m = 1; m <= 16; ++m) {
    for (size_t first = 0; 2 * first < m; ++first) {
      const size_t count = m - 2 * first;
      EXPECT_TRUE(SelectsRightAlways(
          PruneToSet(OddEvenMergeSort(m), m, first, count), m, first, count))
          << m << " " << first;
    }
  }
}

TEST(PruneToSetTest, SmallSets_AnyPlace) {
  for (size_t m = 2; m <= 10; ++m) {
    for (size_t first = 0; first < m; ++first) {
      for (size_t count = 1; first + count <= m; ++count) {
        EXPECT_TRUE(SelectsRightAlways(
            PruneToSet(OddEvenMergeSort(m), m, first, count), m, first, count))
            << m << " " << first << " " << count;
      }
    }
  }
}

TEST(PruneToSetTest, ManyWires_RandomInputs) {
  Random random(7);
  for (size_t m : {17, 31, 32, 33, 64, 100, 127, 200, 256, 301}) {
    for (size_t first : {(m - 1) / 2, m / 5, size_t{0}, size_t{1}}) {
      const size_t count = m - 2 * first;
      const auto network = PruneToSet(OddEvenMergeSort(m), m, first, count);
      for (int round = 0; round < 20; ++round) {
        // Bits with every share of ones, so that thresholds fall everywhere.
        Wires wires(m);
        for (int bit = 0; bit < 64; ++bit) {
          const uint64_t share = random.NextBelow(1001);
          for (uint64_t& wire : wires) {
            wire |= uint64_t{random.NextBelow(1000) < share} << bit;
          }
        }
        EXPECT_TRUE(SelectsRight(network, wires, first, count))
            << m << " " << first;
      }
    }
  }
}

TEST(PruneToSetTest, Median_IsCheaperThanSorting) {
  const auto pruned = PruneToSet(OddEvenMergeSort(64), 64, 31, 2);
  EXPECT_LT(pruned.size(), OddEvenMergeSort(64).size() * 9 / 10);
  EXPECT_TRUE(PruneToSet(OddEvenMergeSort(64), 64, 0, 64).empty());
}

}  // namespace
}  // namespace koinon::aggregation
