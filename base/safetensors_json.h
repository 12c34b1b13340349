#ifndef KOINON_BASE_SAFETENSORS_JSON_H_
#define KOINON_BASE_SAFETENSORS_JSON_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/model_layout.h"

namespace koinon {

// What the JSON of a safetensors header says, before anything is compared with
// anything. An inner part of base/safetensors.h.
struct SafetensorsEntry {
  TensorSpec spec;
  uint64_t begin_bytes = 0;  // in the data section
  uint64_t end_bytes = 0;
};
struct SafetensorsJson {
  std::vector<SafetensorsEntry> entries;  // in the order of the text
  std::map<std::string, std::string> metadata;
};

// INVALID_ARGUMENT, naming the tensor, for anything but one JSON object of the
// format's shape, with each name and each field once. Bounded: more tensors or
// a higher rank than a ModelLayout takes end the reading at once, and nesting
// takes no stack.
absl::StatusOr<SafetensorsJson> ParseSafetensorsJson(absl::string_view text);

}  // namespace koinon

#endif  // KOINON_BASE_SAFETENSORS_JSON_H_
