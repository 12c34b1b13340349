#include "tests/e2e/coordinator_process.h"

#include <signal.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"

namespace koinon::testing {
namespace {

constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr absl::Duration kPoll = absl::Milliseconds(10);

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

}  // namespace

std::string Runfile(const std::string& path) {
  const char* root = std::getenv("TEST_SRCDIR");
  return absl::StrCat(root == nullptr ? "." : root, "/koinon/", path);
}

std::string FreshDir(const std::string& name) {
  const char* root = std::getenv("TEST_TMPDIR");
  const std::string dir =
      absl::StrCat(root == nullptr ? "/tmp" : root, "/", name);
  std::filesystem::remove_all(dir);
  std::filesystem::create_directories(dir);
  return dir;
}

double PeakRssMib(pid_t pid) {
  const std::string status = ReadAll(absl::StrCat("/proc/", pid, "/status"));
  for (absl::string_view line : absl::StrSplit(status, '\n')) {
    if (!absl::ConsumePrefix(&line, "VmHWM:")) continue;
    absl::ConsumeSuffix(&line, " kB");
    double kib = 0;
    if (absl::SimpleAtod(absl::StripAsciiWhitespace(line), &kib)) {
      return kib / 1024;
    }
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<CoordinatorProcess>> CoordinatorProcess::Start(
    const Options& options) {
  const std::string port_file = options.dir + "/port";
  const std::string log = options.dir + "/coordinator.log";
  std::vector<std::string> argv;
  if (options.max_descriptors > 0) {
    argv = {
        "/bin/sh", "-c",
        absl::StrCat("ulimit -n ", options.max_descriptors, " && exec \"$@\""),
        "sh"};
  }
  argv.insert(argv.end(), {Runfile("coordinator/koinon-coordinator"),
                           "--listen", options.host + ":0", "--state-dir",
                           options.dir + "/state", "--port-file", port_file});
  argv.insert(argv.end(), options.flags.begin(), options.flags.end());
  std::filesystem::remove(port_file);
  ABSL_ASSIGN_OR_RETURN(auto process,
                        cli::ChildProcess::Start(std::move(argv), log));
  const absl::Time until = absl::Now() + kPatience;
  int port = 0;
  while (!absl::SimpleAtoi(ReadAll(port_file), &port)) {
    const auto ended = process->Wait(kPoll);
    if (ended.has_value() || absl::Now() > until) {
      return absl::UnavailableError(absl::StrCat(
          "the coordinator does not serve: ", ended.value_or("time-out"), "\n",
          ReadAll(log)));
    }
  }
  return std::unique_ptr<CoordinatorProcess>(
      new CoordinatorProcess(std::move(process), port));
}

std::string CoordinatorProcess::address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

int CoordinatorProcess::open_descriptors() const {
  int count = 0;
  std::error_code gone;
  for (const auto& entry : std::filesystem::directory_iterator(
           absl::StrCat("/proc/", pid(), "/fd"), gone)) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

std::string CoordinatorProcess::Wait() {
  return process_->Wait(kPatience).value_or("still running");
}

std::string CoordinatorProcess::Stop() {
  process_->Signal(SIGTERM);
  return Wait();
}

}  // namespace koinon::testing
