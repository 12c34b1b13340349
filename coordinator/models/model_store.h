#ifndef KOINON_COORDINATOR_MODELS_MODEL_STORE_H_
#define KOINON_COORDINATOR_MODELS_MODEL_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/ids.h"
#include "base/model_layout.h"
#include "coordinator/journal/journal.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Published versions as safetensors files: ROOT/JOB/VERSION.safetensors, and
// beside each the hashes that it is spread with: ROOT/JOB/VERSION.leaves.
// Beside the newest, its difference to the version before: VERSION.delta and
// VERSION.delta.leaves (version_contents.h writes them); and the vectors that
// go with it, each of the model's layout: VERSION.NAME.safetensors. The
// manifests are the journal's, and so are the digests of state files.
// Thread-safe.
class ModelStore {
 public:
  // `chunk_size_bytes`: of the manifests made from now on.
  ModelStore(Env* env, std::string root, int64_t chunk_size_bytes);

  // Writes one version in ascending order, hashing as it goes. Destroyed before
  // Publish, it leaves nothing behind. Not thread-safe.
  class Writer {
   public:
    ~Writer();
    // The next elements of the data section, in layout order. INVALID_ARGUMENT
    // for more than the layout has.
    absl::Status Append(absl::Span<const float> values);
    // Durable and in place on return. INVALID_ARGUMENT if not all elements were
    // appended. `parent`: zero for version 0. Publishing the same bytes again
    // (after a crash) is not an error. Once: afterwards, and after any failure,
    // FAILED_PRECONDITION.
    // The manifest is not signed yet.
    absl::StatusOr<v1::ModelManifest> Publish(const Digest& parent,
                                              const v1::Provenance& provenance);
    // The file's Merkle tree, once published.
    const v1::Content& content() const;

   private:
    friend class ModelStore;
    struct State;
    explicit Writer(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  // As Writer, of a state file.
  class StateWriter {
   public:
    ~StateWriter();
    absl::Status Append(absl::Span<const float> values);
    absl::StatusOr<StateFile> Publish();

   private:
    friend class ModelStore;
    struct State;
    explicit StateWriter(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
  };

  // The file's metadata (format, job, version) follows from the arguments, so
  // that its bytes depend on nothing else. INVALID_ARGUMENT for a name that is
  // no job id, a negative version, a tensor that is not F32 or a chunk size <
  // 1; RESOURCE_EXHAUSTED if the disk has no room for the file.
  absl::StatusOr<std::unique_ptr<Writer>> NewVersion(const JobId& job,
                                                     int64_t version,
                                                     const ModelLayout& layout);
  // As NewVersion. `name`: [a-z_]{1,32}, what the vector is: "momentum".
  absl::StatusOr<std::unique_ptr<StateWriter>> NewState(
      const JobId& job, int64_t version, const std::string& name,
      const ModelLayout& layout);

  // An open version: its header is checked, its bytes can be read.
  struct Version {
    std::unique_ptr<File> file;
    uint64_t size_bytes = 0;
    ModelLayout layout;
    size_t data_offset_bytes = 0;
  };
  // NOT_FOUND; DATA_LOSS if the file is not what the manifest says (size or
  // layout; the chunks' digests are for whoever reads them).
  absl::StatusOr<Version> Open(const v1::ModelManifest& manifest) const;
  // A state file of a model with this layout. NOT_FOUND; DATA_LOSS, naming the
  // file, if it is not what `file` says: size, layout, and the digest of all
  // its bytes, which are read for it.
  absl::StatusOr<Version> OpenState(const JobId& job, int64_t version,
                                    const StateFile& file,
                                    const ModelLayout& layout) const;
  std::string PathOf(const JobId& job, int64_t version) const;
  std::string LeavesPathOf(const JobId& job, int64_t version) const;
  std::string DeltaPathOf(const JobId& job, int64_t version) const;
  std::string DeltaLeavesPathOf(const JobId& job, int64_t version) const;
  std::string StatePathOf(const JobId& job, int64_t version,
                          const std::string& name) const;
  // The version, its hashes and its delta. Durable on return. NOT_FOUND if
  // there is no such version.
  absl::Status Remove(const JobId& job, int64_t version);
  // The delta alone. What is not there is no error.
  absl::Status RemoveDelta(const JobId& job, int64_t version);
  absl::Status RemoveState(const JobId& job, int64_t version,
                           const std::string& name);
  // Removes the job's state files and deltas that do not go with a version in
  // `kept`, hashes of versions that are not here, and what writers left half
  // done: after a crash, while nobody writes versions of this job. Files with
  // other names, and versions, stay. Returns the removed names.
  absl::StatusOr<std::vector<std::string>> RemoveStrayState(
      const JobId& job, const std::map<int64_t, std::vector<StateFile>>& kept);

  Env* env() const { return env_; }
  int64_t chunk_size_bytes() const { return chunk_size_bytes_; }

 private:
  std::string DirOf(const JobId& job) const;
  absl::StatusOr<Version> OpenFile(const std::string& path, int64_t size_bytes,
                                   absl::string_view layout_hash) const;
  absl::Status SyncRoot() const;
  absl::Status RemoveIfThere(const std::string& path);

  Env* const env_;
  const std::string root_;
  const int64_t chunk_size_bytes_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_MODEL_STORE_H_
