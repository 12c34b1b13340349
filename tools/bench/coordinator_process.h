#ifndef KOINON_TOOLS_BENCH_COORDINATOR_PROCESS_H_
#define KOINON_TOOLS_BENCH_COORDINATOR_PROCESS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cli/process.h"

namespace koinon::bench {

// A koinon-coordinator in a process of its own, with a fresh state directory
// that is removed in the end; plaintext on a free loopback port.
class CoordinatorProcess {
 public:
  // `flags` are added to the command line.
  static absl::StatusOr<std::unique_ptr<CoordinatorProcess>> Start(
      const std::string& binary, const std::string& work_dir,
      const std::vector<std::string>& flags);
  ~CoordinatorProcess();

  const std::string& address() const { return address_; }
  // From /proc: resident now and at most so far (MiB), processor time (s).
  double rss_mib() const;
  double peak_rss_mib() const;
  double cpu_seconds() const;
  // What its spool takes on the disk now (MiB); it never gives room back.
  double spool_mib() const;

 private:
  CoordinatorProcess(std::string dir, std::string address,
                     std::unique_ptr<cli::ChildProcess> process);

  const std::string dir_;
  const std::string address_;
  const std::unique_ptr<cli::ChildProcess> process_;
};

}  // namespace koinon::bench

#endif  // KOINON_TOOLS_BENCH_COORDINATOR_PROCESS_H_
