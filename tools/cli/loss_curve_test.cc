#include "tools/cli/loss_curve.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "base/env.h"
#include "base/status_matchers.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kHeader[] =
    "step,seconds,loss,held_out_loss,held_out_accuracy,tokens_per_second\n";

worker::SoloTraining::Report Report(int64_t step, bool held_out) {
  worker::SoloTraining::Report report;
  report.step = step;
  report.seconds = 1.5;
  report.training = {.loss = 5, .correct = 1, .labels = 20, .examples = 2};
  if (held_out) {
    report.held_out = {.loss = 3, .correct = 5, .labels = 20, .examples = 2};
  }
  report.labels_per_second = 1234;
  return report;
}

class LossCurveTest : public ::testing::Test {
 protected:
  void Add(int64_t after_step, int64_t step, bool held_out) {
    ASSERT_OK_AND_ASSIGN(const auto curve,
                         LossCurve::Open(path_, "tokens", after_step));
    ASSERT_OK(curve->Add(Report(step, held_out)));
  }
  std::string Content() {
    const auto content = ReadFile(RealEnv(), path_, 1 << 20);
    EXPECT_OK(content);
    return *content;
  }

  const std::string path_ =
      ::testing::TempDir() + "/" +
      ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(LossCurveTest, Rows_LeaveEmptyWhatWasNotMeasured) {
  Add(0, 50, false);
  EXPECT_EQ(Content(), std::string(kHeader) + "50,1.50,2.500000,,,1234\n");
  Add(0, 60, true);
  EXPECT_EQ(Content(),
            std::string(kHeader) + "60,1.50,2.500000,1.500000,0.250000,1234\n");
}

TEST_F(LossCurveTest, TrainingThatGoesOn_KeepsTheRowsBefore) {
  ASSERT_OK(WriteFileAtomically(
      RealEnv(), path_,
      std::string(kHeader) + "10,1,2,,,3\n20,1,2,,,3\n30,1,2,,,3\n40,1,"));
  Add(20, 50, false);
  EXPECT_EQ(Content(), std::string(kHeader) +
                           "10,1,2,,,3\n20,1,2,,,3\n50,1.50,2.500000,,,1234\n");
}

// A kill in the midst of writing must leave the old rows or the new ones: the
// old file is replaced, and nothing is written into it.
TEST_F(LossCurveTest, TrainingThatGoesOn_LeavesTheOldFileWhole) {
  const std::string old = std::string(kHeader) + "10,1,2,,,3\n30,1,2,,,3\n";
  ASSERT_OK(WriteFileAtomically(RealEnv(), path_, old));
  const std::string link = path_ + ".link";
  std::filesystem::create_hard_link(path_, link);
  Add(20, 50, false);
  EXPECT_THAT(ReadFile(RealEnv(), link, 1 << 20), IsOkAndHolds(old));
  EXPECT_EQ(Content(),
            std::string(kHeader) + "10,1,2,,,3\n50,1.50,2.500000,,,1234\n");
}

TEST_F(LossCurveTest, FileOfSomethingElse_IsLeftAlone) {
  const auto expect = [this](const std::string& content,
                             const std::string& error) {
    ASSERT_OK(WriteFileAtomically(RealEnv(), path_, content));
    EXPECT_THAT(LossCurve::Open(path_, "tokens", 20),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
    EXPECT_EQ(Content(), content);
  };
  expect("my thesis\n", "another first line");
  expect("", "another first line");
  expect(std::string(kHeader) + "ten,1\n", "line 2: expected a row");
}

TEST_F(LossCurveTest, FolderThatIsMissing_IsAnError) {
  EXPECT_THAT(LossCurve::Open("/nonexistent/curve.csv", "tokens", 0),
              StatusIs(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace koinon::cli
