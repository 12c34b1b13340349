#ifndef KOINON_WORKER_CLIENT_GRPC_CLIENT_H_
#define KOINON_WORKER_CLIENT_GRPC_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "worker/client/coordinator_client.h"

namespace grpc {
class ChannelCredentials;
}  // namespace grpc

namespace koinon::worker {

// CoordinatorClient over gRPC: one HTTP/2 connection for everything. Messages
// are bounded by max_chunk_bytes and a little more.
class GrpcClient final : public CoordinatorClient {
 public:
  struct Options {
    std::string target;  // "host:port"
    // Shared with gRPC's channel, which keeps it for its connections.
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    int64_t max_chunk_bytes = 4 << 20;
    // A push without progress for so long is given up.
    absl::Duration stall_timeout = absl::Seconds(60);
    // For the coordinator's answer after the last chunk: it checks the whole
    // and waits for its disk.
    absl::Duration reply_timeout = absl::Minutes(5);
  };

  // INVALID_ARGUMENT unless target is "host:port".
  static absl::StatusOr<std::unique_ptr<GrpcClient>> Create(Options options);
  ~GrpcClient() override;

  std::unique_ptr<Session> OpenSession(const v1::Hello& hello,
                                       SessionCallbacks callbacks) override;
  PushOutcome PushUpdate(const StartPush& push, const File& update,
                         Cancellation* cancellation) override;

 private:
  struct Channel;
  GrpcClient(Options options, std::shared_ptr<Channel> channel);
  std::shared_ptr<Channel> CurrentChannel() const;

  const Options options_;

  mutable Mutex mutex_;
  // The second owners are the calls on it.
  std::shared_ptr<Channel> channel_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_GRPC_CLIENT_H_
