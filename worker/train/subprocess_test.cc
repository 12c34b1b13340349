#include "worker/train/subprocess.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class RunCommandTest : public testing::Test {
 protected:
  static Command Shell(const std::string& script) {
    Command command;
    command.argv = {"/bin/sh", "-c", script};
    command.environment = {"PATH=/usr/bin:/bin"};
    command.directory = testing::TempDir();
    return command;
  }

  absl::Status Run(const Command& command) {
    return RunCommand(command, clock_, stop_, [this](absl::string_view line) {
      lines_.emplace_back(line);
      if (on_line_) on_line_(lines_.back());
    });
  }

  ManualClock clock_{absl::UnixEpoch()};
  std::atomic<bool> stop_{false};
  std::vector<std::string> lines_;
  std::function<void(const std::string&)> on_line_;
};

TEST_F(RunCommandTest, Success_HandsOnTheLinesOfBothStreams) {
  EXPECT_OK(Run(Shell("echo one; echo; echo two >&2; printf three")));
  EXPECT_THAT(lines_, ElementsAre("one", "", "two", "three"));
}

TEST_F(RunCommandTest, MuchOutput_IsNotLost) {
  EXPECT_OK(Run(Shell("seq 1 50000")));
  ASSERT_EQ(lines_.size(), 50'000u);
  EXPECT_EQ(lines_.back(), "50000");
}

TEST_F(RunCommandTest, LongLine_IsCut) {
  Command command = Shell("echo abcdefgh; echo x");
  command.max_line_bytes = 3;
  EXPECT_OK(Run(command));
  EXPECT_THAT(lines_, ElementsAre("abc", "x"));
}

TEST_F(RunCommandTest, Failure_SaysExitCodeOrSignal) {
  EXPECT_THAT(Run(Shell("echo secret; exit 3")),
              StatusIs(absl::StatusCode::kInternal, "exited with code 3"));
  EXPECT_THAT(Run(Shell("kill -SEGV $$")),
              StatusIs(absl::StatusCode::kInternal, "killed by signal 11"));
}

TEST_F(RunCommandTest, MissingProgramOrDirectory_CannotBeStarted) {
  Command command = Shell("true");
  command.argv = {"/nonexistent/program"};
  EXPECT_THAT(Run(command),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("cannot start /nonexistent/program")));
  command = Shell("true");
  command.directory = "/nonexistent";
  EXPECT_THAT(Run(command), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(RunCommandTest, Program_SeesOnlyWhatItIsGiven) {
  Command command = Shell("env; pwd; ls /proc/self/fd; cat");
  command.environment.push_back("GIVEN=1");
  command.directory = "/";
  setenv("NOT_GIVEN", "secret", 1);
  const int open_file = open("/dev/null", O_RDONLY);
  EXPECT_OK(Run(command));
  close(open_file);
  // PWD comes from the shell. Descriptor 3 is ls's own.
  EXPECT_THAT(lines_, UnorderedElementsAre("PATH=/usr/bin:/bin", "GIVEN=1",
                                           "PWD=/", "/", "0", "1", "2", "3"));
}

TEST_F(RunCommandTest, Stop_EndsTheProgram) {
  on_line_ = [this](const std::string&) { stop_ = true; };
  EXPECT_THAT(Run(Shell("echo ready; sleep 1000; echo never")),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("stopped")));
  EXPECT_THAT(lines_, ElementsAre("ready"));
}

TEST_F(RunCommandTest, Timeout_EndsTheProgram) {
  Command command = Shell("echo ready; sleep 1000");
  command.timeout = absl::Minutes(5);
  on_line_ = [this](const std::string&) { clock_.Advance(absl::Minutes(5)); };
  EXPECT_THAT(Run(command), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                     "did not end within 5m"));
}

TEST_F(RunCommandTest, ProgramThatIgnoresTheRequest_IsKilled) {
  // The shell waits for no other program, for it would run its trap only after
  // that, which may have been started after the signal.
  Command command =
      Shell("trap 'echo no' TERM; echo ready; while :; do :; done");
  command.grace = absl::Seconds(5);
  on_line_ = [this](const std::string& line) {
    if (line == "ready") stop_ = true;
    if (line == "no") clock_.Advance(absl::Seconds(5));
  };
  EXPECT_THAT(Run(command), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(lines_, ElementsAre("ready", "no"));
}

TEST_F(RunCommandTest, ChildrenLeftRunning_AreKilled) {
  const std::string fifo = testdata::TempPath("fifo");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int reader = open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  // The sleep inherits the fifo's writing end, which closes with its life.
  EXPECT_OK(Run(Shell(absl::StrCat("exec 9>'", fifo, "'; sleep 1000 &"))));
  pollfd event = {.fd = reader, .events = POLLIN, .revents = 0};
  constexpr int kLongEnoughMs = 60'000;
  EXPECT_EQ(poll(&event, 1, kLongEnoughMs), 1);
  EXPECT_NE(event.revents & POLLHUP, 0);
  close(reader);
  unlink(fifo.c_str());
}

}  // namespace
}  // namespace koinon::worker
