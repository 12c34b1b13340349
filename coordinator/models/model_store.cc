#include "coordinator/models/model_store.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/safetensors.h"
#include "base/safetensors_writer.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"
#include "coordinator/models/file_digests.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/merkle.h"

namespace koinon::coordinator {
namespace {

// Bytes read at a time to check a digest: 1 MiB.
constexpr size_t kBlockBytes = size_t{1} << 20;
constexpr size_t kMaxStateNameBytes = 32;
constexpr char kSuffix[] = ".safetensors";
constexpr char kLeavesSuffix[] = ".leaves";
constexpr char kDeltaSuffix[] = ".delta";
constexpr char kDeltaLeavesSuffix[] = ".delta.leaves";
// As distribution/recovery names a version that it fetches.
constexpr char kRecoveringSuffix[] = ".safetensors.recovering";

absl::Status CheckVersion(const JobId& job, int64_t version) {
  ABSL_RETURN_IF_ERROR(ValidateId("job name", job));
  if (version < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "version ", version, " of job ", job, ", expected at least 0"));
  }
  return absl::OkStatus();
}

bool IsStateName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxStateNameBytes &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c == '_' || (c >= 'a' && c <= 'z'); });
}

absl::Status CheckStateName(const JobId& job, const std::string& name) {
  if (IsStateName(name)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("state \"", name, "\" of job ", job, ", expected 1 to ",
                   kMaxStateNameBytes, " of a-z and _"));
}

std::map<std::string, std::string> MetadataOf(const JobId& job,
                                              int64_t version) {
  return {{"format", "pt"},
          {"koinon.job", job},
          {"koinon.version", absl::StrCat(version)}};
}

// "17.momentum.safetensors", "17.leaves", "17.delta", "17.delta.leaves", what a
// recovery that was given up has left ("17.safetensors.recovering" and the
// fetch's files beside it), and any writer's temporary file.
bool IsOurs(absl::string_view file) {
  const bool temporary = absl::ConsumeSuffix(&file, ".tmp");
  const size_t digits =
      std::min(file.find_first_not_of("0123456789"), file.size());
  if (digits == 0) return false;
  file.remove_prefix(digits);
  if (file == kLeavesSuffix || file == kDeltaSuffix ||
      file == kDeltaLeavesSuffix) {
    return true;
  }
  absl::string_view after = file;
  if (absl::ConsumePrefix(&after, kRecoveringSuffix)) {
    return after.empty() || after == ".pieces" || after == ".leaves";
  }
  if (!absl::ConsumeSuffix(&file, kSuffix)) return false;
  if (file.empty()) return temporary;
  return absl::ConsumePrefix(&file, ".") && IsStateName(file);
}

absl::StatusOr<Digest> DigestOf(const File& file, uint64_t size_bytes) {
  Sha256 sha;
  std::vector<char> block(std::min<uint64_t>(size_bytes, kBlockBytes));
  for (uint64_t offset = 0; offset < size_bytes; offset += block.size()) {
    const size_t count = std::min<uint64_t>(block.size(), size_bytes - offset);
    ABSL_RETURN_IF_ERROR(file.ReadAt(offset, count, block.data()));
    sha.Update(block.data(), count);
  }
  return sha.Finish();
}

}  // namespace

struct ModelStore::Writer::State {
  const ModelStore* store;
  v1::ModelManifest manifest;  // what is known from the beginning
  FileDigests digests;
  dht::MerkleBuilder leaves;
  std::unique_ptr<ThreadPool> beside;
  v1::Content content;
  std::unique_ptr<SafetensorsWriter> file;

  explicit State(int64_t chunk_size_bytes) : digests(chunk_size_bytes) {}

  // Three hashes of every byte: the leaves' beside the other two.
  void Hash(const void* data, size_t size) {
    constexpr size_t kWorthAThread = size_t{256} << 10;
    if (size < kWorthAThread) {
      digests.Update(data, size);
      leaves.Append(data, size);
      return;
    }
    if (beside == nullptr) beside = std::make_unique<ThreadPool>(2);
    beside->ParallelFor(2, [&](size_t which) {
      if (which == 0) {
        digests.Update(data, size);
      } else {
        leaves.Append(data, size);
      }
    });
  }
};

