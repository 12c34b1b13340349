#include "coordinator/models/model_store.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_macros.h"
#include "coordinator/models/file_digests.h"

namespace koinon::coordinator {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are written as they lie in memory");

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status CheckVersion(const JobId& job, int64_t version) {
  ABSL_RETURN_IF_ERROR(ValidateId("job name", job));
  if (version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "version ", version, " of job ", job, ", expected at least 0"));
  }
  return absl::OkStatus();
}

void RemoveQuietly(Env* env, const std::string& path) {
  // The next writer of this version truncates what cannot be removed now.
  env->Remove(path).IgnoreError();
}

}  // namespace

// A file being written under a temporary name.
struct ModelStore::Writer::State {
  Env* env;
  std::string path;
  std::string root;
  v1::ModelManifest manifest;  // what is known from the beginning
  size_t elements_left = 0;
  uint64_t size_bytes = 0;  // so far
  FileDigests digests;
  std::unique_ptr<File> file;
  bool usable = true;
  bool moved = false;

  explicit State(int64_t chunk_size_bytes) : digests(chunk_size_bytes) {}

  std::string TemporaryPath() const { return path + ".tmp"; }

  absl::Status Write(const void* data, size_t size) {
    ABSL_RETURN_IF_ERROR(file->WriteAt(size_bytes, data, size));
    digests.Update(data, size);
    size_bytes += size;
    return absl::OkStatus();
  }

  // The file under its own name, and every name on the way to it, durable.
  absl::Status MoveIntoPlace() {
    ABSL_RETURN_IF_ERROR(file->Sync());
    file.reset();
    ABSL_RETURN_IF_ERROR(env->Rename(TemporaryPath(), path));
    moved = true;
    ABSL_RETURN_IF_ERROR(env->SyncDir(ParentOf(path)));
    ABSL_RETURN_IF_ERROR(env->SyncDir(root));
    return env->SyncDir(ParentOf(root));
  }

  // FAILED_PRECONDITION after a failure, for a part may be written.
  absl::Status CheckUsable() const {
    if (usable) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(
        path, ": the writer has failed or has published its version"));
  }
};

ModelStore::Writer::Writer(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

ModelStore::Writer::~Writer() {
  state_->file.reset();
  if (!state_->moved) RemoveQuietly(state_->env, state_->TemporaryPath());
}

absl::Status ModelStore::Writer::Append(absl::Span<const float> values) {
  ABSL_RETURN_IF_ERROR(state_->CheckUsable());
  if (values.size() > state_->elements_left) {
    return absl::InvalidArgumentError(
        absl::StrCat(state_->path, ": ", values.size(), " elements, ",
                     state_->elements_left, " are left"));
  }
  const absl::Status written =
      state_->Write(values.data(), values.size() * sizeof(float));
  if (!written.ok()) {
    state_->usable = false;
    return written;
  }
  state_->elements_left -= values.size();
  return absl::OkStatus();
}

absl::StatusOr<v1::ModelManifest> ModelStore::Writer::Publish(
    const Digest& parent, const v1::Provenance& provenance) {
  ABSL_RETURN_IF_ERROR(state_->CheckUsable());
  if (state_->elements_left > 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        state_->path, ": ", state_->elements_left, " elements are missing"));
  }
  state_->usable = false;
  ABSL_RETURN_IF_ERROR(state_->MoveIntoPlace());
  v1::ModelManifest manifest = std::move(state_->manifest);
  const FileDigests::Result digests = state_->digests.Finish();
  manifest.set_digest(digests.file.ToBytes());
  for (const Digest& chunk : digests.chunks) {
    manifest.add_chunk_digests(chunk.ToBytes());
  }
  if (!parent.IsZero()) manifest.set_parent_digest(parent.ToBytes());
  manifest.set_size_bytes(static_cast<int64_t>(state_->size_bytes));
  *manifest.mutable_provenance() = provenance;
  return manifest;
}

ModelStore::ModelStore(Env* env, std::string root, int64_t chunk_size_bytes)
    : env_(env), root_(std::move(root)), chunk_size_bytes_(chunk_size_bytes) {}

absl::StatusOr<std::unique_ptr<ModelStore::Writer>> ModelStore::NewVersion(
    const JobId& job, int64_t version, const ModelLayout& layout) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  if (!layout.AllF32()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the model of job ", job, " has tensors that are not F32"));
  }
  if (chunk_size_bytes_ < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk size of ", chunk_size_bytes_, " bytes, expected at least 1"));
  }
  auto state = std::make_unique<Writer::State>(chunk_size_bytes_);
  state->env = env_;
  state->root = root_;
  state->path = PathOf(job, version);
  state->manifest.set_job(job);
  state->manifest.set_version(version);
  state->manifest.set_layout_hash(layout.hash().ToBytes());
  state->manifest.set_chunk_size_bytes(chunk_size_bytes_);
  state->elements_left = layout.total_elements();

  const std::string header = EncodeSafetensorsHeader(
      layout, {{"format", "pt"},
               {"koinon.job", job},
               {"koinon.version", absl::StrCat(version)}});
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(DirOf(job)));
  ABSL_ASSIGN_OR_RETURN(
      state->file, env_->Open(state->TemporaryPath(), Env::OpenMode::kCreate));
  Writer::State* const opened = state.get();
  // From here on the writer's destructor clears up.
  std::unique_ptr<Writer> writer(new Writer(std::move(state)));
  // A full disk shows now and not after the round's work.
  ABSL_RETURN_IF_ERROR(
      opened->file->Resize(header.size() + layout.total_bytes()));
  ABSL_RETURN_IF_ERROR(opened->Write(header.data(), header.size()));
  return writer;
}

absl::StatusOr<ModelStore::Version> ModelStore::Open(
    const v1::ModelManifest& manifest) const {
  ABSL_RETURN_IF_ERROR(CheckVersion(manifest.job(), manifest.version()));
  const std::string path = PathOf(manifest.job(), manifest.version());
  Version version;
  ABSL_ASSIGN_OR_RETURN(version.file, env_->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(version.size_bytes, version.file->Size());
  if (version.size_bytes != static_cast<uint64_t>(manifest.size_bytes())) {
    return absl::DataLossError(absl::StrCat(path, ": ", version.size_bytes,
                                            " bytes, the manifest says ",
                                            manifest.size_bytes()));
  }
  auto header = ReadSafetensorsHeader(env_, path);
  if (!header.ok()) {
    return absl::DataLossError(std::string(header.status().message()));
  }
  if (header->layout.hash().ToBytes() != manifest.layout_hash()) {
    return absl::DataLossError(absl::StrCat(path, ": layout ",
                                            header->layout.hash().ToShortHex(),
                                            ", not that of the manifest"));
  }
  version.layout = std::move(header->layout);
  version.data_offset_bytes = header->data_offset_bytes;
  return version;
}

absl::Status ModelStore::Remove(const JobId& job, int64_t version) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  ABSL_RETURN_IF_ERROR(env_->Remove(PathOf(job, version)));
  return env_->SyncDir(DirOf(job));
}

std::string ModelStore::DirOf(const JobId& job) const {
  return absl::StrCat(root_, "/", job);
}

std::string ModelStore::PathOf(const JobId& job, int64_t version) const {
  return absl::StrCat(DirOf(job), "/", version, ".safetensors");
}

}  // namespace koinon::coordinator
