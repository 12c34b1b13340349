#ifndef KOINON_WORKER_CLIENT_GRPC_SESSION_H_
#define KOINON_WORKER_CLIENT_GRPC_SESSION_H_

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <thread>

#include "base/mutex.h"
#include "proto/worker.grpc.pb.h"
#include "worker/client/coordinator_client.h"

namespace koinon::worker {

// The Session stream over gRPC. One thread reads and completes; writes start in
// whichever thread sends. See CoordinatorClient::Session.
class GrpcSession final : public CoordinatorClient::Session {
 public:
  // More messages than this unsent, and the session is given up: the peer does
  // not read.
  static constexpr size_t kMaxUnsent = 1024;

  // `stub` must outlive this object.
  GrpcSession(v1::WorkerService::Stub* stub, const v1::Hello& hello,
              CoordinatorClient::SessionCallbacks callbacks);
  ~GrpcSession() override;

  void Send(v1::WorkerMessage message) override;
  void FinishSending() override;

 private:
  // Operations under way, as gRPC's tags.
  enum Tag : intptr_t { kStart = 1, kRead, kWrite, kFinish };
  static void* TagOf(Tag tag) { return reinterpret_cast<void*>(tag); }

  void Run();
  // Returns false once the final status is there.
  bool OnCompleted(Tag tag, bool ok);
  void WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const CoordinatorClient::SessionCallbacks callbacks_;

  // Synchronise themselves.
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<
      grpc::ClientAsyncReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>>
      stream_;

  // The thread's own.
  v1::CoordinatorMessage received_;
  grpc::Status status_;

  Mutex mutex_;
  std::deque<v1::WorkerMessage> unsent_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool no_more_writes_ ABSL_GUARDED_BY(mutex_) = false;  // broken or done
  bool finishing_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // last: starts when all else is there
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_GRPC_SESSION_H_
