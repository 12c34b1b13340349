#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/safetensors.h"

// Any file is refused, or its header means the same once written again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view file(reinterpret_cast<const char*>(data), size);
  const auto header = koinon::ParseSafetensorsHeader(file, size);
  if (!header.ok()) {
    KOINON_CHECK(absl::IsInvalidArgument(header.status()));
    KOINON_CHECK(!header.status().message().empty());
    return 0;
  }
  KOINON_CHECK(header->data_offset_bytes + header->layout.total_bytes() ==
               size);
  const std::string encoded =
      koinon::EncodeSafetensorsHeader(header->layout, header->metadata);
  const auto again = koinon::ParseSafetensorsHeader(
      encoded, encoded.size() + header->layout.total_bytes());
  KOINON_CHECK(again.ok());
  KOINON_CHECK(again->layout == header->layout);
  KOINON_CHECK(again->layout.hash() == header->layout.hash());
  KOINON_CHECK(again->metadata == header->metadata);
  return 0;
}
