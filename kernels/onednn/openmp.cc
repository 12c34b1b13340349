#include "kernels/onednn/openmp.h"

// GCC's libgomp: the part of its interface that is used here (omp.h, and the
// entry that the compiler calls for a parallel region).
extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int threads);
int omp_get_dynamic();
void omp_set_dynamic(int dynamic);
int omp_get_thread_num();
int omp_get_num_threads();
void GOMP_parallel(void (*body)(void*), void* data, unsigned threads,
                   unsigned flags);
}

// libgomp is not instrumented: ThreadSanitizer is told of its fork and join by
// hand, where it is linked in.
extern "C" {
__attribute__((weak)) void __tsan_acquire(void* address);
__attribute__((weak)) void __tsan_release(void* address);
}

namespace koinon::kernels::onednn {
namespace {

struct Team {
  TeamBody body;
  const void* context;

  void Acquire() {
    if (__tsan_acquire != nullptr) __tsan_acquire(this);
  }
  void Release() {
    if (__tsan_release != nullptr) __tsan_release(this);
  }
};

void RunMember(void* data) {
  Team* team = static_cast<Team*>(data);
  team->Acquire();
  team->body(team->context, static_cast<size_t>(omp_get_thread_num()),
             static_cast<size_t>(omp_get_num_threads()));
  team->Release();
}

}  // namespace

ThreadScope::ThreadScope(int threads)
    : previous_threads_(omp_get_max_threads()),
      previous_dynamic_(omp_get_dynamic()) {
  // With dynamic adjustment the count, and so the order of sums, would follow
  // the machine's load.
  omp_set_dynamic(0);
  omp_set_num_threads(threads);
}

ThreadScope::~ThreadScope() {
  omp_set_num_threads(previous_threads_);
  omp_set_dynamic(previous_dynamic_);
}

void RunTeam(int threads, TeamBody body, const void* context) {
  Team team{body, context};
  team.Release();
  GOMP_parallel(RunMember, &team, static_cast<unsigned>(threads), 0);
  team.Acquire();
}

}  // namespace koinon::kernels::onednn
