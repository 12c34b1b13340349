#include "tools/bench/apart.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace koinon::tools {
namespace {

struct Child {
  size_t task = 0;
  pid_t pid = -1;
  std::string said;
};

[[noreturn]] void RunAndExit(const std::function<std::string()>& task, int to) {
  const std::string result = task();
  size_t written = 0;
  while (written < result.size()) {
    const ssize_t n =
        write(to, result.data() + written, result.size() - written);
    if (n < 0 && errno != EINTR) _exit(1);
    if (n > 0) written += static_cast<size_t>(n);
  }
  // What this copy holds is the parent's to end properly.
  _exit(0);
}

absl::Status Failed(absl::string_view what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", strerror(errno)));
}

// `from`: where its result can be read.
absl::StatusOr<pid_t> Start(const std::function<std::string()>& task,
                            int* from) {
  int ends[2];
  if (pipe(ends) != 0) return Failed("pipe");
  std::fflush(nullptr);  // or the copy would say it again
  const pid_t pid = fork();
  if (pid == 0) {
    close(ends[0]);
    RunAndExit(task, ends[1]);
  }
  const absl::Status failed = pid < 0 ? Failed("fork") : absl::OkStatus();
  close(ends[1]);
  if (!failed.ok()) {
    close(ends[0]);
    return failed;
  }
  *from = ends[0];
  return pid;
}

absl::StatusOr<std::string> Await(Child child) {
  int status = 0;
  while (waitpid(child.pid, &status, 0) < 0) {
    if (errno != EINTR) return Failed("waitpid");
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return std::move(child.said);
  }
  return absl::UnavailableError(
      WIFSIGNALED(status)
          ? absl::StrCat("its process was killed by signal ", WTERMSIG(status))
          : absl::StrCat("its process ended with ", WEXITSTATUS(status)));
}

// Waits until one of them says more; whether there is anything to read.
std::vector<int> AwaitMore(const std::map<int, Child>& children) {
  std::vector<pollfd> polled;
  for (const auto& [fd, child] : children) {
    polled.push_back({.fd = fd, .events = POLLIN, .revents = 0});
  }
  std::vector<int> ready;
  if (poll(polled.data(), polled.size(), -1) < 0) return ready;
  for (const pollfd& one : polled) {
    if (one.revents != 0) ready.push_back(one.fd);
  }
  return ready;
}

}  // namespace

void RunApart(
    const std::vector<std::function<std::string()>>& tasks, size_t at_once,
    const std::function<void(size_t task, absl::StatusOr<std::string> result)>&
        ended) {
  std::map<int, Child> children;  // by where they are heard
  for (size_t next = 0; next < tasks.size() || !children.empty();) {
    if (next < tasks.size() && children.size() < at_once) {
      int from = -1;
      const absl::StatusOr<pid_t> pid = Start(tasks[next], &from);
      if (pid.ok()) {
        children[from] = {.task = next, .pid = *pid, .said = ""};
      } else {
        ended(next, pid.status());
      }
      ++next;
      continue;
    }
    for (const int fd : AwaitMore(children)) {
      char bytes[4096];
      const ssize_t n = read(fd, bytes, sizeof(bytes));
      if (n < 0 && errno == EINTR) continue;
      if (n > 0) {
        children[fd].said.append(bytes, static_cast<size_t>(n));
        continue;
      }
      close(fd);
      Child child = std::move(children.extract(fd).mapped());
      const size_t task = child.task;
      ended(task, Await(std::move(child)));
    }
  }
}

}  // namespace koinon::tools
