// What a step takes besides time: allocations and threads.

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>
#include <thread>

#include "base/status_matchers.h"
#include "kernels/onednn/onednn_network.h"
#include "kernels/test_models.h"

namespace {

// Counts while switched on. oneDNN itself makes a small map of the arguments at
// each call of a primitive; what is ours is told from it by who calls.
std::atomic<bool> counting{false};
std::atomic<int> own_allocations{0};
std::atomic<size_t> largest_bytes{0};

bool CallerIsOurs(const void* caller) {
  Dl_info info;
  if (dladdr(caller, &info) == 0 || info.dli_fname == nullptr) return true;
  return std::strstr(info.dli_fname, "libdnnl") == nullptr;
}

void* Allocate(size_t size, const void* caller) {
  if (counting.load(std::memory_order_relaxed)) {
    if (CallerIsOurs(caller)) ++own_allocations;
    size_t seen = largest_bytes.load();
    while (size > seen && !largest_bytes.compare_exchange_weak(seen, size)) {
    }
  }
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// Never inlined: the caller is told by the return address.
[[gnu::noinline]] void* operator new(size_t size) {
  return Allocate(size, __builtin_return_address(0));
}
[[gnu::noinline]] void* operator new[](size_t size) {
  return Allocate(size, __builtin_return_address(0));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete[](void* memory, size_t) noexcept {
  std::free(memory);
}

namespace koinon::kernels {
namespace {

class NetworkResources : public testing::TestWithParam<NamedModel> {};

TEST_P(NetworkResources, SteadyState_AllocatesNothing) {
  Network::Options options;
  options.batch_size = 8;
  options.loss = GetParam().loss;
  ASSERT_OK_AND_ASSIGN(auto network,
                       NewOneDnnNetwork(GetParam().graph, options));
  const Examples examples(GetParam().graph, 8, 1);
  const Batch batch = examples.First(7, GetParam().loss);
  ASSERT_OK(network->ForwardBackward(batch, 1));
  own_allocations = 0;
  largest_bytes = 0;
  counting = true;
  const bool trained = network->ForwardBackward(batch, 2).ok();
  const bool evaluated = network->Evaluate(batch).ok();
  counting = false;
  EXPECT_TRUE(trained && evaluated);
  EXPECT_EQ(own_allocations, 0);
  // oneDNN's bookkeeping, not tensors: these start at 8 examples.
  EXPECT_LE(largest_bytes, 2048u);
}

INSTANTIATE_TEST_SUITE_P(Models, NetworkResources,
                         testing::ValuesIn(TestModels()),
                         [](const auto& info) { return info.param.name; });

TEST(NetworkResources_Counter, OwnAllocation_IsSeen) {
  own_allocations = 0;
  counting = true;
  // Through a volatile pointer, or the compiler leaves both calls out.
  void* volatile memory = ::operator new(16);
  counting = false;
  ::operator delete(memory);
  EXPECT_EQ(own_allocations, 1);
}

int CountThreads() {
  int count = 0;
  for ([[maybe_unused]] const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    ++count;
  }
  return count;
}

// Threads stay in OpenMP's pool once they have worked: their number afterwards
// is the largest that ever worked at a time.
TEST(NetworkResources_Threads, Option_BoundsThem) {
  const ModelGraph graph = ParseGraph(
      "input_shape: [1, 28, 28] cnn { classes: 10 kernel: 3 dense: 128 }");
  const Examples examples(graph, 32, 1);
  const Batch batch =
      examples.First(32, v1::TrainingSpec::SOFTMAX_CROSS_ENTROPY);
  // ThreadSanitizer starts a thread of its own with the first one.
  std::thread([] {}).join();
  const int before = CountThreads();
  for (int threads : {1, 3}) {
    Network::Options options;
    options.threads = threads;
    ASSERT_OK_AND_ASSIGN(auto network, NewOneDnnNetwork(graph, options));
    ASSERT_OK(network->ForwardBackward(batch, 1));
    EXPECT_EQ(CountThreads(), before + threads - 1);
  }
}

}  // namespace
}  // namespace koinon::kernels
