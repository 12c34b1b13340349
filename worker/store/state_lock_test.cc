#include "worker/store/state_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

TEST(StateLock_Acquire, Held_IsRefusedUntilReleased) {
  const std::string dir = ::testing::TempDir();
  ASSERT_OK_AND_ASSIGN(auto lock, StateLock::Acquire(dir));
  EXPECT_THAT(StateLock::Acquire(dir),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("another worker")));
  lock.reset();
  EXPECT_OK(StateLock::Acquire(dir));
}

TEST(StateLock_Acquire, NoDirectory_NamesThePath) {
  EXPECT_THAT(
      StateLock::Acquire("/nonexistent"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/lock")));
}

}  // namespace
}  // namespace koinon::worker
