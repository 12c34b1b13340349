#include "base/safetensors_writer.h"

#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon {

static_assert(std::endian::native == std::endian::little,
              "values are written as they lie in memory");

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    Env* env, std::string path, const ModelLayout& layout,
    const std::map<std::string, std::string>& metadata, Tap tap) {
  if (!layout.AllF32()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the model has tensors that are not F32"));
  }
  const std::string header = EncodeSafetensorsHeader(layout, metadata);
  // From here on the destructor clears up.
  std::unique_ptr<SafetensorsWriter> writer(new SafetensorsWriter(
      env, std::move(path), layout.total_elements(), std::move(tap)));
  ABSL_ASSIGN_OR_RETURN(writer->file_, env->Open(writer->TemporaryPath(),
                                                 Env::OpenMode::kCreate));
  ABSL_RETURN_IF_ERROR(
      writer->file_->Resize(header.size() + layout.total_bytes()));
  ABSL_RETURN_IF_ERROR(writer->Write(header.data(), header.size()));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(Env* env, std::string path,
                                     size_t elements, Tap tap)
    : env_(env),
      path_(std::move(path)),
      tap_(std::move(tap)),
      elements_left_(elements) {}

SafetensorsWriter::~SafetensorsWriter() {
  file_.reset();
  // What cannot be removed now, the next writer of this path truncates.
  if (!moved_) env_->Remove(TemporaryPath()).IgnoreError();
}

absl::Status SafetensorsWriter::Append(absl::Span<const float> values) {
  ABSL_RETURN_IF_ERROR(CheckUsable());
  if (values.size() > elements_left_) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", values.size(), " elements, ", elements_left_,
                     " are left"));
  }
  const absl::Status written =
      Write(values.data(), values.size() * sizeof(float));
  if (!written.ok()) {
    usable_ = false;
    return written;
  }
  elements_left_ -= values.size();
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  ABSL_RETURN_IF_ERROR(CheckUsable());
  if (elements_left_ > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", elements_left_, " elements are missing"));
  }
  usable_ = false;
  return MoveIntoPlace();
}

absl::Status SafetensorsWriter::Write(const void* data, size_t size) {
  ABSL_RETURN_IF_ERROR(file_->WriteAt(size_bytes_, data, size));
  if (tap_) tap_(data, size);
  size_bytes_ += size;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::MoveIntoPlace() {
  ABSL_RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  ABSL_RETURN_IF_ERROR(env_->Rename(TemporaryPath(), path_));
  moved_ = true;
  return env_->SyncDir(DirectoryOf(path_));
}

// A part may be written after a failure.
absl::Status SafetensorsWriter::CheckUsable() const {
  if (usable_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path_, ": the writer has failed or has written its file"));
}

}  // namespace koinon
