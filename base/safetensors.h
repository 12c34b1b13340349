#ifndef KOINON_BASE_SAFETENSORS_H_
#define KOINON_BASE_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "base/model_layout.h"

namespace koinon {

// The safetensors file format (huggingface.co/docs/safetensors): 8 bytes of
// little-endian header length, a JSON header, the tensors' bytes without gaps.
// Koinon's own rules on top: docs/formats/model.md.

struct SafetensorsHeader {
  // In the order of the data section, so that layout.offset_bytes(i) is the
  // tensor's place in it.
  ModelLayout layout;
  std::map<std::string, std::string> metadata;  // "__metadata__"
  // Where the data section starts in the file: 8 + the header's length.
  size_t data_offset_bytes = 0;
};

// Headers over this are refused before anything is allocated.
inline constexpr size_t kMaxSafetensorsHeaderBytes = 64u << 20;

// Parses a header from the first bytes of a file of `file_size` bytes. `bytes`
// must hold at least the length field and the header. INVALID_ARGUMENT, saying
// which tensor and what was expected: a length over the bound or the file, JSON
// that is none, duplicate names, unknown types, shapes that overflow, offsets
// that overlap, leave gaps, contradict the shape or end elsewhere than the
// file.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    absl::string_view bytes, uint64_t file_size);

// The length field and header, padded with spaces so that the data section
// starts at a multiple of 64 bytes. The same input gives the same bytes.
// Requires metadata in UTF-8; what is not becomes U+FFFD.
std::string EncodeSafetensorsHeader(
    const ModelLayout& layout,
    const std::map<std::string, std::string>& metadata);

// Reads and checks the header of the file at `path`.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(
    Env* env, const std::string& path);

// A whole all-F32 model in memory.
struct Model {
  ModelLayout layout;
  std::vector<float> values;  // [layout.total_elements()]
  std::map<std::string, std::string> metadata;
};

// INVALID_ARGUMENT if a tensor is not F32; RESOURCE_EXHAUSTED over `max_bytes`.
absl::StatusOr<Model> ReadModel(Env* env, const std::string& path,
                                uint64_t max_bytes);
// Atomic and durable, as WriteFileAtomically. INVALID_ARGUMENT if a tensor is
// not F32, the number of values is not the layout's, the metadata is not UTF-8,
// or the header would be over kMaxSafetensorsHeaderBytes.
absl::Status WriteModel(Env* env, const std::string& path, const Model& model);

}  // namespace koinon

#endif  // KOINON_BASE_SAFETENSORS_H_
