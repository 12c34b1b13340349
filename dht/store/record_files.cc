#include "dht/store/record_files.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

constexpr absl::string_view kStaged = ".tmp";

absl::Status RemoveIfThere(Env* env, const std::string& path) {
  const absl::Status removed = env->Remove(path);
  return absl::IsNotFound(removed) ? absl::OkStatus() : removed;
}

}  // namespace

std::string RecordFiles::PathOf(const Key& key) const {
  return absl::StrCat(dir_, "/", RecordFileName(key));
}

std::string RecordFiles::StagedPathOf(const Key& key) const {
  return absl::StrCat(PathOf(key), kStaged);
}

absl::StatusOr<std::vector<Key>> RecordFiles::Open() {
  std::vector<Key> keys;
  if (dir_.empty()) return keys;
  ABSL_RETURN_IF_ERROR(env_->MakeDirs(dir_));
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_->List(dir_));
  for (const std::string& name : names) {
    absl::string_view stem = name;
    const bool staged = absl::ConsumeSuffix(&stem, kStaged);
    const std::optional<Key> key = KeyOfRecordFile(stem);
    if (!key.has_value()) {
      LogWarning("not a record's file: left alone",
                 {{"directory", dir_}, {"name", name}});
    } else if (staged) {
      ABSL_RETURN_IF_ERROR(RemoveIfThere(env_, StagedPathOf(*key)));
    } else {
      keys.push_back(*key);
    }
  }
  return keys;
}

absl::StatusOr<RecordFile> RecordFiles::Read(const Key& key) const {
  const std::string path = PathOf(key);
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env_->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > kMaxRecordFileBytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", size, " bytes, too long for a record"));
  }
  std::string bytes(size, '\0');
  ABSL_RETURN_IF_ERROR(file->ReadAt(0, bytes.size(), bytes.data()));
  return DecodeRecordFile(bytes);
}

// Of failures in a row the first: others decide how often they ask.
absl::Status RecordFiles::Note(absl::Status status) {
  const bool failed = std::exchange(failing_, !status.ok());
  if (failed == failing_) return status;
  if (failing_) {
    LogError("records cannot be written: no new ones are taken until they can",
             {{"error", status}});
  } else {
    LogInfo("records can be written again", {{"directory", dir_}});
  }
  return status;
}

absl::Status RecordFiles::WriteStaged(const Key& key, const RecordFile& file) {
  const std::string bytes = EncodeRecordFile(file);
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> staged,
                        env_->Open(StagedPathOf(key), Env::OpenMode::kCreate));
  return staged->WriteAt(0, bytes.data(), bytes.size());
}

absl::Status RecordFiles::Stage(const Key& key, const RecordFile& file) {
  if (dir_.empty()) return absl::OkStatus();
  absl::Status written = WriteStaged(key, file);
  if (written.ok()) return written;  // it is to be committed yet
  Discard(key);
  return Note(std::move(written));
}

absl::Status RecordFiles::Commit(const Key& key) {
  if (dir_.empty()) return absl::OkStatus();
  absl::Status renamed = Note(env_->Rename(StagedPathOf(key), PathOf(key)));
  if (!renamed.ok()) Discard(key);
  return renamed;
}

void RecordFiles::Discard(const Key& key) {
  if (!dir_.empty()) env_->Remove(StagedPathOf(key)).IgnoreError();
}

absl::Status RecordFiles::Remove(const Key& key) {
  return dir_.empty() ? absl::OkStatus() : RemoveIfThere(env_, PathOf(key));
}

}  // namespace koinon::dht
