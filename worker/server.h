#ifndef KOINON_WORKER_SERVER_H_
#define KOINON_WORKER_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/ids.h"
#include "proto/worker.pb.h"
#include "worker/client/coordinator_client.h"
#include "worker/models/model_source.h"
#include "worker/session/connection.h"
#include "worker/store/control_store.h"
#include "worker/store/update_store.h"
#include "worker/train/trainer.h"

namespace koinon::worker {

// A running worker: connects, trains what it is offered, pushes its updates,
// and keeps at it until it is destroyed.
//
//   Worker::Options options;
//   options.spec.name = "site-a";
//   options.spec.state_dir = "/var/lib/koinon-worker";
//   options.client = ...; options.trainer = ...; options.capabilities = ...;
//   ABSL_ASSIGN_OR_RETURN(auto worker, Worker::Start(std::move(options)));
//   ... worker->Stop("maintenance");
//
// One thread drives the session machine; training, fetching and pushing have a
// thread each. Thread-safe.
class Worker {
 public:
  // What an operator configures.
  struct Spec {
    WorkerId name;
    // Kept updates. Belongs to this worker alone.
    std::string state_dir;
    Backoff backoff;
    size_t max_held_updates = 16;
    uint64_t max_held_bytes = uint64_t{32} << 30;
    int64_t max_chunk_bytes = 4 << 20;  // of pushes
    // How long Stop waits for training to end and for the goodbye to leave.
    absl::Duration stop_patience = absl::Seconds(10);
  };

  // What a test injects. The pointers must outlive the worker.
  struct Options {
    Spec spec;
    v1::Capabilities capabilities;
    Env* env = nullptr;
    const Clock* clock = nullptr;
    Trainer* trainer = nullptr;  // used by one thread at a time
    // The trainer's. Null: it has none, and no job that needs them.
    ControlStore* controls = nullptr;
    std::unique_ptr<CoordinatorClient> client;
    ModelSource* models = nullptr;
    uint64_t seed = 0;  // of the back-off's jitter
    // Files and folders of this machine: what the worker tells the coordinator
    // in words does not name them (LocalPaths), its log does.
    std::vector<std::string> local_paths;
    // See TaskQueue. May be null.
    std::function<absl::Status(const v1::OfferTask&)> check_offer;
  };

  // What it has done since its start.
  struct Status {
    bool connected = false;
    int64_t sessions = 0;
    int64_t trained = 0;
    int64_t evaluated = 0;
    int64_t pushed = 0;
    size_t held_updates = 0;
    v1::SwarmTraffic traffic;  // of model versions
  };

  // INVALID_ARGUMENT for a bad spec; whatever the disk says if the state cannot
  // be opened. An unreachable coordinator is no failure: it is tried again.
  static absl::StatusOr<std::unique_ptr<Worker>> Start(Options options);
  // As Stop.
  ~Worker();

  // Stops training, says goodbye, ends. Kept updates stay on disk. Returns when
  // all has ended; again: at once.
  void Stop(const std::string& reason);

  Status status() const;

 private:
  class Driver;
  explicit Worker(std::unique_ptr<Driver> driver);
  const std::unique_ptr<Driver> driver_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_SERVER_H_
