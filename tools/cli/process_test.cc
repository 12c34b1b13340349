#include "tools/cli/process.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

// Long enough for any machine; a pass does not wait for it.
constexpr absl::Duration kPatience = absl::Seconds(60);

class ChildProcessTest : public ::testing::Test {
 protected:
  ChildProcessTest() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    log_ = absl::StrCat(::testing::TempDir(), "/", info->name(), ".log");
  }
  absl::StatusOr<std::unique_ptr<ChildProcess>> Shell(
      const std::string& command) {
    return ChildProcess::Start({"/bin/sh", "-c", command}, log_);
  }
  std::string log_;
};

TEST_F(ChildProcessTest, BothOutputs_GoToTheLog) {
  ASSERT_OK_AND_ASSIGN(auto child, Shell("echo out; echo err >&2"));
  EXPECT_EQ(child->Wait(kPatience), "exit code 0");
  EXPECT_EQ(*ReadFile(RealEnv(), log_, 1000), "out\nerr\n");
}

TEST_F(ChildProcessTest, SecondRun_AppendsToTheLog) {
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(auto child, Shell("echo line"));
    child->Wait(kPatience);
  }
  EXPECT_EQ(*ReadFile(RealEnv(), log_, 1000), "line\nline\n");
}

TEST_F(ChildProcessTest, ExitCode_IsTold) {
  ASSERT_OK_AND_ASSIGN(auto child, Shell("exit 7"));
  EXPECT_EQ(child->Wait(kPatience), "exit code 7");
}

TEST_F(ChildProcessTest, Signal_EndsIt) {
  ASSERT_OK_AND_ASSIGN(auto child, Shell("exec cat /dev/zero >/dev/null"));
  EXPECT_EQ(child->Poll(), std::nullopt);
  child->Signal(SIGKILL);
  EXPECT_EQ(child->Wait(kPatience), "signal 9");
  child->Signal(SIGKILL);  // harmless
}

TEST_F(ChildProcessTest, MissingProgram_IsNotFound) {
  EXPECT_THAT(
      ChildProcess::Start({"/no/such/program"}, log_),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/program")));
}

TEST_F(ChildProcessTest, LogThatCannotBeOpened_IsNamed) {
  EXPECT_THAT(
      ChildProcess::Start({"/bin/true"}, "/no/such/folder/log"),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/folder/log")));
}

TEST_F(ChildProcessTest, Destructor_KillsIt) {
  pid_t pid = 0;
  {
    ASSERT_OK_AND_ASSIGN(auto child, Shell("exec cat /dev/zero >/dev/null"));
    pid = child->pid();
  }
  EXPECT_EQ(kill(pid, 0), -1);
}

}  // namespace
}  // namespace koinon::cli
