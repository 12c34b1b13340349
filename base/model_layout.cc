#include "base/model_layout.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/check.h"
#include "base/hash_text.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace koinon {
namespace {

struct DTypeInfo {
  DType dtype;
  absl::string_view name;
  size_t size_bytes;
};

// In the order of the enum.
constexpr DTypeInfo kDTypes[] = {
    {DType::kF64, "F64", 8},   {DType::kF32, "F32", 4}, {DType::kF16, "F16", 2},
    {DType::kBF16, "BF16", 2}, {DType::kI64, "I64", 8}, {DType::kI32, "I32", 4},
    {DType::kI16, "I16", 2},   {DType::kI8, "I8", 1},   {DType::kU8, "U8", 1},
    {DType::kBool, "BOOL", 1},
};

const DTypeInfo& InfoOf(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  KOINON_CHECK(index < std::size(kDTypes) && kDTypes[index].dtype == dtype);
  return kDTypes[index];
}

constexpr size_t kMaxNameBytes = 256;

absl::Status TensorError(const TensorSpec& tensor, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(
      "tensor '", absl::CHexEscape(tensor.name.substr(0, kMaxNameBytes)), "' ",
      what));
}

absl::Status ValidateName(const TensorSpec& tensor) {
  absl::string_view rest = tensor.name;
  if (rest.empty()) {
    return absl::InvalidArgumentError("a tensor has an empty name");
  }
  if (rest.size() > kMaxNameBytes) {
    return TensorError(
        tensor, absl::StrCat("has a name of ", rest.size(), " bytes, at most ",
                             kMaxNameBytes, " are allowed"));
  }
  if (rest == "__metadata__") {
    return TensorError(tensor, "has the name that files keep for metadata");
  }
  while (!rest.empty()) {
    const std::optional<Utf8Char> c = FirstUtf8Char(rest);
    if (!c.has_value()) return TensorError(tensor, "has a name not in UTF-8");
    if (IsControl(c->code_point)) {
      return TensorError(tensor, "has a control character in its name");
    }
    rest.remove_prefix(c->size_bytes);
  }
  return absl::OkStatus();
}

// The tensor's length in bytes. Extents of zero are left out of the check for
// overflow, so that the order of the extents does not matter.
absl::StatusOr<int64_t> SizeBytesOf(const TensorSpec& tensor) {
  if (tensor.shape.size() > ModelLayout::kMaxRank) {
    return TensorError(
        tensor, absl::StrCat("has rank ", tensor.shape.size(), ", at most ",
                             ModelLayout::kMaxRank, " is allowed"));
  }
  int64_t size = static_cast<int64_t>(DTypeSizeBytes(tensor.dtype));
  bool is_empty = false;
  for (const int64_t extent : tensor.shape) {
    if (extent < 0) {
      return TensorError(tensor,
                         absl::StrCat("has the negative extent ", extent));
    }
    if (extent == 0) {
      is_empty = true;
    } else if (__builtin_mul_overflow(size, extent, &size)) {
      return TensorError(
          tensor, absl::StrCat("of shape [", absl::StrJoin(tensor.shape, ","),
                               "] has a size over 2^63 bytes"));
    }
  }
  return is_empty ? 0 : size;
}

// Every part has its length before it, so that no two layouts give the same
// bytes.
Digest HashOf(const std::vector<TensorSpec>& tensors) {
  Sha256 sha;
  HashText("koinon model layout 1", &sha);
  HashInteger(tensors.size(), &sha);
  for (const TensorSpec& tensor : tensors) {
    HashText(tensor.name, &sha);
    HashText(DTypeName(tensor.dtype), &sha);
    HashInteger(tensor.shape.size(), &sha);
    for (const int64_t extent : tensor.shape) HashInteger(extent, &sha);
  }
  return sha.Finish();
}

}  // namespace

absl::string_view DTypeName(DType dtype) { return InfoOf(dtype).name; }

size_t DTypeSizeBytes(DType dtype) { return InfoOf(dtype).size_bytes; }

absl::StatusOr<DType> DTypeFromName(absl::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == name) return info.dtype;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown element type '", absl::CHexEscape(name.substr(0, 32)),
      "'; known are ",
      absl::StrJoin(kDTypes, ", ", [](std::string* out, const DTypeInfo& info) {
        absl::StrAppend(out, info.name);
      })));
}

ModelLayout::ModelLayout() : offsets_{0}, hash_(HashOf({})) {}

absl::StatusOr<ModelLayout> ModelLayout::Create(
    std::vector<TensorSpec> tensors) {
  if (tensors.size() > kMaxTensors) {
    return absl::InvalidArgumentError(
        absl::StrCat("a model of ", tensors.size(), " tensors, at most ",
                     kMaxTensors, " are allowed"));
  }
  ModelLayout layout;
  layout.offsets_.reserve(tensors.size() + 1);
  absl::flat_hash_set<absl::string_view> names;
  int64_t end = 0;
  for (const TensorSpec& tensor : tensors) {
    ABSL_RETURN_IF_ERROR(ValidateName(tensor));
    if (!names.insert(tensor.name).second) {
      return TensorError(tensor, "appears twice");
    }
    ABSL_ASSIGN_OR_RETURN(const int64_t size, SizeBytesOf(tensor));
    if (__builtin_add_overflow(end, size, &end)) {
      return TensorError(tensor, "makes the model larger than 2^63 bytes");
    }
    layout.offsets_.push_back(static_cast<size_t>(end));
  }
  layout.hash_ = HashOf(tensors);
  layout.tensors_ = std::move(tensors);
  return layout;
}

size_t ModelLayout::element_count(size_t i) const {
  return size_bytes(i) / DTypeSizeBytes(tensors_[i].dtype);
}

size_t ModelLayout::total_elements() const {
  size_t count = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) count += element_count(i);
  return count;
}

bool ModelLayout::AllF32() const {
  return std::all_of(tensors_.begin(), tensors_.end(), [](const TensorSpec& t) {
    return t.dtype == DType::kF32;
  });
}

std::string ModelLayout::DescribeElement(size_t flat_index) const {
  if (flat_index >= total_bytes() / sizeof(float)) {
    return absl::StrCat("element ", flat_index, ", past the model's end");
  }
  // The last tensor that starts at or before the element; those of no elements
  // that start at the same place come before it.
  const size_t byte = flat_index * sizeof(float);
  const auto after =
      std::upper_bound(offsets_.begin(), std::prev(offsets_.end()), byte);
  const size_t i = static_cast<size_t>(after - offsets_.begin()) - 1;
  return absl::StrCat(tensors_[i].name, "[",
                      (byte - offsets_[i]) / sizeof(float), "]");
}

}  // namespace koinon
