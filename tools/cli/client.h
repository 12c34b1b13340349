#ifndef KOINON_TOOLS_CLI_CLIENT_H_
#define KOINON_TOOLS_CLI_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/client.pb.h"

namespace grpc {
class ChannelCredentials;
}

namespace koinon::cli {

// Calls to one coordinator's ClientService. Every call has a deadline but for
// the streams, which end when their callback returns false. Thread-safe.
//
// Errors are the coordinator's own, and UNAVAILABLE, naming the address, if it
// cannot be reached.
class Client {
 public:
  static std::unique_ptr<Client> Create(
      const std::string& address,
      std::shared_ptr<grpc::ChannelCredentials> credentials);
  ~Client();

  absl::StatusOr<v1::SubmitJobReply> SubmitJob(const v1::JobSpec& spec);
  absl::StatusOr<v1::JobStatus> GetJob(const std::string& name);
  absl::StatusOr<v1::ListJobsReply> ListJobs();
  absl::StatusOr<v1::JobStatus> CancelJob(const std::string& name);
  absl::StatusOr<v1::JobStatus> PauseJob(const std::string& name);
  absl::StatusOr<v1::JobStatus> ResumeJob(const std::string& name);
  absl::StatusOr<v1::ListRoundsReply> ListRounds(const std::string& job,
                                                 int64_t after_round,
                                                 int64_t limit);
  absl::StatusOr<v1::ListNodesReply> ListNodes();
  absl::StatusOr<v1::ListModelsReply> ListModels(const std::string& job);
  absl::StatusOr<v1::ModelManifest> PinModel(const std::string& job,
                                             int64_t version, bool pinned);

  // Calls `on_event` for each event until the stream ends, which is when the
  // job does, or `on_event` returns false; both are OK.
  using OnEvent = std::function<bool(const v1::JobEvent&)>;
  absl::Status WatchJob(const std::string& name, bool from_start,
                        const OnEvent& on_event);

  // Calls `on_reply` for the manifest, then each chunk. OK as for WatchJob.
  using OnPart = std::function<bool(const v1::PullModelReply&)>;
  absl::Status PullModel(const v1::PullModelRequest& request,
                         const OnPart& on_part);

  const std::string& address() const;

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_CLIENT_H_
