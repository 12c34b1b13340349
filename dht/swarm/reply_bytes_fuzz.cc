#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "dht/swarm/reply_bytes.h"
#include "grpcpp/support/slice.h"

namespace {

// As they come from the network: in parts of `part` bytes.
grpc::ByteBuffer InParts(const std::string& bytes, size_t part) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += part) {
    slices.emplace_back(bytes.substr(at, part));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Joined(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  KOINON_CHECK(bytes.Dump(&slices).ok());
  std::string joined;
  for (const grpc::Slice& slice : slices) {
    joined.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return joined;
}

}  // namespace

// The first byte says where the others are cut: what protobuf makes of them,
// and written as protobuf writes it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  koinon::v1::FetchReply expected;
  const bool good = expected.ParseFromString(bytes);
  grpc::ByteBuffer buffer = InParts(bytes, 1 + data[0]);
  koinon::v1::FetchReply found;
  found.mutable_block()->set_data("of an earlier one");
  std::string spare;
  KOINON_CHECK(koinon::dht::DecodeReply(&buffer, &spare, &found) == good);
  if (!good) return 0;
  KOINON_CHECK(found.SerializeAsString() == expected.SerializeAsString());
  found.DiscardUnknownFields();  // nobody sends any
  expected.DiscardUnknownFields();
  const auto blocks = std::make_shared<koinon::dht::SpareBlocks>(1);
  KOINON_CHECK(Joined(koinon::dht::EncodeReply(&found, blocks)) ==
               expected.SerializeAsString());
  return 0;
}
