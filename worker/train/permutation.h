#ifndef KOINON_WORKER_TRAIN_PERMUTATION_H_
#define KOINON_WORKER_TRAIN_PERMUTATION_H_

#include <cstdint>

namespace koinon::worker {

// A seeded order of 0 to size - 1 that takes no memory: for so many examples
// that a list of them would be long. A value, immutable; thread-safe.
//
// A Feistel network over the next even number of bits, walked until it comes
// out below `size` (Black and Rogaway 2002, "Ciphers with Arbitrary Finite
// Domains", section 4).
class Permutation {
 public:
  // Requires size > 0 and at most 2^62.
  Permutation(uint64_t seed, uint64_t size);

  // What stands at `index`. Requires index < size.
  uint64_t At(uint64_t index) const;

 private:
  uint64_t Encrypt(uint64_t value) const;

  uint64_t seed_;
  uint64_t size_;
  int half_bits_ = 1;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_PERMUTATION_H_
