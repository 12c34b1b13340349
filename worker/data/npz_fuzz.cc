#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "worker/data/npz.h"

// Any archive is refused with a reason, or gives an array within the bound.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr uint64_t kMaxBytes = 1 << 20;
  const absl::string_view file(reinterpret_cast<const char*>(data), size);
  const auto array = koinon::worker::DecodeNpz("fuzz", file, "x", kMaxBytes);
  if (!array.ok()) {
    KOINON_CHECK(!array.status().message().empty());
    return 0;
  }
  KOINON_CHECK(array->values.size() * sizeof(float) <= kMaxBytes);
  return 0;
}
