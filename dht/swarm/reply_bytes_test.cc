#include "dht/swarm/reply_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/support/slice.h"

namespace koinon::dht {
namespace {

std::string Joined(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(bytes.Dump(&slices).ok());
  std::string joined;
  for (const grpc::Slice& slice : slices) {
    joined.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return joined;
}

// In parts of `part` bytes, as they come from the network.
grpc::ByteBuffer InParts(const std::string& bytes, size_t part) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += part) {
    slices.emplace_back(bytes.substr(at, part));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::FetchReply BlockOf(uint32_t piece, uint32_t offset, std::string data) {
  v1::FetchReply reply;
  reply.mutable_block()->set_piece(piece);
  reply.mutable_block()->set_offset(offset);
  reply.mutable_block()->set_data(std::move(data));
  return reply;
}

std::vector<v1::FetchReply> ManyReplies() {
  std::vector<v1::FetchReply> replies = {
      BlockOf(0, 0, "a"),
      BlockOf(3, 0, std::string(127, 'b')),
      BlockOf(0x7fffffff, 0xffff0000, std::string(128, 'c')),
      BlockOf(200, 256 << 10, std::string(256 << 10, 'd')),
      BlockOf(1, 2, ""),
      v1::FetchReply()};
  replies.emplace_back().mutable_opened()->set_have("bits");
  replies.emplace_back().mutable_have()->add_pieces(7);
  replies.emplace_back().mutable_piece_start()->set_leaf_hashes("hashes");
  replies.emplace_back().mutable_refused()->set_reason("none");
  replies.emplace_back().mutable_piece_layer()->set_hashes("hashes");
  replies.emplace_back().mutable_none()->add_others()->set_address("x:1");
  return replies;
}

TEST(ReplyBytesTest, Encoded_AreTheBytesOfProtobuf) {
  const auto spare = std::make_shared<SpareBlocks>(1);
  for (v1::FetchReply& reply : ManyReplies()) {
    const std::string expected = reply.SerializeAsString();
    EXPECT_EQ(Joined(EncodeReply(&reply, spare)), expected)
        << reply.message_case();
  }
}

TEST(ReplyBytesTest, Decoded_IsTheReplyHoweverItIsCut) {
  v1::FetchReply reply;  // one for all, as whoever reads has it
  std::string spare;
  for (const size_t part :
       {size_t{1}, size_t{7}, size_t{8192}, size_t{1} << 20}) {
    for (const v1::FetchReply& expected : ManyReplies()) {
      grpc::ByteBuffer bytes = InParts(expected.SerializeAsString(), part);
      ASSERT_TRUE(DecodeReply(&bytes, &spare, &reply));
      EXPECT_EQ(reply.SerializeAsString(), expected.SerializeAsString())
          << expected.message_case();
    }
  }
}

// Not as we write it, but a reply to protobuf all the same.
TEST(ReplyBytesTest, ABlockInAnotherOrder_IsReadToo) {
  std::string block;
  block += "\x1a\x02xy";                     // data
  block += std::string("\x10\x05\x08\x09");  // offset 5, piece 9
  const std::string encoded =
      std::string("\x22") + static_cast<char>(block.size()) + block;
  grpc::ByteBuffer bytes = InParts(encoded, 3);
  v1::FetchReply reply;
  std::string spare;
  ASSERT_TRUE(DecodeReply(&bytes, &spare, &reply));
  EXPECT_EQ(reply.SerializeAsString(), BlockOf(9, 5, "xy").SerializeAsString());
}

TEST(ReplyBytesTest, CutShort_IsNoReply) {
  const std::string whole = BlockOf(3, 4, "data").SerializeAsString();
  std::string spare;
  for (size_t size = 1; size < whole.size(); ++size) {
    grpc::ByteBuffer bytes = InParts(whole.substr(0, size), 4);
    v1::FetchReply reply;
    EXPECT_FALSE(DecodeReply(&bytes, &spare, &reply)) << size;
  }
}

// The low bits alone would be right.
TEST(ReplyBytesTest, NumbersThatProtobufRefuses_AreNoReply) {
  const std::string block("\x08\x03\x10\x04\x1a\x01x", 7);
  const std::vector<std::string> wrong = {
      // A block of 2^32 + 7 bytes, data of 2^32 + 1, a tag of six bytes.
      "\x22" + std::string("\x87\x80\x80\x80\x10") + block,
      "\x22\x0b" + block.substr(0, 5) + "\x81\x80\x80\x80\x10x",
      std::string("\xa2\x80\x80\x80\x80\0", 6) + "\x07" + block};
  for (const std::string& encoded : wrong) {
    v1::FetchReply reply;
    EXPECT_FALSE(reply.ParseFromString(encoded));
    grpc::ByteBuffer bytes = InParts(encoded, 4);
    std::string spare;
    EXPECT_FALSE(DecodeReply(&bytes, &spare, &reply));
  }
}

TEST(ReplyBytesTest, ALengthBeyondTheEnd_TakesNoMemory) {
  grpc::ByteBuffer bytes =
      InParts(std::string("\x22\xff\xff\xff\x7f\x1a\xf0\xff\xff\x7f", 10), 4);
  v1::FetchReply reply;
  std::string spare;
  EXPECT_FALSE(DecodeReply(&bytes, &spare, &reply));
  EXPECT_LT(spare.capacity(), 1000u);
}

TEST(ReplyBytesTest, BlocksThatCome_ShareOneBuffer) {
  v1::FetchReply reply;
  std::string spare;
  const std::string bytes =
      BlockOf(0, 0, std::string(4096, 'a')).SerializeAsString();
  const auto decode = [&](const std::string& encoded) {
    grpc::ByteBuffer buffer = InParts(encoded, 512);
    EXPECT_TRUE(DecodeReply(&buffer, &spare, &reply));
  };
  decode(bytes);
  const char* const first = reply.block().data().data();
  v1::FetchReply between;
  between.mutable_have()->add_pieces(1);
  decode(between.SerializeAsString());
  decode(bytes);
  EXPECT_EQ(reply.block().data().data(), first);
}

TEST(ReplyBytesTest, WhatHasBeenSent_IsThereToBeFilledAgain) {
  const auto spare = std::make_shared<SpareBlocks>(1);
  v1::FetchReply one = BlockOf(0, 0, std::string(4096, 'a'));
  v1::FetchReply two = BlockOf(0, 0, std::string(4096, 'b'));
  const char* const data = one.block().data().data();
  {
    const grpc::ByteBuffer first = EncodeReply(&one, spare);
    const grpc::ByteBuffer second = EncodeReply(&two, spare);
    EXPECT_EQ(spare->Take(), "");  // both are on their way
    EXPECT_TRUE(one.block().data().empty());
  }
  const std::string again = spare->Take();
  EXPECT_EQ(again.size(), 4096u);
  EXPECT_NE(again.data(), nullptr);
  EXPECT_TRUE(again[0] == 'a' ? again.data() == data : again[0] == 'b');
  EXPECT_EQ(spare->Take(), "");  // the other was one too many
}

TEST(ReplyBytesTest, BlocksOnTheirWay_OutliveTheStream) {
  auto spare = std::make_shared<SpareBlocks>(1);
  v1::FetchReply reply = BlockOf(0, 0, std::string(4096, 'a'));
  const std::string expected = reply.SerializeAsString();
  const grpc::ByteBuffer bytes = EncodeReply(&reply, spare);
  spare.reset();
  EXPECT_EQ(Joined(bytes), expected);
}

}  // namespace
}  // namespace koinon::dht
