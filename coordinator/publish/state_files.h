#ifndef KOINON_COORDINATOR_PUBLISH_STATE_FILES_H_
#define KOINON_COORDINATOR_PUBLISH_STATE_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/update_set.h"
#include "aggregation/server/server_step.h"
#include "base/ids.h"
#include "base/model_layout.h"
#include "coordinator/journal/journal.h"
#include "coordinator/models/model_store.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// The values of an open version or state file. Thread-safe.
class VersionSource final : public aggregation::UpdateSource {
 public:
  explicit VersionSource(ModelStore::Version version)
      : version_(std::move(version)) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;
  const ModelLayout& layout() const { return version_.layout; }

 private:
  const ModelStore::Version version_;
};

// The vectors that one step of a job reads from beside the base version and
// writes beside the new one. What was written leaves no trace unless Publish
// and Keep are called. Not thread-safe.
class StateFiles {
 public:
  // `names`: what the step needs; fixed by the job. Version 0 has no state, so
  // that a job's first step begins from the initial one; for every other base,
  // `base_state` must name them all: DATA_LOSS if it does not, or if a file is
  // not what the journal says (ModelStore::OpenState). The store must outlive
  // the result.
  static absl::StatusOr<StateFiles> Open(ModelStore* store,
                                         const v1::ModelManifest& base,
                                         absl::Span<const StateFile> base_state,
                                         int64_t new_version,
                                         const ModelLayout& layout,
                                         absl::Span<const std::string> names);

  StateFiles(StateFiles&&) = default;
  ~StateFiles();

  // Null: there is none yet. Of a name that was given to Open.
  const aggregation::UpdateSource* before(const std::string& name) const;
  aggregation::AppendValues after(const std::string& name);

  // All files durable and in place, in the order of `names`.
  absl::StatusOr<std::vector<StateFile>> Publish();
  // The version is published too: from now on the files stay.
  void Keep() { published_.clear(); }

 private:
  struct Vector {
    std::string name;
    std::unique_ptr<VersionSource> before;
    std::unique_ptr<ModelStore::StateWriter> after;
  };
  StateFiles(ModelStore* store, JobId job, int64_t version)
      : store_(store), job_(std::move(job)), version_(version) {}

  ModelStore* store_;
  JobId job_;
  int64_t version_;
  std::vector<Vector> vectors_;
  std::vector<std::string> published_;  // and not kept
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_PUBLISH_STATE_FILES_H_
