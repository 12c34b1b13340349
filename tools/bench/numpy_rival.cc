#include "tools/bench/numpy_rival.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

extern char** environ;

namespace koinon::tools {
namespace {

constexpr char kScript[] =
#include "tools/bench/aggregate_rival.inc"
    ;

// For one request; the largest take a minute or two.
constexpr int kTimeoutMs = 600'000;
constexpr size_t kLongestLine = 4096;

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(int threads) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view variable = *entry;
    if (absl::StartsWith(variable, "OMP_NUM_THREADS=") ||
        absl::StartsWith(variable, "OPENBLAS_NUM_THREADS=")) {
      continue;
    }
    environment.emplace_back(variable);
  }
  environment.push_back(absl::StrCat("OMP_NUM_THREADS=", threads));
  environment.push_back(absl::StrCat("OPENBLAS_NUM_THREADS=", threads));
  return environment;
}

// Starts the script with `socket` as its standard input and output.
absl::StatusOr<pid_t> Spawn(const NumpyRival::Options& options, int socket) {
  std::vector<std::string> arguments = {options.python,
                                        "-I",
                                        "-c",
                                        kScript,
                                        absl::StrCat(options.memory->fd()),
                                        absl::StrCat(options.n),
                                        absl::StrCat(options.P)};
  std::vector<std::string> environment = Environment(options.threads);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
  pid_t pid = 0;
  const int error =
      ::posix_spawn(&pid, options.python.c_str(), &actions, nullptr,
                    Pointers(arguments).data(), Pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::NotFoundError(
        absl::StrCat("cannot start ", options.python, ": ",
                     absl::ErrnoToStatus(error, "").message()));
  }
  return pid;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NumpyRival>> NumpyRival::Start(
    const Options& options, absl::Span<const double> weights) {
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0) {
    return absl::ErrnoToStatus(errno, "cannot make a socket pair");
  }
  const absl::StatusOr<pid_t> pid = Spawn(options, sockets[1]);
  ::close(sockets[1]);
  if (!pid.ok()) {
    ::close(sockets[0]);
    return pid.status();
  }
  std::unique_ptr<NumpyRival> rival(new NumpyRival(*pid, sockets[0]));
  std::string line = "weights";
  for (double weight : weights) absl::StrAppendFormat(&line, " %.17g", weight);
  ABSL_RETURN_IF_ERROR(rival->Send(line));
  ABSL_ASSIGN_OR_RETURN(const std::string reply, rival->ReceiveLine());
  absl::string_view rest = reply;
  if (!absl::ConsumePrefix(&rest, "ready ")) {
    absl::ConsumePrefix(&rest, "absent ");
    return absl::NotFoundError(absl::StrCat(options.python, ": ", rest));
  }
  rival->description_ = absl::StrCat("numpy ", rest);
  return rival;
}

NumpyRival::~NumpyRival() {
  ::close(socket_);  // the script's loop ends with its input
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

absl::StatusOr<double> NumpyRival::Measure(absl::string_view form, int count) {
  ABSL_RETURN_IF_ERROR(Send(absl::StrCat(count, " ", form)));
  ABSL_ASSIGN_OR_RETURN(const std::string line, ReceiveLine());
  double seconds = 0;
  if (!absl::SimpleAtod(line, &seconds) || !(seconds > 0)) {
    return absl::UnavailableError(
        absl::StrCat("expected seconds from NumPy, got \"", line, "\""));
  }
  return seconds;
}

absl::Status NumpyRival::Send(absl::string_view line) {
  const std::string text = absl::StrCat(line, "\n");
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n =
        ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError("the NumPy process has died");
    sent += static_cast<size_t>(n);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> NumpyRival::ReceiveLine() {
  size_t end;
  while ((end = received_.find('\n')) == std::string::npos) {
    if (received_.size() > kLongestLine) {
      return absl::UnavailableError("the NumPy process answers nonsense");
    }
    pollfd readable = {socket_, POLLIN, 0};
    const int ready = ::poll(&readable, 1, kTimeoutMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return absl::DeadlineExceededError(absl::StrCat(
          "no answer from NumPy within ", kTimeoutMs / 1000, " seconds"));
    }
    char bytes[1024];
    const ssize_t n = ::recv(socket_, bytes, sizeof(bytes), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return absl::UnavailableError("the NumPy process has died");
    received_.append(bytes, static_cast<size_t>(n));
  }
  std::string line = received_.substr(0, end);
  received_.erase(0, end + 1);
  return line;
}

}  // namespace koinon::tools
