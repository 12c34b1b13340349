#include "tools/bench/opendht_rival.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"

extern char** environ;

namespace koinon::tools {
namespace {

constexpr char kScript[] =
#include "tools/bench/opendht_rival.inc"
    ;

// Without a word from the script.
constexpr int kTimeoutMs = 600'000;
constexpr size_t kMaxOutputBytes = 64 << 20;
constexpr size_t kAskers = 8;

// Starts the script with the pipe's end `out` as its standard output.
absl::StatusOr<pid_t> Spawn(const DhtBenchOptions& options, int out) {
  const auto killed =
      static_cast<size_t>(options.kill * static_cast<double>(options.nodes));
  std::vector<std::string> arguments = {options.python,
                                        "-c",
                                        kScript,
                                        absl::StrCat(options.nodes),
                                        absl::StrCat(options.operations),
                                        absl::StrCat(options.value_bytes),
                                        absl::StrCat(killed),
                                        absl::StrCat(kAskers)};
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, options.python.c_str(), &actions,
                                  nullptr, pointers.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return pid;
  return absl::NotFoundError(
      absl::StrCat("cannot start ", options.python, ": ",
                   absl::ErrnoToStatus(error, "").message()));
}

absl::StatusOr<std::string> ReadAll(int in) {
  std::string output;
  for (;;) {
    pollfd readable = {in, POLLIN, 0};
    const int ready = ::poll(&readable, 1, kTimeoutMs);
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) {
      return absl::DeadlineExceededError("OpenDHT's script says nothing");
    }
    char bytes[4096];
    const ssize_t n = ::read(in, bytes, sizeof(bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return output;
    output.append(bytes, static_cast<size_t>(n));
    if (output.size() > kMaxOutputBytes) {
      return absl::UnavailableError("OpenDHT's script does not stop talking");
    }
  }
}

// "0.5 0.7 1033.2!": milliseconds; what failed has a mark.
absl::StatusOr<DhtLatencies> ParseLatencies(absl::string_view text) {
  std::vector<double> all;
  size_t failed = 0;
  for (absl::string_view word :
       absl::StrSplit(text, ' ', absl::SkipWhitespace())) {
    if (absl::ConsumeSuffix(&word, "!")) ++failed;
    if (!absl::SimpleAtod(word, &all.emplace_back()) || !(all.back() >= 0)) {
      return absl::UnavailableError(absl::StrCat(
          "expected milliseconds from OpenDHT's script, got \"", word, "\""));
    }
  }
  return Summarize(std::move(all), failed);
}

}  // namespace

absl::StatusOr<DhtFigure> ParseOpenDhtOutput(absl::string_view output) {
  DhtFigure figure;
  for (absl::string_view line :
       absl::StrSplit(output, '\n', absl::SkipWhitespace())) {
    if (absl::ConsumePrefix(&line, "absent ")) {
      return absl::NotFoundError(line);
    }
    if (absl::ConsumePrefix(&line, "ready ")) {
      figure.what = absl::StrCat("OpenDHT ", line);
      continue;
    }
    const std::pair<absl::string_view, absl::string_view> part =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    DhtLatencies* const place = part.first == "put"         ? &figure.put
                                : part.first == "get"       ? &figure.get
                                : part.first == "get_after" ? &figure.get_after
                                                            : nullptr;
    if (place == nullptr) {
      return absl::UnavailableError(absl::StrCat(
          "expected figures from OpenDHT's script, got \"", line, "\""));
    }
    ABSL_ASSIGN_OR_RETURN(*place, ParseLatencies(part.second));
  }
  if (figure.what.empty() || figure.put.count == 0 || figure.get.count == 0) {
    return absl::UnavailableError("OpenDHT's script ended before its figures");
  }
  return figure;
}

absl::StatusOr<DhtFigure> MeasureOpenDht(const DhtBenchOptions& options) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) < 0) {
    return absl::ErrnoToStatus(errno, "cannot make a pipe");
  }
  const absl::StatusOr<pid_t> pid = Spawn(options, pipe_ends[1]);
  ::close(pipe_ends[1]);
  absl::StatusOr<std::string> output = std::string();
  if (pid.ok()) {
    output = ReadAll(pipe_ends[0]);
    ::kill(*pid, SIGKILL);
    while (::waitpid(*pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  ::close(pipe_ends[0]);
  ABSL_RETURN_IF_ERROR(pid.status());
  ABSL_RETURN_IF_ERROR(output.status());
  ABSL_ASSIGN_OR_RETURN(DhtFigure figure, ParseOpenDhtOutput(*output));
  figure.nodes = options.nodes;
  figure.killed =
      static_cast<size_t>(options.kill * static_cast<double>(options.nodes));
  return figure;
}

}  // namespace koinon::tools
