#include "dht/swarm/leaf_hashes.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "absl/strings/string_view.h"

// GCC 12 takes the undefined registers that its own intrinsics begin with for
// mistakes.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

#define KOINON_AVX512 __attribute__((target("avx512f,avx512bw")))
#define KOINON_AVX512_INLINE \
  __attribute__((target("avx512f,avx512bw"), always_inline)) inline

namespace koinon::dht {
namespace {

constexpr size_t kLanes = 16;
// Of fewer leaves, one after the other is as fast.
constexpr size_t kLeastLanes = 8;
constexpr size_t kBlockBytes = 64;
constexpr size_t kWords = 8;  // of a state; of a digest

// FIPS 180-4, sections 4.2.2 and 5.3.3.
constexpr std::array<uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
constexpr std::array<uint32_t, kWords> kInitial = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

KOINON_AVX512_INLINE __m512i Add(__m512i a, __m512i b) {
  return _mm512_add_epi32(a, b);
}
KOINON_AVX512_INLINE __m512i Xor(__m512i a, __m512i b, __m512i c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0x96);
}

// Rows of 16 words become columns.
KOINON_AVX512_INLINE void Transpose(__m512i* rows) {
  __m512i t[kLanes];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    __m512i* const in = t + 4 * i;
    rows[4 * i] = _mm512_unpacklo_epi64(in[0], in[2]);
    rows[4 * i + 1] = _mm512_unpackhi_epi64(in[0], in[2]);
    rows[4 * i + 2] = _mm512_unpacklo_epi64(in[1], in[3]);
    rows[4 * i + 3] = _mm512_unpackhi_epi64(in[1], in[3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0x88);
    t[4 + i] = _mm512_shuffle_i32x4(rows[i], rows[4 + i], 0xdd);
    t[8 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0x88);
    t[12 + i] = _mm512_shuffle_i32x4(rows[8 + i], rows[12 + i], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
    rows[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
    rows[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
    rows[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
  }
}

// The next word of the message schedule, in place of the one of 16 before.
KOINON_AVX512_INLINE __m512i Schedule(const __m512i* w, int round) {
  const __m512i early = w[(round + 1) % 16];
  const __m512i late = w[(round + 14) % 16];
  const __m512i sigma0 =
      Xor(_mm512_ror_epi32(early, 7), _mm512_ror_epi32(early, 18),
          _mm512_srli_epi32(early, 3));
  const __m512i sigma1 =
      Xor(_mm512_ror_epi32(late, 17), _mm512_ror_epi32(late, 19),
          _mm512_srli_epi32(late, 10));
  return Add(Add(w[round % 16], w[(round + 9) % 16]), Add(sigma0, sigma1));
}

// One block of each lane, as 16 words, into their states (section 6.2.2).
KOINON_AVX512 void Compress(__m512i* state, __m512i* w) {
  __m512i v[kWords];
  for (size_t i = 0; i < kWords; ++i) v[i] = state[i];
#pragma GCC unroll 64
  for (int round = 0; round < 64; ++round) {
    // Names move on by one with each round; values stay where they are.
    const auto at = [round](int name) { return (64 + name - round) % 8; };
    const __m512i a = v[at(0)], b = v[at(1)], c = v[at(2)];
    const __m512i e = v[at(4)], f = v[at(5)], g = v[at(6)];
    const __m512i sum1 = Xor(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11),
                             _mm512_ror_epi32(e, 25));
    const __m512i choice = _mm512_ternarylogic_epi32(e, f, g, 0xca);
    const __m512i word = Add(w[round % 16], _mm512_set1_epi32(kRound[round]));
    const __m512i t1 = Add(Add(v[at(7)], word), Add(sum1, choice));
    const __m512i sum0 = Xor(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13),
                             _mm512_ror_epi32(a, 22));
    const __m512i majority = _mm512_ternarylogic_epi32(a, b, c, 0xe8);
    v[at(3)] = Add(v[at(3)], t1);
    v[at(7)] = Add(t1, Add(sum0, majority));
    if (round < 48) w[round % 16] = Schedule(w, round);
  }
  for (size_t i = 0; i < kWords; ++i) state[i] = Add(state[i], v[i]);
}

using Leaf = const uint8_t*;

// Whole leaves, of 16 KiB each.
KOINON_AVX512 void HashSixteen(const std::array<Leaf, kLanes>& leaves,
                               uint32_t (*words)[kLanes]) {
  const __m512i big_endian = _mm512_broadcast_i32x4(
      _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
  __m512i state[kWords];
  for (size_t i = 0; i < kWords; ++i) {
    state[i] = _mm512_set1_epi32(static_cast<int>(kInitial[i]));
  }
  __m512i w[kLanes];
  for (size_t at = 0; at < kLeafBytes; at += kBlockBytes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      w[lane] = _mm512_shuffle_epi8(_mm512_loadu_si512(leaves[lane] + at),
                                    big_endian);
    }
    Transpose(w);
    Compress(state, w);
  }
  // The padding: a one, zeros, the length in bits.
  for (__m512i& word : w) word = _mm512_setzero_si512();
  w[0] = _mm512_set1_epi32(static_cast<int>(0x80000000));
  w[15] = _mm512_set1_epi32(8 * kLeafBytes);
  Compress(state, w);
  for (size_t i = 0; i < kWords; ++i) _mm512_storeu_si512(words[i], state[i]);
}

Digest DigestOf(const uint32_t (*words)[kLanes], size_t lane) {
  std::array<char, Digest::kSizeBytes> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(words[i / 4][lane] >> (24 - 8 * (i % 4)));
  }
  return *Digest::FromBytes(absl::string_view(bytes.data(), bytes.size()));
}

// As many of the leaves from `bytes` on as fill lanes enough: none if there are
// too few.
size_t HashInLanes(absl::Span<const uint8_t> bytes,
                   std::vector<Digest>* hashes) {
  const size_t count = std::min(kLanes, bytes.size() / kLeafBytes);
  if (count < kLeastLanes) return 0;
  std::array<Leaf, kLanes> leaves;
  for (size_t lane = 0; lane < kLanes; ++lane) {  // the rest is thrown away
    leaves[lane] = bytes.data() + std::min(lane, count - 1) * kLeafBytes;
  }
  uint32_t words[kWords][kLanes];
  HashSixteen(leaves, words);
  for (size_t lane = 0; lane < count; ++lane) {
    hashes->push_back(DigestOf(words, lane));
  }
  return count * kLeafBytes;
}

}  // namespace

Digest LeafHash(absl::Span<const uint8_t> leaf) {
  thread_local Sha256 sha;  // a new context costs much beside one leaf
  sha.Update(leaf.data(), leaf.size());
  return sha.Finish();
}

LeafHashing BestLeafHashing() {
  static const bool sixteen =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return sixteen ? LeafHashing::kSixteen : LeafHashing::kOneByOne;
}

std::vector<Digest> LeafHashes(absl::Span<const uint8_t> bytes,
                               LeafHashing how) {
  std::vector<Digest> hashes;
  hashes.reserve(bytes.size() / kLeafBytes + 1);
  while (!bytes.empty()) {
    size_t done = 0;
    if (how == LeafHashing::kSixteen) done = HashInLanes(bytes, &hashes);
    if (done == 0) {
      done = std::min<size_t>(kLeafBytes, bytes.size());
      hashes.push_back(LeafHash(bytes.subspan(0, done)));
    }
    bytes.remove_prefix(done);
  }
  return hashes;
}

}  // namespace koinon::dht
