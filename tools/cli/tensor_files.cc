#include "tools/cli/tensor_files.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon::cli {
namespace {

// Elements of the base read at a time, on the stack: 16 KiB.
constexpr size_t kPiece = 4096;

std::string Describe(const TensorSpec& tensor) {
  return absl::StrCat(tensor.name, " ", std::string(DTypeName(tensor.dtype)),
                      " [", absl::StrJoin(tensor.shape, ", "), "]");
}

std::string DescribeAt(const ModelLayout& layout, size_t i) {
  return i < layout.tensors().size() ? Describe(layout.tensors()[i])
                                     : "no tensor";
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorFile>> TensorFile::Open(
    Env* env, const std::string& path) {
  std::unique_ptr<TensorFile> file(new TensorFile);
  file->path_ = path;
  ABSL_ASSIGN_OR_RETURN(SafetensorsHeader header,
                        ReadSafetensorsHeader(env, path));
  for (const TensorSpec& tensor : header.layout.tensors()) {
    if (tensor.dtype == DType::kF32) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": tensor ", Describe(tensor), ", expected F32"));
  }
  ABSL_ASSIGN_OR_RETURN(file->file_, env->Open(path, Env::OpenMode::kRead));
  file->layout_ = std::move(header.layout);
  file->metadata_ = std::move(header.metadata);
  file->data_offset_bytes_ = header.data_offset_bytes;
  return file;
}

absl::StatusOr<const float*> TensorFile::Read(size_t offset, size_t count,
                                              float* scratch) const {
  ABSL_RETURN_IF_ERROR(
      file_->ReadAt(data_offset_bytes_ + offset * sizeof(float),
                    count * sizeof(float), scratch));
  return scratch;
}

absl::StatusOr<const float*> DifferenceSource::Read(size_t offset, size_t count,
                                                    float* scratch) const {
  ABSL_RETURN_IF_ERROR(model_->Read(offset, count, scratch).status());
  float piece[kPiece];
  for (size_t done = 0; done < count; done += kPiece) {
    const size_t n = std::min(kPiece, count - done);
    ABSL_RETURN_IF_ERROR(base_->Read(offset + done, n, piece).status());
    for (size_t i = 0; i < n; ++i) scratch[done + i] -= piece[i];
  }
  return scratch;
}

absl::Status CheckSameLayout(const TensorFile& file,
                             const ModelLayout& expected,
                             const std::string& expected_path) {
  if (file.layout() == expected) return absl::OkStatus();
  const auto& tensors = file.layout().tensors();
  size_t i = 0;
  while (i < tensors.size() && i < expected.tensors().size() &&
         tensors[i] == expected.tensors()[i]) {
    ++i;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      file.path(), ": tensor ", i + 1, " is ", DescribeAt(file.layout(), i),
      ", in ", expected_path, " it is ", DescribeAt(expected, i)));
}

}  // namespace koinon::cli
