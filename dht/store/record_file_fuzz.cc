#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/digest.h"
#include "dht/store/record_file.h"

// Any file is refused with a reason, or is written again as the same record.
// Each input also with its checksum set right, which no fuzzer finds.
namespace {

void Decode(absl::string_view bytes) {
  const auto file = koinon::dht::DecodeRecordFile(bytes);
  if (!file.ok()) {
    KOINON_CHECK(!file.status().message().empty());
    return;
  }
  // An unknown field may be written elsewhere than it was read.
  const std::string again = koinon::dht::EncodeRecordFile(*file);
  const auto reread = koinon::dht::DecodeRecordFile(again);
  KOINON_CHECK(again.size() > koinon::dht::kMaxRecordFileBytes || reread.ok());
  KOINON_CHECK(!reread.ok() || reread->writer == file->writer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  Decode(bytes);
  if (size < koinon::Digest::kSizeBytes) return 0;
  const absl::string_view content =
      bytes.substr(0, size - koinon::Digest::kSizeBytes);
  Decode(std::string(content) + koinon::Sha256Of(content).ToBytes());
  return 0;
}
