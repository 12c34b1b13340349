#include "worker/store/update_store.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/session/actions.h"
#include "worker/store/file_digest.h"

namespace koinon::worker {
namespace {

constexpr char kUpdate[] = ".update";
constexpr char kHeader[] = ".header";
constexpr char kStaged[] = ".update.tmp";
constexpr size_t kMaxHeaderBytes = 64 << 10;

// Removing what is not there is no failure.
absl::Status RemoveIfThere(Env* env, const std::string& path) {
  const absl::Status status = env->Remove(path);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UpdateStore>> UpdateStore::Open(
    Env* env, const std::string& dir, Options options) {
  ABSL_RETURN_IF_ERROR(env->MakeDirs(dir));
  ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(dir)));
  std::unique_ptr<UpdateStore> store(new UpdateStore(env, dir, options));
  ABSL_RETURN_IF_ERROR(store->Recover());
  return store;
}

std::string UpdateStore::PathOf(const TaskId& task, const char* suffix) const {
  return absl::StrCat(dir_, "/", task.job, ".", task.round, suffix);
}

absl::Status UpdateStore::Recover() {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> entries,
                        env_->List(dir_));
  MutexLock lock(&mutex_);
  for (const std::string& entry : entries) {
    if (!absl::EndsWith(entry, kHeader)) continue;
    absl::StatusOr<v1::UpdateHeader> header = ReadHeld(entry);
    if (header.ok()) {
      const TaskId task = *TaskIdFromRef(header->task());
      held_[task] = *std::move(header);
      continue;
    }
    LogWarning("a kept update cannot be used and is dropped",
               {{"file", entry}, {"reason", header.status()}});
    ABSL_RETURN_IF_ERROR(env_->Remove(absl::StrCat(dir_, "/", entry)));
  }
  for (const std::string& entry : entries) {
    const std::string path = absl::StrCat(dir_, "/", entry);
    bool orphan = absl::EndsWith(entry, ".tmp");
    if (absl::EndsWith(entry, kUpdate)) {
      orphan = !env_->Exists(
          absl::StrCat(absl::StripSuffix(path, kUpdate), kHeader));
    }
    if (orphan) ABSL_RETURN_IF_ERROR(RemoveIfThere(env_, path));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::UpdateHeader> UpdateStore::ReadHeld(
    const std::string& entry) const {
  const std::string path = absl::StrCat(dir_, "/", entry);
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(env_, path, kMaxHeaderBytes));
  v1::UpdateHeader header;
  if (!header.ParseFromString(bytes)) {
    return absl::DataLossError(absl::StrCat(path, ": not an UpdateHeader"));
  }
  ABSL_ASSIGN_OR_RETURN(const TaskId task, TaskIdFromRef(header.task()));
  if (header.worker() != options_.worker) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is an update of worker ", header.worker(),
                     ", this is ", options_.worker));
  }
  if (PathOf(task, kHeader) != path) {
    return absl::DataLossError(
        absl::StrCat(path, ": is the header of ", task.ToString()));
  }
  ABSL_ASSIGN_OR_RETURN(
      const std::unique_ptr<File> file,
      env_->Open(PathOf(task, kUpdate), Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size != static_cast<uint64_t>(header.size_bytes())) {
    return absl::DataLossError(absl::StrCat(
        path, ": says ", header.size_bytes(), " bytes, the update has ", size));
  }
  return header;
}

std::vector<v1::UpdateHeader> UpdateStore::held() const {
  MutexLock lock(&mutex_);
  std::vector<v1::UpdateHeader> headers;
  for (const auto& [task, header] : held_) headers.push_back(header);
  return headers;
}

std::string UpdateStore::StagingPath(const TaskId& task) const {
  return PathOf(task, kStaged);
}

