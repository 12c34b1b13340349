#ifndef KOINON_WORKER_TRAIN_TRAINER_H_
#define KOINON_WORKER_TRAIN_TRAINER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// Called now and then from the training thread.
using ProgressCallback = std::function<void(double fraction, double loss)>;

// Turns a task and local data into an update. Models and updates travel as
// files so that their size is bounded by the disk, not by memory.
//
// Determinism: the same offer (its seed among it), base model, data and thread
// count give the same update, byte for byte. Used by one thread at a time.
class Trainer {
 public:
  virtual ~Trainer() = default;

  // Trains from the safetensors file `base_path` on the training part of the
  // offer's dataset; leaves trained - base in the new file `update_path` (flat
  // little-endian fp32 in layout order, no header). Returns the metrics of
  // training. CANCELLED soon after `*stop` becomes true; NOT_FOUND for an
  // unknown dataset, listing those there are; INVALID_ARGUMENT if model and
  // data do not fit each other; INTERNAL with the reason if the training
  // itself failed (a loss that is not finite, a program that misbehaved).
  virtual absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                            const std::string& base_path,
                                            const std::string& update_path,
                                            const ProgressCallback& progress,
                                            const std::atomic<bool>& stop) = 0;

  // Measures the model on the held-out part. FAILED_PRECONDITION if the
  // dataset has none.
  virtual absl::StatusOr<v1::Metrics> Evaluate(
      const v1::OfferTask& offer, const std::string& model_path,
      const std::atomic<bool>& stop) = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_TRAINER_H_