ModelStore::Writer::Writer(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

ModelStore::Writer::~Writer() = default;

absl::Status ModelStore::Writer::Append(absl::Span<const float> values) {
  return state_->file->Append(values);
}

absl::StatusOr<v1::ModelManifest> ModelStore::Writer::Publish(
    const Digest& parent, const v1::Provenance& provenance) {
  ABSL_RETURN_IF_ERROR(state_->file->Finish());
  ABSL_RETURN_IF_ERROR(state_->store->SyncRoot());
  v1::ModelManifest manifest = std::move(state_->manifest);
  const FileDigests::Result digests = state_->digests.Finish();
  manifest.set_digest(digests.file.ToBytes());
  for (const Digest& chunk : digests.chunks) {
    manifest.add_chunk_digests(chunk.ToBytes());
  }
  if (!parent.IsZero()) manifest.set_parent_digest(parent.ToBytes());
  const auto size_bytes = static_cast<int64_t>(state_->file->size_bytes());
  manifest.set_size_bytes(size_bytes);
  *manifest.mutable_provenance() = provenance;
  const dht::MerkleTree tree = dht::TreeOf(state_->leaves.Finish(), size_bytes,
                                           dht::PieceSizeFor(size_bytes));
  state_->content = tree.content;
  const ModelStore& store = *state_->store;
  const JobId& job = manifest.job();
  const int64_t version = manifest.version();
  const absl::Status kept = dht::ContentFile::WriteLeaves(
      store.env_, store.LeavesPathOf(job, version), tree.leaves);
  if (!kept.ok()) {
    store.env_->Remove(store.PathOf(job, version)).IgnoreError();
    return kept;
  }
  return manifest;
}

const v1::Content& ModelStore::Writer::content() const {
  return state_->content;
}

struct ModelStore::StateWriter::State {
  const ModelStore* store;
  StateFile row;  // what is known from the beginning
  Sha256 sha;
  std::unique_ptr<SafetensorsWriter> file;
};

ModelStore::StateWriter::StateWriter(std::unique_ptr<State> state)
    : state_(std::move(state)) {}

ModelStore::StateWriter::~StateWriter() = default;

absl::Status ModelStore::StateWriter::Append(absl::Span<const float> values) {
  return state_->file->Append(values);
}

absl::StatusOr<StateFile> ModelStore::StateWriter::Publish() {
  ABSL_RETURN_IF_ERROR(state_->file->Finish());
  ABSL_RETURN_IF_ERROR(state_->store->SyncRoot());
  state_->row.digest = state_->sha.Finish();
  state_->row.size_bytes = static_cast<int64_t>(state_->file->size_bytes());
  return state_->row;
}

ModelStore::ModelStore(Env* env, std::string root, int64_t chunk_size_bytes)
    : env_(env), root_(std::move(root)), chunk_size_bytes_(chunk_size_bytes) {}

absl::StatusOr<std::unique_ptr<ModelStore::Writer>> ModelStore::NewVersion(
    const JobId& job, int64_t version, const ModelLayout& layout) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  if (chunk_size_bytes_ < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk size of ", chunk_size_bytes_, " bytes, expected at least 1"));
  }
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(DirOf(job)));
  auto state = std::make_unique<Writer::State>(chunk_size_bytes_);
  state->store = this;
  state->manifest.set_job(job);
  state->manifest.set_version(version);
  state->manifest.set_layout_hash(layout.hash().ToBytes());
  state->manifest.set_chunk_size_bytes(chunk_size_bytes_);
  ABSL_ASSIGN_OR_RETURN(
      state->file,
      SafetensorsWriter::Create(
          env_, PathOf(job, version), layout, MetadataOf(job, version),
          [state = state.get()](const void* data, size_t size) {
            state->Hash(data, size);
          }));
  return std::unique_ptr<Writer>(new Writer(std::move(state)));
}

absl::StatusOr<std::unique_ptr<ModelStore::StateWriter>> ModelStore::NewState(
    const JobId& job, int64_t version, const std::string& name,
    const ModelLayout& layout) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  ABSL_RETURN_IF_ERROR(CheckStateName(job, name));
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(DirOf(job)));
  auto state = std::make_unique<StateWriter::State>();
  state->store = this;
  state->row.name = name;
  auto metadata = MetadataOf(job, version);
  metadata["koinon.state"] = name;
  ABSL_ASSIGN_OR_RETURN(
      state->file, SafetensorsWriter::Create(
                       env_, StatePathOf(job, version, name), layout, metadata,
                       [sha = &state->sha](const void* data, size_t size) {
                         sha->Update(data, size);
                       }));
  return std::unique_ptr<StateWriter>(new StateWriter(std::move(state)));
}

absl::StatusOr<ModelStore::Version> ModelStore::Open(
    const v1::ModelManifest& manifest) const {
  ABSL_RETURN_IF_ERROR(CheckVersion(manifest.job(), manifest.version()));
  return OpenFile(PathOf(manifest.job(), manifest.version()),
                  manifest.size_bytes(), manifest.layout_hash());
}

absl::StatusOr<ModelStore::Version> ModelStore::OpenState(
    const JobId& job, int64_t version, const StateFile& file,
    const ModelLayout& layout) const {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  ABSL_RETURN_IF_ERROR(CheckStateName(job, file.name));
  const std::string path = StatePathOf(job, version, file.name);
  ABSL_ASSIGN_OR_RETURN(
      Version state, OpenFile(path, file.size_bytes, layout.hash().ToBytes()));
  ABSL_ASSIGN_OR_RETURN(const Digest digest,
                        DigestOf(*state.file, state.size_bytes));
  if (digest != file.digest) {
    return absl::DataLossError(
        absl::StrCat(path, ": digest ", digest.ToShortHex(),
                     ", the journal says ", file.digest.ToShortHex()));
  }
  return state;
}

