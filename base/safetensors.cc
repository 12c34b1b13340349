#include "base/safetensors.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/safetensors_json.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace koinon {
namespace {

// Tensors' bytes are copied as they are; the format is little-endian.
static_assert(std::endian::native == std::endian::little);

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignmentBytes = 64;

uint64_t DecodeLength(absl::string_view bytes) {
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  }
  return length;
}

// The header's length, from the first eight bytes of a file of `file_size`.
absl::StatusOr<size_t> CheckedHeaderLength(absl::string_view bytes,
                                           uint64_t file_size) {
  if (bytes.size() < kLengthBytes || file_size < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a safetensors file has at least 8 bytes, found ", file_size));
  }
  const uint64_t length = DecodeLength(bytes);
  if (length > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header claims ", length, " bytes, at most ",
                     kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  if (length > file_size - kLengthBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header claims ", length, " bytes, the file has ",
                     file_size - kLengthBytes, " after the length"));
  }
  return static_cast<size_t>(length);
}

// By place. Where several start at one byte all but the last are empty: those
// go by name.
void SortByPlace(std::vector<SafetensorsEntry>* entries) {
  std::sort(entries->begin(), entries->end(),
            [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
              return std::tie(a.begin_bytes, a.end_bytes, a.spec.name) <
                     std::tie(b.begin_bytes, b.end_bytes, b.spec.name);
            });
}

// The layout packs tensors without gaps: each must lie where it puts it.
absl::Status CheckPlaces(const std::vector<SafetensorsEntry>& entries,
                         const ModelLayout& layout, uint64_t data_bytes) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const SafetensorsEntry& entry = entries[i];
    const uint64_t begin = layout.offset_bytes(i);
    const uint64_t end = begin + layout.size_bytes(i);
    if (entry.begin_bytes != begin || entry.end_bytes != end) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tensor '", entry.spec.name, "' of ", DTypeName(entry.spec.dtype),
          " [", absl::StrJoin(entry.spec.shape, ","), "]: expected bytes ",
          begin, " to ", end, ", found ", entry.begin_bytes, " to ",
          entry.end_bytes, " (overlap, gap or wrong shape)"));
    }
  }
  if (layout.total_bytes() != data_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the tensors take ", layout.total_bytes(), " bytes, the file holds ",
        data_bytes, " after the header"));
  }
  return absl::OkStatus();
}

std::string JsonString(absl::string_view text) {
  return nlohmann::json(std::string(text))
      .dump(-1, ' ', /*ensure_ascii=*/false,
            nlohmann::json::error_handler_t::replace);
}

std::string JsonMetadata(const std::map<std::string, std::string>& metadata) {
  return absl::StrCat("\"__metadata__\":{",
                      absl::StrJoin(metadata, ",",
                                    [](std::string* out, const auto& entry) {
                                      absl::StrAppend(
                                          out, JsonString(entry.first), ":",
                                          JsonString(entry.second));
                                    }),
                      "}");
}

std::string JsonTensor(const ModelLayout& layout, size_t i) {
  const TensorSpec& tensor = layout.tensors()[i];
  const size_t begin = layout.offset_bytes(i);
  return absl::StrCat(JsonString(tensor.name), ":{\"dtype\":\"",
                      DTypeName(tensor.dtype), "\",\"shape\":[",
                      absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                      begin, ",", begin + layout.size_bytes(i), "]}");
}

