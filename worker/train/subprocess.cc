#include "worker/train/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"

namespace koinon::worker {
namespace {

// How late a stop, a timeout or an exit may be noticed.
constexpr int kPollMs = 20;

// A file descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor() { Reset(-1); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return fd_; }
  void Reset(int fd) {
    if (fd_ >= 0) close(fd_);
    fd_ = fd;
  }

 private:
  int fd_;
};

// Cuts a stream of bytes into lines.
class LineSplitter {
 public:
  LineSplitter(size_t max_line_bytes,
               const std::function<void(absl::string_view)>& on_line)
      : max_line_bytes_(max_line_bytes), on_line_(on_line) {}

  void Add(absl::string_view bytes) {
    for (char c : bytes) {
      if (c == '\n') {
        Flush();
      } else if (line_.size() < max_line_bytes_) {
        line_.push_back(c);
      }
      started_ = c != '\n';
    }
  }
  void Finish() {
    if (started_) Flush();
  }

 private:
  void Flush() {
    on_line_(line_);
    line_.clear();
    started_ = false;
  }

  const size_t max_line_bytes_;
  const std::function<void(absl::string_view)>& on_line_;
  std::string line_;
  bool started_ = false;
};

absl::Status StartFailure(const Command& command, int error) {
  return absl::ErrnoToStatus(error,
                             absl::StrCat("cannot start ", command.argv[0]));
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  // posix_spawn does not write through them; its type lacks the const.
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// The attributes and actions of one posix_spawn.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawnattr_init(&attributes_);
    posix_spawn_file_actions_init(&actions_);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  // Returns an errno, or 0.
  int Start(const Command& command, int output, pid_t* pid) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP |
                                               POSIX_SPAWN_SETSIGMASK |
                                               POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions_, output, 1);
    posix_spawn_file_actions_adddup2(&actions_, output, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions_, 3);
    if (!command.directory.empty()) {
      posix_spawn_file_actions_addchdir_np(&actions_,
                                           command.directory.c_str());
    }
    return posix_spawnp(pid, command.argv[0].c_str(), &actions_, &attributes_,
                        Pointers(command.argv).data(),
                        Pointers(command.environment).data());
  }

 private:
  posix_spawnattr_t attributes_;
  posix_spawn_file_actions_t actions_;
};

// A child that runs: its process group and the reading end of its output.
class Child {
 public:
  // Must have been started. Owns `pid` from here on.
  Child(pid_t pid, int output) : pid_(pid), output_(output) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void Signal(int signal) { kill(-pid_, signal); }

  bool HasExited() const {
    siginfo_t info = {};
    // The child stays a zombie, so that its number still names its group.
    return waitid(P_PID, pid_, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid == pid_;
  }

  // Waits a little for output and hands it on.
  void PumpOutput(LineSplitter* lines) {
    pollfd event = {
        .fd = at_end_ ? -1 : output_, .events = POLLIN, .revents = 0};
    if (poll(&event, 1, kPollMs) > 0) ReadOnce(lines);
  }

  // Kills what is left of the group, hands on what was still in the pipe, and
  // returns how the child ended.
  int Finish(LineSplitter* lines) {
    Signal(SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    // A pipe holds a bounded number of bytes: a process that left the group and
    // goes on writing cannot hold us up.
    for (int i = 0; i < kMaxLastReads && ReadOnce(lines); ++i) {
    }
    lines->Finish();
    return status;
  }

 private:
  static constexpr int kMaxLastReads = 256;

  // The pipe does not block. True if there was anything.
  bool ReadOnce(LineSplitter* lines) {
    std::array<char, 16 << 10> buffer;
    const ssize_t n = read(output_, buffer.data(), buffer.size());
    if (n > 0) lines->Add(absl::string_view(buffer.data(), n));
    at_end_ = n == 0;
    return n > 0;
  }

  const pid_t pid_;
  const int output_;
  bool at_end_ = false;
};

// Why a child is being ended before its time.
absl::Status ReasonToEnd(const Command& command, absl::Time deadline,
                         absl::Time now, const std::atomic<bool>& stop) {
  if (stop.load()) return absl::CancelledError("stopped");
  if (now >= deadline) {
    return absl::DeadlineExceededError(absl::StrCat(
        "did not end within ", absl::FormatDuration(command.timeout)));
  }
  return absl::OkStatus();
}

absl::Status ExitStatus(int status) {
  if (WIFSIGNALED(status)) {
    return absl::InternalError(
        absl::StrCat("killed by signal ", WTERMSIG(status)));
  }
  if (WEXITSTATUS(status) != 0) {
    return absl::InternalError(
        absl::StrCat("exited with code ", WEXITSTATUS(status)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunCommand(
    const Command& command, const Clock& clock, const std::atomic<bool>& stop,
    const std::function<void(absl::string_view line)>& on_line) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return StartFailure(command, errno);
  const Descriptor output(ends[0]);
  Descriptor input(ends[1]);
  fcntl(output.get(), F_SETFL, O_NONBLOCK);
  pid_t pid = 0;
  if (int error = SpawnPlan().Start(command, input.get(), &pid); error != 0) {
    return StartFailure(command, error);
  }
  input.Reset(-1);

  Child child(pid, output.get());
  LineSplitter lines(command.max_line_bytes, on_line);
  const absl::Time deadline = clock.Now() + command.timeout;
  absl::Time kill_at = absl::InfiniteFuture();
  absl::Status ended;
  while (!child.HasExited()) {
    child.PumpOutput(&lines);
    const absl::Time now = clock.Now();
    if (ended.ok()) {
      ended = ReasonToEnd(command, deadline, now, stop);
      if (ended.ok()) continue;
      child.Signal(SIGTERM);
      kill_at = now + command.grace;
    } else if (now >= kill_at) {
      child.Signal(SIGKILL);
    }
  }
  const int status = child.Finish(&lines);
  return ended.ok() ? ExitStatus(status) : ended;
}

}  // namespace koinon::worker
