#ifndef KOINON_TOOLS_BENCH_READ_LOOP_H_
#define KOINON_TOOLS_BENCH_READ_LOOP_H_

#include <cstddef>

#include "absl/types/span.h"
#include "base/thread_pool.h"

namespace koinon::tools {

// Reads every float once on all threads of the pool and does next to nothing
// with it: the speed that memory allows. Of several ways to read, `way` chooses
// one in [0, kReadWays); which is the fastest depends on the machine.
inline constexpr int kReadWays = 2;
void ReadAll(absl::Span<const float> values, int way, ThreadPool* pool);

}  // namespace koinon::tools

#endif  // KOINON_TOOLS_BENCH_READ_LOOP_H_
