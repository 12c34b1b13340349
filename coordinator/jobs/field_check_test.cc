#include "coordinator/jobs/field_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::Eq;
using ::testing::HasSubstr;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(CheckNumberTest, Bounds_AreInsideUnlessOpen) {
  EXPECT_OK(CheckNumber("f", 0, {0, 1}));
  EXPECT_OK(CheckNumber("f", 1, {0, 1}));
  EXPECT_THAT(CheckNumber("f", 0, {0, 1, true}),
              StatusIs(kInvalid, Eq("f is 0, expected more than 0 to 1")));
  EXPECT_THAT(CheckNumber("f", 1, {0, 1, false, true}),
              StatusIs(kInvalid, Eq("f is 1, expected 0 to less than 1")));
  EXPECT_THAT(CheckNumber("f", -0.5, {0, 1}),
              StatusIs(kInvalid, Eq("f is -0.5, expected 0 to 1")));
}

TEST(CheckNumberTest, NotFinite_IsNeverInside) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double value : {std::nan(""), infinity, -infinity}) {
    EXPECT_THAT(CheckNumber("f", value, {-infinity, infinity}),
                StatusIs(kInvalid))
        << value;
  }
}

TEST(CheckIntegerTest, Extremes_AreComparedExactly) {
  const int64_t max = std::numeric_limits<int64_t>::max();
  EXPECT_OK(CheckInteger("f", max, 0, max));
  EXPECT_THAT(CheckInteger("f", max, 0, max - 1),
              StatusIs(kInvalid, HasSubstr("f is 9223372036854775807")));
  EXPECT_THAT(CheckInteger("f", -1, 0, 5),
              StatusIs(kInvalid, Eq("f is -1, expected 0 to 5")));
}

TEST(InFieldTest, Message_NamesTheFieldOnce) {
  EXPECT_OK(InField("f", absl::OkStatus()));
  EXPECT_THAT(InField("f", absl::NotFoundError("no")),
              StatusIs(kInvalid, Eq("f: no")));
  EXPECT_THAT(InField("f", absl::NotFoundError("f.g is no")),
              StatusIs(kInvalid, Eq("f.g is no")));
}

TEST(QuotedTest, HostileText_IsEscapedAndCut) {
  EXPECT_EQ(Quoted("a\n\x1b[2J"), "\"a\\n\\x1b[2J\"");
  EXPECT_LT(Quoted(std::string(1 << 20, 'x')).size(), 100u);
}

}  // namespace
}  // namespace koinon::coordinator
