#include "dht/swarm/reply_bytes.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "google/protobuf/io/coded_stream.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"

namespace koinon::dht {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

// Of protobuf's encoding: a field's number and how its value is written.
constexpr uint32_t NumberTag(uint32_t field) { return field << 3; }
constexpr uint32_t LengthTag(uint32_t field) { return field << 3 | 2; }

constexpr uint32_t kBlockTag = LengthTag(v1::FetchReply::kBlockFieldNumber);
constexpr uint32_t kDataTag = LengthTag(v1::Block::kDataFieldNumber);
constexpr uint32_t kPieceTag = NumberTag(v1::Block::kPieceFieldNumber);
constexpr uint32_t kOffsetTag = NumberTag(v1::Block::kOffsetFieldNumber);
static_assert(std::max({kBlockTag, kDataTag, kPieceTag, kOffsetTag}) < 0x80);

// What stands before a field of `size` bytes.
std::string Heading(uint32_t tag, size_t size) {
  std::array<uint8_t, 10> bytes;  // two numbers of at most five
  uint8_t* end = CodedOutputStream::WriteVarint32ToArray(tag, bytes.data());
  end =
      CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(size), end);
  return std::string(bytes.data(), end);
}

// A block's data on its way.
struct Sending {
  std::string data;
  std::shared_ptr<SpareBlocks> spare;  // second owner: the stream
};

void OnSent(void* argument) {
  const std::unique_ptr<Sending> sent(static_cast<Sending*>(argument));
  sent->spare->Give(std::move(sent->data));
}

// A block as everybody writes it: its data comes last. False: something else,
// which is not to say that it is wrong.
bool DecodeBlock(grpc::ByteBuffer* bytes, v1::Block* block) {
  grpc::ProtoBufferReader reader(bytes);
  if (!reader.status().ok()) return false;
  CodedInputStream in(&reader);
  const size_t total = bytes->Length();
  const auto rest = [&]() -> uint64_t { return total - in.CurrentPosition(); };
  // Protobuf takes no tag of more than five bytes and no length of more than 32
  // bits; ours have one byte, and all of a length counts.
  uint8_t tag = 0;
  uint64_t number = 0;
  const auto next = [&] {
    return in.ReadRaw(&tag, 1) && in.ReadVarint64(&number);
  };
  if (!next() || tag != kBlockTag || number != rest()) return false;
  while (next()) {
    if (tag == kPieceTag) {
      block->set_piece(static_cast<uint32_t>(number));
    } else if (tag == kOffsetTag) {
      block->set_offset(static_cast<uint32_t>(number));
    } else {
      if (tag != kDataTag || number != rest()) return false;
      block->mutable_data()->resize(number);
      return in.ReadRaw(block->mutable_data()->data(),
                        static_cast<int>(number));
    }
  }
  return false;
}

}  // namespace

grpc::ByteBuffer EncodeReply(v1::FetchReply* reply,
                             const std::shared_ptr<SpareBlocks>& spare) {
  if (!reply->has_block() || reply->block().data().empty()) {
    const grpc::Slice all(reply->SerializeAsString());
    return grpc::ByteBuffer(&all, 1);
  }
  v1::Block* const block = reply->mutable_block();
  auto sending = std::make_unique<Sending>();
  sending->spare = spare;
  sending->data = std::exchange(*block->mutable_data(), "");
  char* const data = sending->data.data();
  const size_t size = sending->data.size();
  const std::string rest = block->SerializeAsString() + Heading(kDataTag, size);
  const std::array<grpc::Slice, 2> slices = {
      grpc::Slice(Heading(kBlockTag, rest.size() + size) + rest),
      grpc::Slice(data, size, OnSent, sending.release())};
  return grpc::ByteBuffer(slices.data(), slices.size());
}

bool DecodeReply(grpc::ByteBuffer* bytes, std::string* spare,
                 v1::FetchReply* reply) {
  if (reply->has_block()) spare->swap(*reply->mutable_block()->mutable_data());
  v1::Block block;
  block.mutable_data()->swap(*spare);
  if (DecodeBlock(bytes, &block)) {
    reply->mutable_block()->Swap(&block);
    return true;
  }
  spare->swap(*block.mutable_data());
  grpc::ProtoBufferReader reader(bytes);
  return reader.status().ok() && reply->ParseFromZeroCopyStream(&reader);
}

}  // namespace koinon::dht
