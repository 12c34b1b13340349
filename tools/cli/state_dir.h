#ifndef KOINON_TOOLS_CLI_STATE_DIR_H_
#define KOINON_TOOLS_CLI_STATE_DIR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "aggregation/core/update_set.h"
#include "aggregation/server/server_step.h"
#include "base/env.h"
#include "base/model_layout.h"
#include "base/safetensors_writer.h"
#include "tools/cli/tensor_files.h"

namespace koinon::cli {

// The vectors that an aggregation by hand keeps from step to step, in a folder:
// STEP.NAME.safetensors, with the step and whose state it is in the metadata
// ("koinon.step", "koinon.state", "koinon.keeper"). The newest step of which
// all files are there is the state; each file appears whole or not at all, and
// older ones go only after that, so that a process may end anywhere. Not
// thread-safe.
class StateDir {
 public:
  // What a step keeps, and for whom ("fedadam", "centered_clipping").
  struct Vector {
    std::string name;
    std::string keeper;
  };

  // No folder, or one without state: the first step is next. DATA_LOSS if there
  // is state, but of no step all of it; FAILED_PRECONDITION if it was kept for
  // somebody else; INVALID_ARGUMENT if its layout is another one.
  static absl::StatusOr<StateDir> Open(Env* env, const std::string& dir,
                                       std::vector<Vector> vectors,
                                       const ModelLayout& layout,
                                       const std::string& layout_path);

  int64_t step() const { return step_; }  // of the state; 0: none
  // Null if there is none.
  const aggregation::UpdateSource* before(const std::string& name) const;

  // Begins the files of the step after step(). Makes the folder.
  absl::Status Begin();
  aggregation::AppendValues after(const std::string& name);
  // The new state is durable and in place, and the old one gone.
  absl::Status Commit();

  // All files that Begin and Commit may write.
  std::vector<std::string> NewPaths() const;
  std::vector<std::string> OldPaths() const;

 private:
  StateDir(Env* env, std::string dir, std::vector<Vector> vectors,
           ModelLayout layout)
      : env_(env),
        dir_(std::move(dir)),
        vectors_(std::move(vectors)),
        layout_(std::move(layout)) {}

  std::string PathOf(int64_t step, const std::string& name) const;
  absl::Status Find();
  absl::Status CheckKeeper(const std::string& path) const;
  absl::Status Load(const std::string& layout_path);

  Env* env_;
  std::string dir_;
  std::vector<Vector> vectors_;
  ModelLayout layout_;
  int64_t step_ = 0;
  std::vector<std::string> others_;  // paths of other steps' files
  std::map<std::string, std::unique_ptr<TensorFile>> before_;
  std::map<std::string, std::unique_ptr<SafetensorsWriter>> after_;
};

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_STATE_DIR_H_