absl::StatusOr<ModelStore::Version> ModelStore::OpenFile(
    const std::string& path, int64_t size_bytes,
    absl::string_view layout_hash) const {
  Version version;
  ABSL_ASSIGN_OR_RETURN(version.file, env_->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(version.size_bytes, version.file->Size());
  if (version.size_bytes != static_cast<uint64_t>(size_bytes)) {
    return absl::DataLossError(absl::StrCat(path, ": ", version.size_bytes,
                                            " bytes, the manifest says ",
                                            size_bytes));
  }
  auto header = ReadSafetensorsHeader(env_, path);
  if (!header.ok()) {
    return absl::DataLossError(std::string(header.status().message()));
  }
  if (header->layout.hash().ToBytes() != layout_hash) {
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
  // The file first: hashes without one are found and removed at the next start.
  ABSL_RETURN_IF_ERROR(env_->Remove(PathOf(job, version)));
  ABSL_RETURN_IF_ERROR(RemoveIfThere(LeavesPathOf(job, version)));
  return RemoveDelta(job, version);
}

absl::Status ModelStore::RemoveDelta(const JobId& job, int64_t version) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  ABSL_RETURN_IF_ERROR(RemoveIfThere(DeltaPathOf(job, version)));
  ABSL_RETURN_IF_ERROR(RemoveIfThere(DeltaLeavesPathOf(job, version)));
  return env_->SyncDir(DirOf(job));
}

absl::Status ModelStore::RemoveIfThere(const std::string& path) {
  const absl::Status removed = env_->Remove(path);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

absl::Status ModelStore::RemoveState(const JobId& job, int64_t version,
                                     const std::string& name) {
  ABSL_RETURN_IF_ERROR(CheckVersion(job, version));
  ABSL_RETURN_IF_ERROR(CheckStateName(job, name));
  ABSL_RETURN_IF_ERROR(env_->Remove(StatePathOf(job, version, name)));
  return env_->SyncDir(DirOf(job));
}

absl::StatusOr<std::vector<std::string>> ModelStore::RemoveStrayState(
    const JobId& job, const std::map<int64_t, std::vector<StateFile>>& kept) {
  ABSL_RETURN_IF_ERROR(ValidateId("job name", job));
  std::set<std::string> paths;
  for (const auto& [version, files] : kept) {
    paths.insert(DeltaPathOf(job, version));
    paths.insert(DeltaLeavesPathOf(job, version));
    for (const StateFile& file : files) {
      paths.insert(StatePathOf(job, version, file.name));
    }
  }
  std::vector<std::string> removed;
  if (!env_->Exists(DirOf(job))) return removed;
  ABSL_ASSIGN_OR_RETURN(const auto names, env_->List(DirOf(job)));
  for (absl::string_view name : names) {
    if (absl::ConsumeSuffix(&name, kSuffix)) {
      paths.insert(absl::StrCat(DirOf(job), "/", name, kLeavesSuffix));
    }
  }
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(DirOf(job), "/", name);
    if (!IsOurs(name) || paths.count(path) > 0) continue;
    ABSL_RETURN_IF_ERROR(env_->Remove(path));
    removed.push_back(name);
  }
  if (!removed.empty()) ABSL_RETURN_IF_ERROR(env_->SyncDir(DirOf(job)));
  return removed;
}

// Every name on the way to a file of a job, durable.
absl::Status ModelStore::SyncRoot() const {
  ABSL_RETURN_IF_ERROR(env_->SyncDir(root_));
  return env_->SyncDir(DirectoryOf(root_));
}

std::string ModelStore::DirOf(const JobId& job) const {
  return absl::StrCat(root_, "/", job);
}

std::string ModelStore::PathOf(const JobId& job, int64_t version) const {
  return absl::StrCat(DirOf(job), "/", version, kSuffix);
}

std::string ModelStore::LeavesPathOf(const JobId& job, int64_t version) const {
  return absl::StrCat(DirOf(job), "/", version, kLeavesSuffix);
}

std::string ModelStore::DeltaPathOf(const JobId& job, int64_t version) const {
  return absl::StrCat(DirOf(job), "/", version, kDeltaSuffix);
}

std::string ModelStore::DeltaLeavesPathOf(const JobId& job,
                                          int64_t version) const {
  return absl::StrCat(DirOf(job), "/", version, kDeltaLeavesSuffix);
}

std::string ModelStore::StatePathOf(const JobId& job, int64_t version,
                                    const std::string& name) const {
  return absl::StrCat(DirOf(job), "/", version, ".", name, kSuffix);
}

}  // namespace koinon::coordinator
