#ifndef KOINON_KERNELS_ONEDNN_OPENMP_H_
#define KOINON_KERNELS_ONEDNN_OPENMP_H_

#include <algorithm>
#include <cstddef>

namespace koinon::kernels::onednn {

// Debian's oneDNN runs on GCC's OpenMP threads. Our own loops run on the same
// ones: a second pool would fight them for the cores, because OpenMP's threads
// spin for a while after each loop.
//
// The library is called directly, not through pragmas, so that Clang's builds
// do not bring in a second OpenMP of their own.

// Bounds the threads that OpenMP uses for loops of the calling thread, within a
// scope.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  const int previous_threads_;
  const int previous_dynamic_;
};

// What one thread of a team does: calls body(context, part, parts).
using TeamBody = void (*)(const void* context, size_t part, size_t parts);
void RunTeam(int threads, TeamBody body, const void* context);

// Calls body(begin, end) on ranges that cover [0, count), at most one to a
// thread. Results must not depend on where the ranges are cut. Allocates
// nothing.
template <typename Body>
void ParallelFor(int threads, size_t count, const Body& body) {
  const size_t useful = std::min(count, static_cast<size_t>(threads));
  if (useful <= 1) {
    if (count > 0) body(size_t{0}, count);
    return;
  }
  struct Loop {
    const Body& body;
    size_t count;
  } loop{body, count};
  RunTeam(
      static_cast<int>(useful),
      [](const void* context, size_t part, size_t parts) {
        const Loop& loop = *static_cast<const Loop*>(context);
        const size_t begin = loop.count * part / parts;
        const size_t end = loop.count * (part + 1) / parts;
        if (begin < end) loop.body(begin, end);
      },
      &loop);
}

}  // namespace koinon::kernels::onednn

#endif  // KOINON_KERNELS_ONEDNN_OPENMP_H_
