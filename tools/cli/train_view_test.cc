#include "tools/cli/train_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "absl/time/time.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

// What a view prints, into memory.
class TrainViewTest : public ::testing::Test {
 protected:
  TrainViewTest() : out_(open_memstream(&text_, &size_)) {
    facts_.steps = 200;
    facts_.unit = "tokens";
  }
  ~TrainViewTest() override {
    std::fclose(out_);
    std::free(text_);
  }

  static worker::SoloTraining::Report Report(bool held_out) {
    worker::SoloTraining::Report report;
    report.step = 50;
    report.seconds = 12.5;
    report.training = {.loss = 5, .correct = 1, .labels = 20, .examples = 2};
    if (held_out) {
      report.held_out = {.loss = 3, .correct = 5, .labels = 20, .examples = 2};
    }
    report.labels_per_second = 10'512.4;
    return report;
  }
  std::string Text() {
    std::fflush(out_);
    return std::string(text_, size_);
  }

  char* text_ = nullptr;
  size_t size_ = 0;
  std::FILE* const out_;
  ManualClock clock_{absl::UnixEpoch()};
  TrainingFacts facts_;
};

TEST_F(TrainViewTest, Plain_IsATableWithoutABar) {
  TrainView view(out_, TrainStyle::kPlain, &clock_, facts_);
  view.OnStep(50, Report(false).training);
  view.OnReport(Report(false));
  view.OnReport(Report(true));
  EXPECT_EQ(Text(),
            "   step      loss  held-out loss  held-out accuracy    tokens/s"
            "   seconds\n"
            " 50/200    2.5000              -                  -       10512"
            "      12.5\n"
            " 50/200    2.5000         1.5000             0.2500       10512"
            "      12.5\n");
}

TEST_F(TrainViewTest, Terminal_HasABarWithWhatIsLeft) {
  TrainView view(out_, TrainStyle::kTerminal, &clock_, facts_);
  clock_.Advance(absl::Seconds(10));
  view.OnStep(50, Report(false).training);
  EXPECT_EQ(Text(),
            "[#######.......................] 50/200  loss 2.5000  30 s left");
  view.OnStep(51, Report(false).training);
  EXPECT_EQ(Text().find("51/200"), std::string::npos) << "too soon for another";
  view.Note("done");
  EXPECT_THAT(Text(), HasSubstr("left\r\x1b[Kdone\n"));
}

TEST_F(TrainViewTest, Regression_HasNoAccuracy) {
  facts_.has_classes = false;
  TrainView view(out_, TrainStyle::kPlain, &clock_, facts_);
  view.OnReport(Report(true));
  EXPECT_EQ(Text().find("accuracy"), std::string::npos);
}

TEST_F(TrainViewTest, Json_IsOneObjectForEachReport) {
  TrainView view(out_, TrainStyle::kJson, &clock_, facts_);
  view.Note("nothing of this");
  view.OnStep(50, Report(false).training);
  view.OnReport(Report(true));
  worker::SoloTraining::Report bare;
  bare.step = 7;
  view.OnReport(bare);
  EXPECT_EQ(Text(),
            "{\"step\":50,\"steps\":200,\"seconds\":12.5,\"loss\":2.5,"
            "\"held_out_loss\":1.5,\"held_out_accuracy\":0.25,"
            "\"tokens_per_second\":10512.4}\n"
            "{\"step\":7,\"steps\":200,\"seconds\":0}\n");
}

TEST(FormatRest, Lengths_HaveTheirUnits) {
  EXPECT_EQ(FormatRest(45.2), "45 s");
  EXPECT_EQ(FormatRest(720), "12 min");
  EXPECT_EQ(FormatRest(11'520), "3.2 h");
}

}  // namespace
}  // namespace koinon::cli