absl::Status AtPath(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

absl::Status CheckAllF32(const ModelLayout& layout) {
  for (const TensorSpec& tensor : layout.tensors()) {
    if (tensor.dtype != DType::kF32) {
      return absl::InvalidArgumentError(
          absl::StrCat("expected F32 tensors only, tensor '", tensor.name,
                       "' is ", DTypeName(tensor.dtype)));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckWritable(const Model& model) {
  ABSL_RETURN_IF_ERROR(CheckAllF32(model.layout));
  if (model.values.size() != model.layout.total_elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model's layout has ", model.layout.total_elements(),
                     " values, found ", model.values.size()));
  }
  for (const auto& [key, value] : model.metadata) {
    if (!IsValidUtf8(key) || !IsValidUtf8(value)) {
      return absl::InvalidArgumentError("the model's metadata is not UTF-8");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<SafetensorsHeader> ReadHeaderFrom(const File& file,
                                                 const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const uint64_t file_size, file.Size());
  std::string bytes(std::min<uint64_t>(kLengthBytes, file_size), '\0');
  ABSL_RETURN_IF_ERROR(file.ReadAt(0, bytes.size(), bytes.data()));
  const absl::StatusOr<size_t> length = CheckedHeaderLength(bytes, file_size);
  if (!length.ok()) return AtPath(path, length.status());
  bytes.resize(kLengthBytes + *length);
  ABSL_RETURN_IF_ERROR(file.ReadAt(0, bytes.size(), bytes.data()));
  absl::StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(bytes, file_size);
  if (!header.ok()) return AtPath(path, header.status());
  return header;
}

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view bytes, uint64_t file_size) {
  ABSL_ASSIGN_OR_RETURN(const size_t length,
                        CheckedHeaderLength(bytes, file_size));
  if (bytes.size() - kLengthBytes < length) {
    return absl::InvalidArgumentError(
        absl::StrCat("the header claims ", length, " bytes, found ",
                     bytes.size() - kLengthBytes));
  }
  ABSL_ASSIGN_OR_RETURN(SafetensorsJson json, ParseSafetensorsJson(bytes.substr(
                                                  kLengthBytes, length)));
  SortByPlace(&json.entries);
  std::vector<TensorSpec> tensors;
  tensors.reserve(json.entries.size());
  for (const SafetensorsEntry& entry : json.entries) {
    tensors.push_back(entry.spec);
  }
  SafetensorsHeader header;
  ABSL_ASSIGN_OR_RETURN(header.layout, ModelLayout::Create(std::move(tensors)));
  header.data_offset_bytes = kLengthBytes + length;
  ABSL_RETURN_IF_ERROR(CheckPlaces(json.entries, header.layout,
                                   file_size - header.data_offset_bytes));
  header.metadata = std::move(json.metadata);
  return header;
}

std::string EncodeSafetensorsHeader(
    const ModelLayout& layout,
    const std::map<std::string, std::string>& metadata) {
  std::vector<std::string> members;
  if (!metadata.empty()) members.push_back(JsonMetadata(metadata));
  for (size_t i = 0; i < layout.tensors().size(); ++i) {
    members.push_back(JsonTensor(layout, i));
  }
  std::string bytes = absl::StrCat(std::string(kLengthBytes, '\0'), "{",
                                   absl::StrJoin(members, ","), "}");
  const size_t padded =
      (bytes.size() + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes;
  bytes.resize(padded, ' ');
  for (size_t i = 0; i < kLengthBytes; ++i) {
    bytes[i] = static_cast<char>((padded - kLengthBytes) >> (8 * i) & 0xff);
  }
  return bytes;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(
    Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  return ReadHeaderFrom(*file, path);
}

absl::StatusOr<Model> ReadModel(Env* env, const std::string& path,
                                uint64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(SafetensorsHeader header, ReadHeaderFrom(*file, path));
  const absl::Status all_f32 = CheckAllF32(header.layout);
  if (!all_f32.ok()) return AtPath(path, all_f32);
  const size_t size_bytes = header.layout.total_bytes();
  if (size_bytes > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, ": the model has ", size_bytes, " bytes, at most ",
                     max_bytes, " are allowed"));
  }
  Model model;
  model.values.resize(header.layout.total_elements());
  ABSL_RETURN_IF_ERROR(
      file->ReadAt(header.data_offset_bytes, size_bytes, model.values.data()));
  model.layout = std::move(header.layout);
  model.metadata = std::move(header.metadata);
  return model;
}

absl::Status WriteModel(Env* env, const std::string& path, const Model& model) {
  const absl::Status writable = CheckWritable(model);
  if (!writable.ok()) return AtPath(path, writable);
  const std::string header =
      EncodeSafetensorsHeader(model.layout, model.metadata);
  if (header.size() - kLengthBytes > kMaxSafetensorsHeaderBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": the header would have ", header.size(), " bytes, at most ",
        kMaxSafetensorsHeaderBytes, " are allowed"));
  }
  const absl::string_view data(
      reinterpret_cast<const char*>(model.values.data()),
      model.values.size() * sizeof(float));
  return WritePiecesAtomically(env, path, {header, data});
}

}  // namespace koinon
