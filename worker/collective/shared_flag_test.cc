#include "worker/collective/shared_flag.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <thread>

#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

TEST(SharedFlagTest, Reached_AroundTheWrap_GoesByDistance) {
  SharedFlag flag;
  EXPECT_TRUE(flag.Reached(0));
  EXPECT_FALSE(flag.Reached(1));
  EXPECT_TRUE(flag.Reached(0xfffffffd));  // -3: long ago
  flag.Publish(0xffffffff);
  EXPECT_TRUE(flag.Reached(0xffffffff));
  EXPECT_FALSE(flag.Reached(0));
  flag.Publish(2);
  EXPECT_TRUE(flag.Reached(0xffffffff));
  EXPECT_TRUE(flag.Reached(2));
}

TEST(SharedFlagTest, WaitFor_NobodyPublishes_IsFalse) {
  SharedFlag flag;
  EXPECT_FALSE(flag.WaitFor(1, absl::Milliseconds(1)));
}

TEST(SharedFlagTest, WaitFor_BetweenThreads_SeesWhatWasWrittenBefore) {
  SharedFlag there, back;
  int value = 0;
  std::thread other([&] {
    for (uint32_t i = 1; i <= 1000; ++i) {
      while (!there.WaitFor(i, absl::Seconds(10))) {
      }
      EXPECT_EQ(value, static_cast<int>(i));
      back.Publish(i);
    }
  });
  for (uint32_t i = 1; i <= 1000; ++i) {
    value = static_cast<int>(i);
    there.Publish(i);
    while (!back.WaitFor(i, absl::Seconds(10))) {
    }
  }
  other.join();
}

TEST(SharedFlagTest, WaitFor_BetweenProcesses_Wakes) {
  void* const page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  auto* const flags = new (page) SharedFlag[2];
  const pid_t child = fork();
  if (child == 0) {
    bool all = true;
    for (uint32_t i = 1; i <= 1000; ++i) {
      all = all && flags[0].WaitFor(i, absl::Seconds(60));
      flags[1].Publish(i);
    }
    _exit(all ? 0 : 1);
  }
  for (uint32_t i = 1; i <= 1000; ++i) {
    flags[0].Publish(i);
    while (!flags[1].WaitFor(i, absl::Seconds(10))) {
    }
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  munmap(page, 4096);
}

}  // namespace
}  // namespace koinon::worker
