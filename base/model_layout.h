#ifndef KOINON_BASE_MODEL_LAYOUT_H_
#define KOINON_BASE_MODEL_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"

namespace koinon {

// Element types, named as safetensors names them.
enum class DType { kF64, kF32, kF16, kBF16, kI64, kI32, kI16, kI8, kU8, kBool };

absl::string_view DTypeName(DType dtype);  // "F32"
absl::StatusOr<DType> DTypeFromName(
    absl::string_view name);  // INVALID_ARGUMENT
size_t DTypeSizeBytes(DType dtype);

// One named tensor. `offset` and `size` count bytes in the model's flat data.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // row-major; [] is a scalar; every extent >= 0

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

// What a model looks like: its tensors' names, types and shapes, and where each
// lies in one flat run of bytes. Two models can be averaged if and only if
// their layouts' hashes are equal.
//
// Tensors are kept in the given order and packed without gaps. A value,
// immutable after Create; thread-safe.
class ModelLayout {
 public:
  ModelLayout();  // no tensors

  // INVALID_ARGUMENT, naming the tensor: empty or duplicate name, name over
  // 256 bytes, not in UTF-8 or with control characters, negative extent, more
  // than kMaxTensors tensors, rank over kMaxRank, or a size that overflows
  // int64_t.
  static absl::StatusOr<ModelLayout> Create(std::vector<TensorSpec> tensors);

  static constexpr size_t kMaxTensors = 100'000;
  static constexpr size_t kMaxRank = 8;

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  // Of tensor i: the first byte, the length in bytes, and in elements.
  size_t offset_bytes(size_t i) const { return offsets_[i]; }
  size_t size_bytes(size_t i) const { return offsets_[i + 1] - offsets_[i]; }
  size_t element_count(size_t i) const;
  // Of the whole model.
  size_t total_bytes() const { return offsets_.back(); }
  size_t total_elements() const;

  // True if every tensor is F32, as training and aggregation require.
  bool AllF32() const;
  // For a flat element index of an all-F32 model: "fc1.weight[17]".
  std::string DescribeElement(size_t flat_index) const;
  // SHA-256 over names, types and shapes: the identity of "same shape".
  const Digest& hash() const { return hash_; }

  friend bool operator==(const ModelLayout& a, const ModelLayout& b) {
    return a.tensors_ == b.tensors_;
  }

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<size_t> offsets_;  // tensors_.size() + 1 entries, from 0
  Digest hash_;
};

}  // namespace koinon

#endif  // KOINON_BASE_MODEL_LAYOUT_H_
