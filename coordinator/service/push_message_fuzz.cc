#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/check.h"
#include "coordinator/service/push_message.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

// Any bytes are refused with a reason, or give chunk data no longer than they
// are. The first byte says how many bytes lie together.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  google::protobuf::io::ArrayInputStream stream(
      data + 1, static_cast<int>(size) - 1, std::max<int>(1, data[0]));
  std::optional<koinon::v1::UpdateHeader> header;
  size_t total = 0;
  const absl::Status status = koinon::coordinator::ReadPushMessage(
      &stream, &header, [&total](uint64_t, absl::string_view piece) {
        total += piece.size();
        return absl::OkStatus();
      });
  KOINON_CHECK(total <= size);
  KOINON_CHECK(status.ok() || !status.message().empty());
  return 0;
}
