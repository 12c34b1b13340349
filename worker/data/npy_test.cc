#include "worker/data/npy.h"

#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testdata::Bytes;
using testdata::Npy;
using testdata::NpyWithHeader;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

NumericArray MustDecode(const std::string& bytes) {
  auto array = DecodeNpy("f.npy", bytes, kLimit);
  EXPECT_OK(array);
  return array.ok() ? *array : NumericArray();
}

absl::Status Failure(const std::string& bytes) {
  return DecodeNpy("f.npy", bytes, kLimit).status();
}

TEST(DecodeNpy, EveryType_IsRead) {
  EXPECT_THAT(MustDecode(Npy("<f4", {2}, Bytes<float>({1.5, -2}))).values,
              ElementsAre(1.5, -2));
  EXPECT_THAT(MustDecode(Npy("<f8", {2}, Bytes<double>({1.5, -2}))).values,
              ElementsAre(1.5, -2));
  EXPECT_THAT(MustDecode(Npy("|u1", {2}, Bytes<uint8_t>({0, 255}))).values,
              ElementsAre(0, 255));
  EXPECT_THAT(MustDecode(Npy("<i4", {2}, Bytes<int32_t>({-7, 7}))).values,
              ElementsAre(-7, 7));
  EXPECT_THAT(MustDecode(Npy("<i8", {2}, Bytes<int64_t>({-7, 7}))).values,
              ElementsAre(-7, 7));
}

TEST(DecodeNpy, Shapes_AreKept) {
  EXPECT_THAT(MustDecode(Npy("|u1", {2, 3}, "abcdef")).shape,
              ElementsAre(2, 3));
  EXPECT_THAT(MustDecode(Npy("|u1", {6}, "abcdef")).shape, ElementsAre(6));
  EXPECT_TRUE(MustDecode(Npy("|u1", {}, "a")).shape.empty());
}

TEST(DecodeNpy, Version2And3_HaveALongerLength) {
  for (char version : {'\2', '\3'}) {
    std::string bytes("\x93NUMPY", 6);
    bytes += version;
    bytes += '\0';
    const std::string header =
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}";
    testdata::AppendLittleEndian(&bytes, header.size(), 4);
    EXPECT_THAT(MustDecode(bytes + header + "A").values, ElementsAre(65));
  }
}

TEST(DecodeNpy, FortranOrder_IsRefusedByName) {
  EXPECT_THAT(
      Failure(NpyWithHeader(
          "{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2)}", "ab")),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("found Fortran order")));
}

TEST(DecodeNpy, UnknownType_IsRefusedWithTheKnownOnes) {
  for (const char* descr : {">f4", "<f2", "<c8", "|O", "<U3"}) {
    EXPECT_THAT(Failure(Npy(descr, {1}, "abcdefgh")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(absl::StrCat(
                             "<f4, <f8, |u1, <i4, <i8, found \"", descr))));
  }
}

TEST(DecodeNpy, EveryTruncation_IsRefused) {
  const std::string whole = Npy("<i4", {2}, Bytes<int32_t>({1, 2}));
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_THAT(Failure(whole.substr(0, n)),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << n;
  }
  EXPECT_THAT(Failure(whole + "x"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected 8 bytes for shape [2] of <i4, "
                                 "found 9")));
}

TEST(DecodeNpy, HostileHeaders_AreRefused) {
  const std::string start = "{'descr': '|u1', 'fortran_order': False, ";
  for (const std::string& header :
       {std::string("{"), std::string("[]"), std::string("{}"),
        start + "'shape': (1,), 'shape': (1,)}", start + "'shape': (-1,)}",
        start + "'shape': (99999999999999999999,)}", start + "'shape': 1}",
        start + "'shape': (1,)} import os", start + "'more': (1,)}",
        start + "'shape': (1,1,1,1,1,1,1,1,1)}", start + "'shape': (1 1)}",
        std::string("{'descr': [('a', '<f4')], 'fortran_order': False, "
                    "'shape': (1,)}")}) {
    EXPECT_THAT(Failure(NpyWithHeader(header, "a")),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("f.npy: NPY header, character")))
        << header;
  }
}

TEST(DecodeNpy, HugeShape_IsRefusedBeforeAllocation) {
  EXPECT_THAT(
      Failure(Npy("|u1", {int64_t{1} << 40, int64_t{1} << 40}, "a")),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("max_bytes")));
}

TEST(DecodeNpy, NumbersThatNoFloatHolds_AreRefused) {
  EXPECT_THAT(
      Failure(Npy("<f8", {2}, Bytes<double>({0, 1e300}))),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("element 1")));
}

}  // namespace
}  // namespace koinon::worker
