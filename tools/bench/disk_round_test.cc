#include "tools/bench/disk_round.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string TestDir(const std::string& name) {
  const std::string dir = absl::StrCat(testing::TempDir(), "/", name);
  std::filesystem::create_directories(dir);
  return dir;
}

DiskRoundOptions Small(const std::string& dir) {
  DiskRoundOptions options;
  options.size = {10, 70'001};
  options.threads = {1, 2};
  options.dir = dir;
  return options;
}

TEST(MeasureDiskRounds, EachRule_IsRightAndHasAPeak) {
  const std::string dir = TestDir("each-rule");
  ASSERT_OK_AND_ASSIGN(const auto figures, MeasureDiskRounds(Small(dir)));
  ASSERT_EQ(figures.size(), 6);
  for (const DiskRoundFigure& figure : figures) {
    SCOPED_TRACE(figure.rule);
    EXPECT_GT(figure.before_bytes, 0);
    EXPECT_GE(figure.peak_bytes, figure.before_bytes);
    EXPECT_LE(figure.largest_error, 0x1p-23);
  }
  EXPECT_THAT(
      DiskRoundTable(figures),
      AllOf(HasSubstr("median"), HasSubstr("krum"), HasSubstr("70001")));
  EXPECT_THAT(DiskRoundJson(figures), HasSubstr("\"peak_bytes\":"));
  EXPECT_TRUE(std::filesystem::is_empty(dir));
}

TEST(MeasureDiskRounds, BadOptions_AreRefused) {
  const std::string dir = TestDir("bad-options");
  DiskRoundOptions options = Small(dir);
  options.rules = {"mean"};
  EXPECT_THAT(MeasureDiskRounds(options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("mean")));
  options = Small(dir);
  options.size.updates = 0;
  EXPECT_THAT(
      MeasureDiskRounds(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 updates")));
  options = Small(dir);
  options.threads = {0};
  EXPECT_THAT(
      MeasureDiskRounds(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 threads")));
  options = Small(absl::StrCat(dir, "/not/there"));
  EXPECT_THAT(MeasureDiskRounds(options),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("not/there")));
}

}  // namespace
}  // namespace koinon::tools
