#ifndef KOINON_COORDINATOR_SERVICE_PUSH_MESSAGE_H_
#define KOINON_COORDINATOR_SERVICE_PUSH_MESSAGE_H_

#include <functional>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/io/zero_copy_stream.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// A serialised PushUpdateRequest read without copying its chunk's data: `chunk`
// gets the data in pieces, each with its own offset, as they lie in the
// received buffers. A header is parsed into `header`. INVALID_ARGUMENT for
// bytes that are no such message, or in which the chunk's offset follows its
// data; otherwise the first error of `chunk`.
absl::Status ReadPushMessage(
    google::protobuf::io::ZeroCopyInputStream* bytes,
    std::optional<v1::UpdateHeader>* header,
    const std::function<absl::Status(uint64_t offset, absl::string_view data)>&
        chunk);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_PUSH_MESSAGE_H_
