#ifndef KOINON_WORKER_CLIENT_COORDINATOR_CLIENT_H_
#define KOINON_WORKER_CLIENT_COORDINATOR_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "base/env.h"
#include "proto/worker.pb.h"
#include "worker/client/cancellation.h"
#include "worker/session/actions.h"

namespace koinon::worker {

// The calls that a worker makes (proto/worker.proto), without their transport.
// Thread-safe.
class CoordinatorClient {
 public:
  // One open stream. Its destructor ends it and returns once no callback runs
  // any more. Thread-safe.
  class Session {
   public:
    virtual ~Session() = default;
    // Sends in order, without waiting. A peer that does not read for long ends
    // the session.
    virtual void Send(v1::WorkerMessage message) = 0;
    // Ends the stream after everything sent has left.
    virtual void FinishSending() = 0;
  };

  // Called from a thread of the session's, one at a time. `on_closed` comes
  // exactly once, and last; neither may destroy the session.
  struct SessionCallbacks {
    std::function<void(const v1::CoordinatorMessage&)> on_message;
    std::function<void(const absl::Status&)> on_closed;
  };

  virtual ~CoordinatorClient() = default;

  // Connects if need be, and sends `hello` first. Failures come by on_closed:
  // UNAVAILABLE if nobody answers.
  virtual std::unique_ptr<Session> OpenSession(const v1::Hello& hello,
                                               SessionCallbacks callbacks) = 0;

  // Pushes the bytes of `update` from `push.offset`. In memory is one chunk at
  // a time. Slow progress is fine, none for a while is DEADLINE_EXCEEDED.
  virtual PushOutcome PushUpdate(const StartPush& push, const File& update,
                                 Cancellation* cancellation) = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_CLIENT_COORDINATOR_CLIENT_H_
