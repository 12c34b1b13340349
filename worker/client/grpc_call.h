#ifndef KOINON_WORKER_CLIENT_GRPC_CALL_H_
#define KOINON_WORKER_CLIENT_GRPC_CALL_H_

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/client/cancellation.h"

namespace koinon::worker {

inline absl::Status FromGrpcStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

// One asynchronous call driven by one thread: start an operation with kTag,
// then Wait for it. Unlike gRPC's own blocking calls, every operation has a
// time limit, whatever the call's whole length. Not thread-safe.
class GrpcCall {
 public:
  GrpcCall(absl::Duration step_timeout, Cancellation* cancellation)
      : step_timeout_(step_timeout),
        hook_(cancellation, [this] { context_.TryCancel(); }) {}
  ~GrpcCall() {
    queue_.Shutdown();
    void* tag;
    bool ok;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  grpc::ClientContext* context() { return &context_; }
  grpc::CompletionQueue* queue() { return &queue_; }
  // gRPC only hands it back.
  void* tag() { return this; }

  // Waits for the operation just started; false if it failed, as any does
  // after the limit: the call is then cancelled.
  bool Wait() { return WaitFor(step_timeout_); }
  bool WaitFor(absl::Duration timeout) {
    void* tag;
    bool ok = false;
    const auto deadline =
        std::chrono::system_clock::now() + absl::ToChronoMilliseconds(timeout);
    if (queue_.AsyncNext(&tag, &ok, deadline) ==
        grpc::CompletionQueue::TIMEOUT) {
      stalled_ = true;
      context_.TryCancel();
      queue_.Next(&tag, &ok);
    }
    return ok;
  }

  // What the call's final status means, given how it went.
  absl::Status Translate(const grpc::Status& status) const {
    if (stalled_) {
      return absl::DeadlineExceededError("no progress for " +
                                         absl::FormatDuration(step_timeout_));
    }
    return FromGrpcStatus(status);
  }

 private:
  const absl::Duration step_timeout_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  bool stalled_ = false;
  Cancellation::Hook hook_;  // last: ends before what it touches
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_GRPC_CALL_H_
