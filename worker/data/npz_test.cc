#include "worker/data/npz.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testdata::Npy;
using testdata::Zip;
using testdata::ZipMember;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

absl::Status Failure(const std::string& archive, uint64_t limit = kLimit) {
  return DecodeNpz("f.npz", archive, "x", limit).status();
}

ZipMember X(bool deflated = false) {
  return {
      .name = "x.npy", .content = Npy("|u1", {3}, "abc"), .deflated = deflated};
}

TEST(DecodeNpz, StoredAndDeflatedMembers_AreRead) {
  for (bool deflated : {false, true}) {
    const std::string archive =
        Zip({{.name = "y.npy", .content = Npy("|u1", {1}, "z")}, X(deflated)});
    ASSERT_OK_AND_ASSIGN(const NumericArray array,
                         DecodeNpz("f.npz", archive, "x", kLimit));
    EXPECT_THAT(array.values, ElementsAre('a', 'b', 'c'));
  }
}

TEST(DecodeNpz, CommentAfterTheArchive_IsNoMatter) {
  EXPECT_OK(Failure(Zip({X()}) + "a comment"));
}

TEST(DecodeNpz, MissingArray_ListsThoseThereAre) {
  EXPECT_THAT(DecodeNpz("f.npz", Zip({X()}), "features", kLimit),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("no array \"features\"; the archive's 1 "
                                 "members: x.npy")));
}

TEST(DecodeNpz, NoArchive_IsRefused) {
  EXPECT_THAT(Failure("not a zip archive, though long enough for one"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found no end record")));
  EXPECT_THAT(Failure(""), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(DecodeNpz, EncryptedMember_IsRefused) {
  ZipMember member = X();
  member.flags = 1;
  EXPECT_THAT(
      Failure(Zip({member})),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("encrypted")));
}

TEST(DecodeNpz, WrongCheckSum_IsRefused) {
  for (bool deflated : {false, true}) {
    ZipMember member = X(deflated);
    member.crc_error = 1;
    EXPECT_THAT(Failure(Zip({member})),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("f.npz: x.npy: expected check sum")));
  }
}

TEST(DecodeNpz, MemberOverTheLimit_IsRefused) {
  EXPECT_THAT(Failure(Zip({X(true)}), 10),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("max_bytes is 10")));
}

TEST(DecodeNpz, UnknownMethod_IsRefused) {
  std::string archive = Zip({X()});
  archive[archive.find("PK\x01\x02") + 10] = 12;
  EXPECT_THAT(Failure(archive), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("found 12")));
}

// Whatever byte is wrong, the answer is an array or an error, never a crash.
TEST(DecodeNpz, EveryDamagedByte_IsSurvived) {
  const std::string whole = Zip({X(true)});
  for (size_t i = 0; i < whole.size(); ++i) {
    for (int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ flip);
      const auto array = DecodeNpz("f.npz", damaged, "x", kLimit);
      if (array.ok()) {
        EXPECT_THAT(array->values, ElementsAre('a', 'b', 'c'));
      }
    }
    EXPECT_FALSE(Failure(whole.substr(0, i)).ok()) << i;
  }
}

}  // namespace
}  // namespace koinon::worker
