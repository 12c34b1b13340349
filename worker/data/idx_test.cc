#include "worker/data/idx.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testdata::Idx;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

NumericArray MustDecode(const std::string& bytes) {
  auto array = DecodeIdx("f.idx", bytes, kLimit);
  EXPECT_OK(array);
  return array.ok() ? *array : NumericArray();
}

absl::Status Failure(const std::string& bytes) {
  return DecodeIdx("f.idx", bytes, kLimit).status();
}

TEST(DecodeIdx, UnsignedBytes_KeepShapeAndOrder) {
  const NumericArray array =
      MustDecode(Idx(0x08, {2, 3}, absl::string_view("\0\1\2\3\4\xff", 6)));
  EXPECT_THAT(array.shape, ElementsAre(2, 3));
  EXPECT_THAT(array.values, ElementsAre(0, 1, 2, 3, 4, 255));
}

TEST(DecodeIdx, EveryType_IsReadBigEndian) {
  EXPECT_THAT(MustDecode(Idx(0x09, {1}, "\xff")).values, ElementsAre(-1));
  EXPECT_THAT(MustDecode(Idx(0x0b, {1}, "\xff\xfe")).values, ElementsAre(-2));
  EXPECT_THAT(MustDecode(Idx(0x0c, {1}, std::string("\0\0\1\2", 4))).values,
              ElementsAre(258));
  EXPECT_THAT(MustDecode(Idx(0x0d, {1}, std::string("\x3f\xc0\0\0", 4))).values,
              ElementsAre(1.5f));
  EXPECT_THAT(
      MustDecode(Idx(0x0e, {1}, std::string("\xbf\xf8\0\0\0\0\0\0", 8))).values,
      ElementsAre(-1.5f));
}

TEST(DecodeIdx, WrongMagicOrType_IsRefusedWithWhatIsThere) {
  EXPECT_THAT(Failure("\x89PNG\r\n"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f.idx: offset 0: expected IDX's 00 00")));
  EXPECT_THAT(Failure(Idx(0x0a, {1}, "x")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 00 00 0a")));
  EXPECT_THAT(Failure(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeIdx, EveryTruncation_IsRefused) {
  const std::string whole = Idx(0x08, {2, 2}, "abcd");
  EXPECT_OK(Failure(whole));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THAT(Failure(whole.substr(0, n)),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << n;
  }
}

TEST(DecodeIdx, WrongLength_SaysExpectedAndFound) {
  EXPECT_THAT(Failure(Idx(0x08, {2, 2}, "abcde")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("offset 12: expected 4 bytes for shape "
                                 "[2, 2], found 5")));
}

TEST(DecodeIdx, HugeShape_IsRefusedBeforeAllocation) {
  EXPECT_THAT(
      Failure(Idx(0x08, {0xffffffff, 0xffffffff, 0xffffffff}, "a")),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("max_bytes")));
}

TEST(DecodeIdx, RankOutOfRange_IsRefused) {
  EXPECT_THAT(Failure(Idx(0x08, {}, "a")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("1 to 8 dimensions, found 0")));
  EXPECT_THAT(Failure(Idx(0x08, std::vector<uint32_t>(9, 1), "a")),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeIdx, NotANumber_IsRefused) {
  EXPECT_THAT(
      Failure(Idx(0x0d, {1}, std::string("\x7f\xc0\0\0", 4))),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("element 0")));
}

}  // namespace
}  // namespace koinon::worker
