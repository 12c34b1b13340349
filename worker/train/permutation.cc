#include "worker/train/permutation.h"

#include "base/random.h"

namespace koinon::worker {
namespace {

constexpr uint64_t kRounds = 6;

}  // namespace

Permutation::Permutation(uint64_t seed, uint64_t size)
    : seed_(seed), size_(size) {
  while (uint64_t{1} << 2 * half_bits_ < size) ++half_bits_;
}

uint64_t Permutation::Encrypt(uint64_t value) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = value >> half_bits_;
  uint64_t right = value & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed =
        RandomAt(seed_, (round << half_bits_ | right)) & mask;
    const uint64_t next = left ^ mixed;
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

uint64_t Permutation::At(uint64_t index) const {
  // A bijection of at most 4 * size values: the walk from a value below size
  // comes back below it, after fewer than 4 steps on average.
  uint64_t value = Encrypt(index);
  while (value >= size_) value = Encrypt(value);
  return value;
}

}  // namespace koinon::worker
