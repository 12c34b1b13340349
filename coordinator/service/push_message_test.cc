#include "coordinator/service/push_message.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"
#include "base/status_matchers.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;

struct Read {
  absl::Status status;
  std::optional<v1::UpdateHeader> header;
  uint64_t offset = 0;  // of the first piece
  std::string data;
};

// `block`: how many bytes lie together, as in a transport's slices.
Read ReadAll(const std::string& bytes, int block) {
  google::protobuf::io::ArrayInputStream stream(
      bytes.data(), static_cast<int>(bytes.size()), block);
  Read read;
  read.status = ReadPushMessage(
      &stream, &read.header, [&](uint64_t offset, absl::string_view data) {
        if (read.data.empty()) read.offset = offset;
        EXPECT_EQ(offset, read.offset + read.data.size());
        read.data += std::string(data);
        return absl::OkStatus();
      });
  return read;
}

TEST(ReadPushMessageTest, Chunk_InBlocksOfAnySize_IsReadWhole) {
  v1::PushUpdateRequest request;
  request.mutable_chunk()->set_offset(1 << 20);
  std::string data;
  for (int i = 0; i < 1000; ++i) data.push_back(static_cast<char>(i));
  request.mutable_chunk()->set_data(data);
  for (const int block : {1, 2, 7, 64, 4096}) {
    const Read read = ReadAll(request.SerializeAsString(), block);
    ASSERT_THAT(read.status, IsOk());
    EXPECT_EQ(read.offset, 1u << 20);
    EXPECT_EQ(read.data, data);
  }
}

TEST(ReadPushMessageTest, Header_IsParsed) {
  v1::PushUpdateRequest request;
  request.mutable_header()->set_worker("site-a");
  const Read read = ReadAll(request.SerializeAsString(), 3);
  ASSERT_THAT(read.status, IsOk());
  ASSERT_TRUE(read.header.has_value());
  EXPECT_EQ(read.header->worker(), "site-a");
}

TEST(ReadPushMessageTest, OffsetAfterData_IsRefused) {
  // chunk { data: "x" offset: 5 }, written by hand in that order.
  const std::string bytes("\x12\x05\x12\x01x\x08\x05", 7);
  EXPECT_THAT(ReadAll(bytes, 64).status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("follows its data")));
}

TEST(ReadPushMessageTest, Truncated_IsRefusedAtEveryLength) {
  v1::PushUpdateRequest request;
  request.mutable_chunk()->set_offset(300);
  request.mutable_chunk()->set_data("abcdef");
  const std::string bytes = request.SerializeAsString();
  for (size_t length = 1; length < bytes.size(); ++length) {
    EXPECT_THAT(ReadAll(bytes.substr(0, length), 64).status,
                StatusIs(absl::StatusCode::kInvalidArgument))
        << length;
  }
}

TEST(ReadPushMessageTest, UnknownFields_AreSkipped) {
  v1::PushUpdateRequest request;
  request.mutable_chunk()->set_data("ab");
  // Field 15, varint 1: from a newer minor version.
  const Read read = ReadAll(request.SerializeAsString() + "\x78\x01", 64);
  EXPECT_THAT(read.status, IsOk());
  EXPECT_EQ(read.data, "ab");
}

TEST(ReadPushMessageTest, RandomBytes_NeverCrash) {
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random.NextBelow(40), '\0');
    for (char& c : bytes) c = static_cast<char>(random.NextUint64());
    google::protobuf::io::ArrayInputStream stream(
        bytes.data(), static_cast<int>(bytes.size()), 5);
    std::optional<v1::UpdateHeader> header;
    size_t total = 0;
    ReadPushMessage(&stream, &header, [&](uint64_t, absl::string_view data) {
      total += data.size();
      return absl::OkStatus();
    }).IgnoreError();
    EXPECT_LE(total, bytes.size());
  }
}

}  // namespace
}  // namespace koinon::coordinator