absl::StatusOr<v1::UpdateHeader> UpdateStore::Keep(const v1::OfferTask& offer,
                                                   const v1::Metrics& metrics) {
  ABSL_ASSIGN_OR_RETURN(const TaskId task, TaskIdFromRef(offer.task()));
  absl::StatusOr<v1::UpdateHeader> header = KeepStaged(task, offer, metrics);
  if (!header.ok()) {
    DiscardStaged(task);
    return header;
  }
  MutexLock lock(&mutex_);
  held_[task] = *header;
  return header;
}

absl::StatusOr<v1::UpdateHeader> UpdateStore::KeepStaged(
    const TaskId& task, const v1::OfferTask& offer,
    const v1::Metrics& metrics) {
  absl::StatusOr<std::unique_ptr<File>> file =
      env_->Open(StagingPath(task), Env::OpenMode::kReadWrite);
  if (!file.ok()) {
    return absl::InternalError(
        absl::StrCat("training left no update: ", file.status().message()));
  }
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, (*file)->Size());
  if (size == 0 || size % sizeof(float) != 0) {
    return absl::InternalError(absl::StrCat(
        "training left an update of ", size,
        " bytes, expected a positive multiple of ", sizeof(float)));
  }
  ABSL_RETURN_IF_ERROR(CheckBounds(task, size));
  ABSL_ASSIGN_OR_RETURN(const Digest digest, DigestOfFile(**file, size));
  ABSL_RETURN_IF_ERROR((*file)->Sync());
  // An old header must not speak for new bytes, not even after a crash.
  const std::string header_path = PathOf(task, kHeader);
  if (env_->Exists(header_path)) {
    ABSL_RETURN_IF_ERROR(env_->Remove(header_path));
    ABSL_RETURN_IF_ERROR(env_->SyncDir(dir_));
  }
  ABSL_RETURN_IF_ERROR(env_->Rename(StagingPath(task), PathOf(task, kUpdate)));
  v1::UpdateHeader header;
  *header.mutable_task() = offer.task();
  header.set_worker(options_.worker);
  header.set_base_version(offer.base_version());
  header.set_base_digest(offer.base_digest());
  header.set_layout_hash(offer.layout_hash());
  header.set_size_bytes(static_cast<int64_t>(size));
  header.set_digest(digest.ToBytes());
  *header.mutable_metrics() = metrics;
  const absl::Status written =
      WriteFileAtomically(env_, header_path, header.SerializeAsString());
  if (!written.ok()) {
    (void)env_->Remove(PathOf(task, kUpdate));  // else the next start does it
    return written;
  }
  return header;
}

absl::Status UpdateStore::CheckBounds(const TaskId& task, uint64_t size) const {
  MutexLock lock(&mutex_);
  size_t count = 1;
  uint64_t bytes = size;
  for (const auto& [other, header] : held_) {
    if (other == task) continue;  // is replaced
    ++count;
    bytes += static_cast<uint64_t>(header.size_bytes());
  }
  if (count > options_.max_updates) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "update store: the bound is ", options_.max_updates, " updates, with ",
        task.ToString(), " it would hold ", count));
  }
  if (bytes > options_.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "update store: the bound is ", options_.max_bytes, " bytes, with ",
        task.ToString(), " it would hold ", bytes));
  }
  return absl::OkStatus();
}

void UpdateStore::DiscardStaged(const TaskId& task) {
  const absl::Status status = RemoveIfThere(env_, StagingPath(task));
  if (!status.ok()) {
    LogWarning("cannot remove an unfinished update", {{"reason", status}});
  }
}

absl::StatusOr<std::unique_ptr<File>> UpdateStore::OpenUpdate(
    const TaskId& task) const {
  return env_->Open(PathOf(task, kUpdate), Env::OpenMode::kRead);
}

absl::Status UpdateStore::Forget(const TaskId& task) {
  {
    MutexLock lock(&mutex_);
    held_.erase(task);
  }
  // The header first: without it the update is an orphan.
  ABSL_RETURN_IF_ERROR(RemoveIfThere(env_, PathOf(task, kHeader)));
  return RemoveIfThere(env_, PathOf(task, kUpdate));
}

}  // namespace koinon::worker
