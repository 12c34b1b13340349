#include "worker/data/unpack.h"

#include <gtest/gtest.h>

#include "base/env.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

TEST(Gunzip, Content_ComesBack) {
  const std::string content(300'000, 'k');
  EXPECT_THAT(Gunzip("f", testdata::Gzip(content), kLimit),
              IsOkAndHolds(content));
  EXPECT_THAT(Gunzip("f", testdata::Gzip(""), kLimit), IsOkAndHolds(""));
}

TEST(Gunzip, SeveralMembers_AreJoined) {
  const std::string packed = testdata::Gzip("one ") + testdata::Gzip("two");
  EXPECT_THAT(Gunzip("f", packed, kLimit), IsOkAndHolds("one two"));
}

TEST(Gunzip, BombOverTheLimit_IsRefusedBeforeItIsUnpacked) {
  const std::string packed = testdata::Gzip(std::string(8 << 20, '\0'));
  EXPECT_THAT(Gunzip("f.gz", packed, kLimit),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("f.gz: unpacks to more than max_bytes")));
  EXPECT_OK(Gunzip("f.gz", packed, 8 << 20));
}

TEST(Gunzip, DamagedBytes_AreRefusedWithTheirPlace) {
  const std::string packed = testdata::Gzip("some content to pack");
  EXPECT_THAT(
      Gunzip("f", packed.substr(0, packed.size() - 5), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("ends early")));
  std::string wrong_sum = packed;
  wrong_sum[packed.size() - 8] ^= 1;
  EXPECT_THAT(Gunzip("f", wrong_sum, kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f: compressed data damaged at byte")));
  EXPECT_THAT(Gunzip("f", packed + "tail", kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Gunzip("f", "", kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(Inflate, Content_ComesBack) {
  const std::string content(5000, 'z');
  EXPECT_THAT(Inflate("f", testdata::Compress(content, -15), content.size()),
              IsOkAndHolds(content));
}

TEST(Inflate, WrongSize_IsRefused) {
  const std::string packed = testdata::Compress("abcdef", -15);
  EXPECT_THAT(
      Inflate("f", packed, 5),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("expected 5 bytes once unpacked, found more")));
  EXPECT_THAT(Inflate("f", packed, 7),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected 7 bytes once unpacked, found 6")));
}

TEST(Inflate, ImpossibleSize_IsRefusedBeforeAllocation) {
  EXPECT_THAT(
      Inflate("f", "abc", uint64_t{1} << 50),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("cannot unpack")));
}

TEST(ReadUnpacked, PlainAndGzipFiles_ReadTheSame) {
  const std::string plain = testdata::WriteTemp("plain", "content");
  const std::string packed =
      testdata::WriteTemp("packed", testdata::Gzip("content"));
  EXPECT_THAT(ReadUnpacked(RealEnv(), plain, 100), IsOkAndHolds("content"));
  EXPECT_THAT(ReadUnpacked(RealEnv(), packed, 100), IsOkAndHolds("content"));
}

TEST(ReadUnpacked, MissingOrLongFile_IsRefused) {
  EXPECT_THAT(ReadUnpacked(RealEnv(), testdata::TempPath("none"), 100),
              StatusIs(absl::StatusCode::kNotFound));
  const std::string plain = testdata::WriteTemp("plain", "content");
  EXPECT_THAT(ReadUnpacked(RealEnv(), plain, 6),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
