#ifndef KOINON_WORKER_STORE_CONTROL_STORE_H_
#define KOINON_WORKER_STORE_CONTROL_STORE_H_

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
#include "base/model_layout.h"
#include "base/mutex.h"
#include "base/safetensors_writer.h"

namespace koinon::worker {

// This worker's control variates (c_i of SCAFFOLD, Karimireddy et al. 2020),
// one for each job that uses them: DIR/JOB.safetensors, in the shapes of the
// model. The coordinator's own (c) is the mean over the workers, kept up by
// differences alone. So a worker's must change when, and only when, a version
// holds the change:
//
//   ABSL_ASSIGN_OR_RETURN(c_i, store->Read(job, layout));  // zeros at first
//   ... train; the update says c_i+ - c_i ...
//   store->Include(task, update_file);  // once the update is in a version
//
// Include is durable when it returns and does nothing the second time, so that
// whoever was interrupted between it and forgetting the update does both again.
//
// Bounded: past a bound the job that changed longest ago loses its file. Should
// that job go on all the same, it goes on from zero, and the coordinator's mean
// keeps what was lost; docs/jobs.md says what that means.
//
// Thread-safe; one job is used by one thread at a time.
class ControlStore {
 public:
  struct Options {
    size_t max_jobs = 64;
    uint64_t max_bytes = uint64_t{32} << 30;  // of all values together
  };

  // A job, and when it was submitted: that tells it from another of its name.
  struct Job {
    JobId name;
    int64_t submitted_ms = 0;  // Unix time

    friend bool operator==(const Job&, const Job&) = default;
  };

  // Opens or creates `dir`, which belongs to this store alone, and removes what
  // a crash left unfinished and what is no control variate. DATA_LOSS and the
  // like if the disk fails.
  static absl::StatusOr<std::unique_ptr<ControlStore>> Open(
      Env* env, const std::string& dir, Options options);

  // The job's control variate, [model.total_elements()]. Zeros, durably, if
  // there is none, or one of another job of that name or of another model.
  // RESOURCE_EXHAUSTED if it alone is over max_bytes, or when the disk is full.
  // Requires an all-F32 layout.
  absl::StatusOr<std::vector<float>> Read(const Job& job,
                                          const ModelLayout& model);

  // Whether the job has a control variate here.
  bool Holds(const JobId& job) const;

  // Adds the second half of the task's update (proto/worker.proto) to the job's
  // control variate, unless an update of this round or a later one has been
  // added before: a job's rounds are settled in their order. After a failure,
  // or a crash, the control variate is what it was. NOT_FOUND if the job has
  // none; FAILED_PRECONDITION if the update is not of its size; INTERNAL if the
  // sum is not finite.
  absl::Status Include(const TaskId& task, const File& update);

 private:
  // What a file's header says.
  struct Entry {
    int64_t submitted_ms = 0;
    int64_t round = 0;      // last included; 0: none
    uint64_t last_use = 0;  // grows over all entries
    uint64_t data_offset_bytes = 0;
    ModelLayout layout;
  };

  ControlStore(Env* env, std::string dir, Options options)
      : env_(env), dir_(std::move(dir)), options_(options) {}

  std::string PathOf(const JobId& job) const;
  absl::Status Recover();
  absl::StatusOr<Entry> ReadEntry(const JobId& job) const;
  absl::StatusOr<std::vector<float>> ReadValues(const JobId& job,
                                                const Entry& entry) const;
  absl::Status Create(const Job& job, const ModelLayout& model);
  absl::Status Add(const JobId& job, const Entry& entry, const File& update,
                   SafetensorsWriter* writer) const;
  // The next content of the job's file; takes its place when it is finished.
  absl::StatusOr<std::unique_ptr<SafetensorsWriter>> NewContent(
      const JobId& job, Entry* entry) const;
  // Removes others until `size_bytes` of values for `job` are within the
  // bounds.
  absl::Status MakeRoom(const JobId& job, uint64_t size_bytes);
  void Remember(const JobId& job, Entry entry);

  Env* const env_;
  const std::string dir_;
  const Options options_;
  mutable Mutex mutex_;
  std::map<JobId, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_STORE_CONTROL_STORE_H_
