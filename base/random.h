#ifndef KOINON_BASE_RANDOM_H_
#define KOINON_BASE_RANDOM_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace koinon {

// A seeded generator whose numbers are the same on every machine and library,
// unlike the distributions of <random>. Not for secrets: those come from
// OpenSSL. A value; not thread-safe.
//
// xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number
// generators", 2021), seeded by SplitMix64.
class Random {
 public:
  explicit Random(uint64_t seed);

  uint64_t NextUint64();
  // Uniform in [0, bound), without modulo bias. Requires bound > 0.
  uint64_t NextBelow(uint64_t bound);
  // Uniform in [0, 1), 53 bits.
  double NextDouble();
  // Standard normal (Box-Muller).
  double NextNormal();
  // Gamma(shape, 1) (Marsaglia and Tsang 2000). Requires shape > 0.
  double NextGamma(double shape);
  // Dirichlet(alpha, ..., alpha) over k categories; sums to 1. Requires
  // alpha > 0 and k > 0.
  std::vector<double> NextDirichlet(double alpha, size_t k);

  // Fisher-Yates.
  template <typename T>
  void Shuffle(std::vector<T>* items) {
    for (size_t i = items->size(); i > 1; --i) {
      std::swap((*items)[i - 1], (*items)[NextBelow(i)]);
    }
  }

 private:
  uint64_t state_[4];
  bool has_spare_normal_ = false;
  double spare_normal_ = 0;
};

// A well-mixed seed for one use, derived from a parent seed and a label such
// as "cohort/round-3" or a worker's id: streams for different labels are
// independent, and no generator has to be passed around.
uint64_t DeriveSeed(uint64_t parent, absl::string_view label);
uint64_t DeriveSeed(uint64_t parent, uint64_t index);

// Counter-based: the i-th number of the stream `seed`, so that blocks of a
// large tensor can be filled independently and in any order.
uint64_t RandomAt(uint64_t seed, uint64_t index);
// Uniform in [0, 1) at position `index`.
double UniformAt(uint64_t seed, uint64_t index);
// Standard normal at position `index` (uses two positions' worth of bits).
double NormalAt(uint64_t seed, uint64_t index);

}  // namespace koinon

#endif  // KOINON_BASE_RANDOM_H_
