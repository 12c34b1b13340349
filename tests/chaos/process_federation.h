#ifndef KOINON_TESTS_CHAOS_PROCESS_FEDERATION_H_
#define KOINON_TESTS_CHAOS_PROCESS_FEDERATION_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/client.grpc.pb.h"
#include "tools/cli/process.h"

namespace koinon::testing {

// A coordinator and workers as real processes on loopback in plaintext, over a
// small labelled data set that is made here. A test kills and starts them as it
// likes. Not thread-safe.
class ProcessFederation {
 public:
  // Binaries are found in the test's runfiles; everything else lies in `dir`.
  ProcessFederation(std::string dir, int workers);
  ~ProcessFederation();

  absl::Status StartCoordinator();
  void KillCoordinator();  // SIGKILL
  // How the coordinator ended after SIGTERM.
  std::string StopCoordinator();
  absl::Status StartWorker(int index);
  void KillWorker(int index);  // SIGKILL
  bool CoordinatorRuns();

  // Over a fresh connection.
  std::unique_ptr<v1::ClientService::Stub> Client() const;

  // Every worker in every round; an MLP; no evaluation.
  v1::JobSpec MakeJob(const std::string& name, int64_t rounds) const;
  absl::Status Submit(const v1::JobSpec& spec) const;
  // UNAVAILABLE while there is no coordinator.
  absl::StatusOr<v1::JobStatus> Get(const std::string& job) const;
  absl::StatusOr<std::vector<v1::RoundReport>> Rounds(
      const std::string& job) const;
  // Polls, across restarts, until the job has ended.
  absl::StatusOr<v1::JobStatus> AwaitEnd(const std::string& job) const;

  const std::string& dir() const { return dir_; }
  int port() const { return port_; }

 private:
  absl::Status WriteData() const;

  const std::string dir_;
  const int workers_;
  int port_ = 0;
  int reserved_ = -1;  // a descriptor that keeps the port ours between starts
  std::unique_ptr<cli::ChildProcess> coordinator_;
  std::map<int, std::unique_ptr<cli::ChildProcess>> running_;
};

}  // namespace koinon::testing

#endif  // KOINON_TESTS_CHAOS_PROCESS_FEDERATION_H_
