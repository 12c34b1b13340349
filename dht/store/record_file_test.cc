#include "dht/store/record_file.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "dht/records/signed.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

const absl::Time kStart = absl::FromUnixMillis(1'700'000'000'123);

RecordFile Example() {
  return {.record = ImmutableRecord("a manifest"),
          .writer = Sha256Of("writer"),
          .stored = kStart,
          .expires = kStart + absl::Hours(24)};
}

TEST(RecordFileTest, Decode_Encoded_IsTheSame) {
  const absl::StatusOr<RecordFile> file =
      DecodeRecordFile(EncodeRecordFile(Example()));
  ASSERT_OK(file);
  EXPECT_EQ(file->record.immutable(), "a manifest");
  EXPECT_EQ(file->writer, Example().writer);
  EXPECT_EQ(file->stored, Example().stored);
  EXPECT_EQ(file->expires, Example().expires);
}

// The bytes of docs/formats/record.md, which other programs may rely on.
TEST(RecordFileTest, Encode_KnownRecord_KnownBytes) {
  const std::string bytes = EncodeRecordFile(Example());
  EXPECT_EQ(bytes.substr(0, 8), "KOINREC1");
  EXPECT_EQ(bytes.substr(8, 8),
            std::string("\x7b\x68\xe5\xcf\x8b\x01\x00\x00", 8));
  EXPECT_EQ(bytes.substr(24, 32), Sha256Of("writer").ToBytes());
  EXPECT_EQ(bytes.substr(56, 12), "\n\na manifest");
  EXPECT_EQ(bytes.substr(68), Sha256Of(bytes.substr(0, 68)).ToBytes());
}

TEST(RecordFileTest, Encode_TimesWithoutEnd_StayAsFarAway) {
  RecordFile file = Example();
  file.expires = absl::InfiniteFuture();
  const auto read = DecodeRecordFile(EncodeRecordFile(file));
  ASSERT_OK(read);
  EXPECT_GT(read->expires, kStart + absl::Hours(24 * 365 * 1'000));
}

TEST(RecordFileTest, Decode_AnyTruncation_IsDataLoss) {
  const std::string bytes = EncodeRecordFile(Example());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto file = DecodeRecordFile(bytes.substr(0, size));
    EXPECT_TRUE(absl::IsDataLoss(file.status())) << size;
  }
}

TEST(RecordFileTest, Decode_AnyBitFlipped_IsDataLoss) {
  const std::string bytes = EncodeRecordFile(Example());
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_TRUE(absl::IsDataLoss(DecodeRecordFile(flipped).status())) << bit;
  }
}

TEST(RecordFileTest, Decode_TooLong_IsDataLoss) {
  EXPECT_TRUE(absl::IsDataLoss(
      DecodeRecordFile(std::string(kMaxRecordFileBytes + 1, 'x')).status()));
}

TEST(RecordFileTest, Encode_LargestRecord_CanBeReadAgain) {
  RecordFile file = Example();
  file.record = ImmutableRecord(std::string(kMaxRecordBytes, 'x'));
  EXPECT_OK(DecodeRecordFile(EncodeRecordFile(file)));
}

TEST(RecordFileTest, Names_OfKeys_ThereAndBack) {
  const Key key = Sha256Of("key");
  EXPECT_EQ(KeyOfRecordFile(RecordFileName(key)), key);
  EXPECT_EQ(KeyOfRecordFile(""), std::nullopt);
  EXPECT_EQ(KeyOfRecordFile(".record"), std::nullopt);
  EXPECT_EQ(KeyOfRecordFile(key.ToHex()), std::nullopt);
  EXPECT_EQ(KeyOfRecordFile(absl::StrCat(RecordFileName(key), ".tmp")),
            std::nullopt);
  EXPECT_EQ(KeyOfRecordFile(
                absl::StrCat(absl::AsciiStrToUpper(key.ToHex()), ".record")),
            std::nullopt);
}

}  // namespace
}  // namespace koinon::dht
