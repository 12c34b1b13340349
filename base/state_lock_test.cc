#include "base/state_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

TEST(StateLockTest, Acquire_Held_IsRefusedUntilReleased) {
  const std::string dir = ::testing::TempDir();
  ASSERT_OK_AND_ASSIGN(auto lock, StateLock::Acquire(dir));
  EXPECT_THAT(StateLock::Acquire(dir),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("another process")));
  lock.reset();
  EXPECT_OK(StateLock::Acquire(dir));
}

TEST(StateLockTest, Acquire_NoDirectory_NamesThePath) {
  EXPECT_THAT(
      StateLock::Acquire("/nonexistent"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/lock")));
}

}  // namespace
}  // namespace koinon
