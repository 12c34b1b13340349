#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "worker/data/npy.h"

// Any file is refused with a reason, or gives as many values as its shape says.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view file(reinterpret_cast<const char*>(data), size);
  const auto array = koinon::worker::DecodeNpy("fuzz", file, 1 << 20);
  if (!array.ok()) {
    KOINON_CHECK(!array.status().message().empty());
    return 0;
  }
  int64_t count = 1;
  for (int64_t extent : array->shape) count *= extent;
  KOINON_CHECK(array->values.size() == static_cast<size_t>(count));
  KOINON_CHECK(array->values.size() <= size);
  return 0;
}
