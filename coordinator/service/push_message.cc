#include "coordinator/service/push_message.h"

#include <algorithm>
#include <string>

#include "base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"

namespace koinon::coordinator {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using ChunkReader =
    std::function<absl::Status(uint64_t offset, absl::string_view data)>;

constexpr uint32_t kHeaderTag =
    WireFormatLite::MakeTag(v1::PushUpdateRequest::kHeaderFieldNumber,
                            WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
constexpr uint32_t kChunkTag =
    WireFormatLite::MakeTag(v1::PushUpdateRequest::kChunkFieldNumber,
                            WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
constexpr uint32_t kOffsetTag = WireFormatLite::MakeTag(
    v1::Chunk::kOffsetFieldNumber, WireFormatLite::WIRETYPE_VARINT);
constexpr uint32_t kDataTag = WireFormatLite::MakeTag(
    v1::Chunk::kDataFieldNumber, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);

absl::Status Malformed() {
  return absl::InvalidArgumentError("not a PushUpdateRequest");
}

absl::Status ReadData(CodedInputStream* in, uint32_t length, uint64_t offset,
                      const ChunkReader& chunk) {
  while (length > 0) {
    const void* piece = nullptr;
    int size = 0;
    if (!in->GetDirectBufferPointer(&piece, &size)) return Malformed();
    size = static_cast<int>(std::min<uint32_t>(size, length));
    ABSL_RETURN_IF_ERROR(chunk(
        offset, absl::string_view(static_cast<const char*>(piece), size)));
    if (!in->Skip(size)) return Malformed();
    offset += size;
    length -= size;
  }
  return absl::OkStatus();
}

absl::Status ReadChunk(CodedInputStream* in, const ChunkReader& chunk) {
  uint32_t length = 0;
  if (!in->ReadVarint32(&length)) return Malformed();
  const auto limit = in->PushLimit(static_cast<int>(length));
  uint64_t offset = 0;
  bool seen_data = false;
  while (const uint32_t tag = in->ReadTag()) {
    if (tag == kOffsetTag) {
      if (seen_data) {
        return absl::InvalidArgumentError("a chunk's offset follows its data");
      }
      if (!in->ReadVarint64(&offset)) return Malformed();
    } else if (tag == kDataTag) {
      uint32_t size = 0;
      if (seen_data || !in->ReadVarint32(&size)) return Malformed();
      if (static_cast<int64_t>(size) > in->BytesUntilLimit()) {
        return Malformed();
      }
      seen_data = true;
      ABSL_RETURN_IF_ERROR(ReadData(in, size, offset, chunk));
    } else if (!WireFormatLite::SkipField(in, tag)) {
      return Malformed();
    }
  }
  if (!in->ConsumedEntireMessage() || in->BytesUntilLimit() != 0) {
    return Malformed();
  }
  in->PopLimit(limit);
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadPushMessage(google::protobuf::io::ZeroCopyInputStream* bytes,
                             std::optional<v1::UpdateHeader>* header,
                             const ChunkReader& chunk) {
  CodedInputStream in(bytes);
  while (const uint32_t tag = in.ReadTag()) {
    if (tag == kHeaderTag) {
      std::string serialized;
      uint32_t length = 0;
      if (!in.ReadVarint32(&length) ||
          !in.ReadString(&serialized, static_cast<int>(length)) ||
          !header->emplace().ParseFromString(serialized)) {
        return Malformed();
      }
    } else if (tag == kChunkTag) {
      ABSL_RETURN_IF_ERROR(ReadChunk(&in, chunk));
    } else if (!WireFormatLite::SkipField(&in, tag)) {
      return Malformed();
    }
  }
  if (!in.ConsumedEntireMessage()) return Malformed();
  return absl::OkStatus();
}

}  // namespace koinon::coordinator
