#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "dht/swarm/bitmap.h"

// The first two bytes are the size, the rest the bitmap: refused with a reason,
// or written back as the same bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t pieces = data[0] | data[1] << 8;
  const absl::string_view bytes(reinterpret_cast<const char*>(data) + 2,
                                size - 2);
  const auto bitmap = koinon::dht::Bitmap::FromBytes(bytes, pieces);
  if (!bitmap.ok()) {
    KOINON_CHECK(!bitmap.status().message().empty());
    return 0;
  }
  KOINON_CHECK(bitmap->ToBytes() == std::string(bytes));
  size_t count = 0;
  for (size_t i = 0; i < pieces; ++i) count += bitmap->Has(i);
  KOINON_CHECK(count == bitmap->count());
  return 0;
}
