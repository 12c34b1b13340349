#ifndef KOINON_WORKER_TESTING_FAKE_COORDINATOR_H_
#define KOINON_WORKER_TESTING_FAKE_COORDINATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// A coordinator of one worker on loopback, for tests of the worker's side: real
// gRPC, no federation. It answers Hello with Welcome, renews leases, grants
// each announced update and takes its bytes; the knobs break things. It has no
// model versions (fake_models.h, fake_origin.h). Thread-safe.
class FakeCoordinator {
 public:
  struct Knobs {
    absl::Status refuse_session;  // if not OK
    int protocol_major = 1;       // in Welcome
    double lease_seconds = 30;
    int64_t max_chunk_bytes = 1024;
    bool grant_uploads = true;
    int break_pushes = 0;        // so many end after half of the rest
    bool stall_pushes = false;   // never read anything
    bool refuse_update = false;  // PushUpdateReply.accepted
  };

  // On 127.0.0.1 at `port`; 0: any.
  explicit FakeCoordinator(Knobs knobs, int port = 0);
  // Cancels what is under way.
  ~FakeCoordinator();

  int port() const { return port_; }
  std::string target() const;
  void SetKnobs(Knobs knobs);

  // An offer of training (or evaluation), on the base version of this digest.
  void SetBase(const Digest& digest) { base_digest_ = digest; }
  v1::CoordinatorMessage Offer(const std::string& job, int64_t round,
                               v1::TaskRef::Kind kind = v1::TaskRef::TRAIN);

  // To the worker, once it is connected.
  void Send(const v1::CoordinatorMessage& message);
  // Breaks the worker's session.
  void BreakSession();

  // Waits (20 s at most, then fails the test) until `done` holds for everything
  // heard so far.
  struct Heard {
    std::vector<v1::Hello> hellos;
    std::vector<v1::WorkerMessage> messages;
    std::vector<int64_t> push_offsets;           // granted
    std::map<std::string, std::string> updates;  // by "job/round", complete
  };
  bool WaitUntil(const std::function<bool(const Heard&)>& done);
  // Until a message of this kind has come; the first one.
  v1::WorkerMessage WaitFor(v1::WorkerMessage::MessageCase kind);
  Heard heard() const;

 private:
  class Service;
  struct Server;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
  int port_ = 0;
  Digest base_digest_;  // the test's thread's
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TESTING_FAKE_COORDINATOR_H_
