#ifndef KOINON_TESTS_INTEGRATION_TEST_WORKER_H_
#define KOINON_TESTS_INTEGRATION_TEST_WORKER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"
#include "proto/worker.grpc.pb.h"

namespace koinon::testing {

// A worker that does exactly what a test tells it, one blocking call at a time,
// over a real connection. Not thread-safe.
class TestWorker {
 public:
  TestWorker(std::shared_ptr<grpc::Channel> channel, std::string name);
  // Breaks the stream without a Goodbye.
  ~TestWorker();

  // Opens the session and says Hello (protocol 1.0 unless changed).
  void Open();
  v1::Hello& hello() { return hello_; }

  void Send(const v1::WorkerMessage& message);
  // The next message of this kind; others are dropped on the way. The stream's
  // status if it ends first.
  absl::StatusOr<v1::CoordinatorMessage> Await(
      v1::CoordinatorMessage::MessageCase kind);

  // A header that fits the offer, for these values.
  v1::UpdateHeader HeaderFor(const v1::OfferTask& offer,
                             const std::vector<float>& values,
                             int64_t examples) const;
  void Announce(const v1::UpdateHeader& header);
  // Sends header and bytes from `offset`, in chunks of `chunk` bytes, only the
  // first `limit` of them. The stream's error, or the reply.
  absl::StatusOr<v1::PushUpdateReply> Push(const v1::UpdateHeader& header,
                                           const std::string& bytes,
                                           int64_t offset, size_t chunk,
                                           size_t limit = SIZE_MAX);
  // Awaits an offer to train, announces, awaits the grant, pushes.
  absl::StatusOr<v1::PushUpdateReply> TrainOnce(
      const std::vector<float>& values, int64_t examples);

  absl::StatusOr<std::string> Pull(const std::string& job, int64_t version,
                                   int64_t offset, v1::ModelManifest* manifest);

  static std::string BytesOf(const std::vector<float>& values);

 private:
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  const std::string name_;
  v1::Hello hello_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>>
      session_;
};

}  // namespace koinon::testing

#endif  // KOINON_TESTS_INTEGRATION_TEST_WORKER_H_
