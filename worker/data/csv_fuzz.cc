#include <cmath>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "worker/data/csv.h"

// Any table is refused with a reason, or gives as many finite values as it has
// rows and columns. The first byte chooses how the rest is read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool header = (data[0] & 1) != 0;
  koinon::worker::CsvSource source;
  source.set_header(header);
  source.set_label(header ? "y" : "0");
  source.add_missing("NA");
  if ((data[0] & 2) != 0) {
    source.set_missing_values(koinon::worker::CsvSource::COLUMN_MEAN);
  }
  const absl::string_view file(reinterpret_cast<const char*>(data) + 1,
                               size - 1);
  const auto table =
      koinon::worker::DecodeCsv("fuzz", file, source, "", 1 << 20);
  if (!table.ok()) {
    KOINON_CHECK(!table.status().message().empty());
    return 0;
  }
  KOINON_CHECK(table->features.values.size() ==
               table->labels.size() * table->columns.size());
  for (float value : table->features.values) {
    KOINON_CHECK(std::isfinite(value));
  }
  return 0;
}
