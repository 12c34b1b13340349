#include "tools/bench/read_loop.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace koinon::tools {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kPiece = 256u << 10;  // one thread's share at a time

// Each ORs whole groups of four cache lines together. `ahead`: bytes by which
// lines are asked for before they are read; 0: left to the processor.
using Read = uint64_t (*)(const char* bytes, size_t size, size_t ahead);

uint64_t ReadPortable(const char* bytes, size_t size, size_t) {
  uint64_t all[16] = {};
  for (size_t i = 0; i + sizeof(all) <= size; i += sizeof(all)) {
    uint64_t line[16];
    std::memcpy(line, bytes + i, sizeof(line));
    for (int k = 0; k < 16; ++k) all[k] |= line[k];
  }
  return *std::max_element(all, all + 16);
}

#if defined(__x86_64__)

__attribute__((target("avx512f"))) uint64_t Read512(const char* bytes,
                                                    size_t size, size_t ahead) {
  __m512i all[4] = {};
  for (size_t i = 0; i + 4 * kLine <= size; i += 4 * kLine) {
    for (int k = 0; k < 4; ++k) {
      if (ahead > 0) _mm_prefetch(bytes + i + k * kLine + ahead, _MM_HINT_T0);
      all[k] =
          _mm512_or_si512(all[k], _mm512_loadu_si512(bytes + i + k * kLine));
    }
  }
  uint64_t words[32];
  std::memcpy(words, all, sizeof(words));
  return *std::max_element(words, words + 32);
}

__attribute__((target("avx2"))) uint64_t Read256(const char* bytes, size_t size,
                                                 size_t ahead) {
  __m256i all[8] = {};
  for (size_t i = 0; i + 4 * kLine <= size; i += 4 * kLine) {
    for (int k = 0; k < 8; ++k) {
      const char* const half = bytes + i + k * 32;
      if (ahead > 0 && k % 2 == 0) _mm_prefetch(half + ahead, _MM_HINT_T0);
      all[k] = _mm256_or_si256(
          all[k], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
    }
  }
  uint64_t words[32];
  std::memcpy(words, all, sizeof(words));
  return *std::max_element(words, words + 32);
}

#endif  // defined(__x86_64__)

Read FastestRead() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return Read512;
  if (__builtin_cpu_supports("avx2")) return Read256;
#endif
  return ReadPortable;
}

}  // namespace

void ReadAll(absl::Span<const float> values, int way, ThreadPool* pool) {
  static const Read read = FastestRead();
  // Somewhere for the result to go, so that the reading is not left out.
  static std::atomic<uint64_t> sink{0};
  const char* const bytes = reinterpret_cast<const char*>(values.data());
  const size_t size = values.size() * sizeof(float);
  const size_t ahead = way == 0 ? 0 : 2048;
  pool->ParallelFor((size + kPiece - 1) / kPiece, [&](size_t i) {
    const size_t offset = i * kPiece;
    sink.fetch_or(read(bytes + offset, std::min(kPiece, size - offset), ahead),
                  std::memory_order_relaxed);
  });
}

}  // namespace koinon::tools
