#include "tools/bench/coordinator_process.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_macros.h"

namespace koinon::bench {
namespace {

constexpr absl::Duration kStartPatience = absl::Seconds(20);
constexpr absl::Duration kPoll = absl::Milliseconds(10);

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  return content.str();
}

// "VmHWM:	  1234 kB" in /proc/PID/status, in MiB.
double StatusMib(pid_t pid, absl::string_view key) {
  for (absl::string_view line :
       absl::StrSplit(ReadAll(absl::StrCat("/proc/", pid, "/status")), '\n')) {
    if (!absl::ConsumePrefix(&line, key)) continue;
    absl::ConsumeSuffix(&line, " kB");
    double kib = 0;
    if (absl::SimpleAtod(absl::StripAsciiWhitespace(line), &kib)) {
      return kib / 1024;
    }
  }
  return 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorProcess>> CoordinatorProcess::Start(
    const std::string& binary, const std::string& work_dir,
    const std::vector<std::string>& flags) {
  std::string dir = absl::StrCat(work_dir, "/koinon-bench-XXXXXX");
  if (mkdtemp(dir.data()) == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(work_dir, ": cannot make a folder there"));
  }
  const std::string port_file = absl::StrCat(dir, "/port");
  std::vector<std::string> argv = {
      binary,       "--listen",    "127.0.0.1:0", "--state-dir", dir + "/state",
      "--insecure", "--port-file", port_file,     "--log-level", "warning"};
  argv.insert(argv.end(), flags.begin(), flags.end());
  ABSL_ASSIGN_OR_RETURN(auto process,
                        cli::ChildProcess::Start(argv, dir + "/log"));
  const absl::Time until = absl::Now() + kStartPatience;
  int port = 0;
  while (!absl::SimpleAtoi(ReadAll(port_file), &port)) {
    const auto ended = process->Wait(kPoll);
    if (ended.has_value() || absl::Now() > until) {
      return absl::UnavailableError(absl::StrCat(
          "the coordinator did not start: ", ended.value_or("time-out"), ": ",
          ReadAll(dir + "/log")));
    }
  }
  return std::unique_ptr<CoordinatorProcess>(new CoordinatorProcess(
      dir, absl::StrCat("127.0.0.1:", port), std::move(process)));
}

double CoordinatorProcess::spool_mib() const {
  constexpr double kBlockBytes = 512;  // of st_blocks, whatever the disk's are
  struct stat info;
  if (stat((dir_ + "/state/spool.bin").c_str(), &info) != 0) return 0;
  return static_cast<double>(info.st_blocks) * kBlockBytes / (1 << 20);
}

CoordinatorProcess::CoordinatorProcess(
    std::string dir, std::string address,
    std::unique_ptr<cli::ChildProcess> process)
    : dir_(std::move(dir)),
      address_(std::move(address)),
      process_(std::move(process)) {}

CoordinatorProcess::~CoordinatorProcess() {
  process_->Signal(SIGKILL);
  process_->Wait(kStartPatience);
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

double CoordinatorProcess::rss_mib() const {
  return StatusMib(process_->pid(), "VmRSS:");
}

double CoordinatorProcess::peak_rss_mib() const {
  return StatusMib(process_->pid(), "VmHWM:");
}

double CoordinatorProcess::cpu_seconds() const {
  // Fields 14 and 15 of /proc/PID/stat, counted after the command's ")".
  const std::string stat =
      ReadAll(absl::StrCat("/proc/", process_->pid(), "/stat"));
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(stat.rfind(')') + 2), ' ');
  double user = 0, system = 0;
  if (fields.size() < 13 || !absl::SimpleAtod(fields[11], &user) ||
      !absl::SimpleAtod(fields[12], &system)) {
    return 0;
  }
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace koinon::bench
