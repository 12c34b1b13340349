#ifndef KOINON_TOOLS_CLI_TENSOR_FILES_H_
#define KOINON_TOOLS_CLI_TENSOR_FILES_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "aggregation/core/update_set.h"
#include "base/env.h"
#include "base/model_layout.h"

namespace koinon::cli {

// An open safetensors file of F32 tensors, read block by block. Thread-safe.
class TensorFile final : public aggregation::UpdateSource {
 public:
  // INVALID_ARGUMENT that starts with the path: no safetensors file, or a
  // tensor that is not F32, by name.
  static absl::StatusOr<std::unique_ptr<TensorFile>> Open(
      Env* env, const std::string& path);

  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;

  const std::string& path() const { return path_; }
  const ModelLayout& layout() const { return layout_; }
  const std::map<std::string, std::string>& metadata() const {
    return metadata_;
  }

 private:
  TensorFile() = default;

  std::string path_;
  std::unique_ptr<File> file_;
  ModelLayout layout_;
  std::map<std::string, std::string> metadata_;
  size_t data_offset_bytes_ = 0;
};

// A model minus another: an update. Thread-safe.
class DifferenceSource final : public aggregation::UpdateSource {
 public:
  // `base` must outlive the source.
  DifferenceSource(std::unique_ptr<TensorFile> model, const TensorFile* base)
      : model_(std::move(model)), base_(base) {}
  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override;

 private:
  const std::unique_ptr<TensorFile> model_;
  const TensorFile* const base_;
};

// INVALID_ARGUMENT that names the first tensor in which `file` differs from
// `expected` (of the file `expected_path`).
absl::Status CheckSameLayout(const TensorFile& file,
                             const ModelLayout& expected,
                             const std::string& expected_path);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_TENSOR_FILES_H_
