#ifndef KOINON_WORKER_STORE_UPDATE_STORE_H_
#define KOINON_WORKER_STORE_UPDATE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/env.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// Finished updates on disk, until their rounds are settled: each as
// DIR/JOB.ROUND .update (the bytes to push) and .header (its UpdateHeader). The
// header is written last, durably: an update is held if and only if its header
// is there.
//
//   trainer.Train(offer, base, store->StagingPath(task), ...);
//   store->Keep(offer, metrics);          // durable from here on
//   ... store->Open(task) and push ...
//   store->Forget(task);
//
// Thread-safe; two threads must not work on the same task.
class UpdateStore {
 public:
  struct Options {
    WorkerId worker;  // whose updates they are
    size_t max_updates = 17;
    uint64_t max_bytes = uint64_t{32} << 30;  // of all updates together
  };

  // Opens or creates `dir`, which belongs to this store alone, and removes what
  // a crash left unfinished and what is another worker's. DATA_LOSS and the
  // like if the disk fails.
  static absl::StatusOr<std::unique_ptr<UpdateStore>> Open(
      Env* env, const std::string& dir, Options options);

  // What is held, in the order of tasks.
  std::vector<v1::UpdateHeader> held() const;

  // Where to write the task's update. Not held until Keep.
  std::string StagingPath(const TaskId& task) const;

  // Makes the staged update of the offer's task held and returns its header.
  // INTERNAL if the staged file is missing, empty or no run of floats;
  // RESOURCE_EXHAUSTED, saying which bound, over one of the options or when the
  // disk is full. After a failure the task's update is not held and the staged
  // file is gone.
  absl::StatusOr<v1::UpdateHeader> Keep(const v1::OfferTask& offer,
                                        const v1::Metrics& metrics);

  // Removes the task's staged file, if there is one.
  void DiscardStaged(const TaskId& task);

  // The held update's bytes. NOT_FOUND if it is not held.
  absl::StatusOr<std::unique_ptr<File>> OpenUpdate(const TaskId& task) const;

  // OK if it is not held. Even after a failure it is held no more in this
  // process, but may come back after a restart.
  absl::Status Forget(const TaskId& task);

 private:
  UpdateStore(Env* env, std::string dir, Options options)
      : env_(env), dir_(std::move(dir)), options_(options) {}

  std::string PathOf(const TaskId& task, const char* suffix) const;
  absl::Status Recover();
  // The header named `entry`, if it and its update are sound.
  absl::StatusOr<v1::UpdateHeader> ReadHeld(const std::string& entry) const;
  absl::StatusOr<v1::UpdateHeader> KeepStaged(const TaskId& task,
                                              const v1::OfferTask& offer,
                                              const v1::Metrics& metrics);
  absl::Status CheckBounds(const TaskId& task, uint64_t size) const;

  Env* const env_;
  const std::string dir_;
  const Options options_;
  mutable Mutex mutex_;
  std::map<TaskId, v1::UpdateHeader> held_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_STORE_UPDATE_STORE_H_
