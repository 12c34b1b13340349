#ifndef KOINON_WORKER_MODELS_MODEL_SOURCE_H_
#define KOINON_WORKER_MODELS_MODEL_SOURCE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// A version on disk: whole, verified, and there for as long as this lives.
class LocalModel {
 public:
  virtual ~LocalModel() = default;
  virtual const std::string& path() const = 0;
};

// Where a worker's base versions come from. Thread-safe.
class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // Where others reach this worker for versions, for Hello. Absent: nowhere,
  // and nobody is to be told. Constant.
  virtual std::optional<v1::Contact> contact() const = 0;

  // The coordinator that the worker is connected to: whose word counts from now
  // on. Quick.
  virtual void OnWelcome(const v1::Welcome& welcome) = 0;

  struct Fetched {
    // The second owner is whoever runs the task.
    std::shared_ptr<LocalModel> model;
    v1::SwarmTraffic traffic;  // none if the version was here
  };
  // Brings the offer's base version here, from where an earlier attempt broke
  // off. Blocks; `cancelled` is asked now and then.
  //
  // A manifest that does not verify, or is not of the version that the task
  // names: the error says what is wrong with it, and is none that may pass.
  // UNAVAILABLE: try again later. RESOURCE_EXHAUSTED: the disk is full, or the
  // model is over a bound. CANCELLED.
  virtual absl::StatusOr<Fetched> Fetch(
      const v1::OfferTask& offer, const std::function<bool()>& cancelled) = 0;

  // What has moved since the start.
  virtual v1::SwarmTraffic traffic() const = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_MODELS_MODEL_SOURCE_H_
