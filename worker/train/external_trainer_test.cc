#include "worker/train/external_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testtask::ReadFloats;

constexpr char kGoodMetrics[] =
    "echo '{\"examples\": 70, \"loss\": 0.25, \"accuracy\": 0.5, \"steps\": 4}'"
    " > metrics.json;";

class ExternalTrainerTest : public testing::Test {
 protected:
  ExternalTrainerTest() : base_path_(testtask::WriteBase(&offer_)) {
    LocalData& data = datasets_["blobs"];
    data.external = true;
    data.declared_examples = 70;
    data.declared_held_out_examples = 30;
  }

  // A trainer whose program is a shell script.
  std::unique_ptr<ExternalTrainer> Script(const std::string& script) {
    config_.set_name("script");
    config_.clear_command();
    for (const std::string& word :
         {std::string("sh"), std::string("-c"), script}) {
      config_.add_command(word);
    }
    auto trainer = ExternalTrainer::Create(RealEnv(), &clock_, &datasets_,
                                           TempPath("scratch"), config_,
                                           [this](absl::string_view line) {
                                             lines_.emplace_back(line);
                                             if (on_line_) on_line_();
                                           });
    EXPECT_OK(trainer);
    return trainer.ok() ? *std::move(trainer) : nullptr;
  }

  absl::StatusOr<v1::Metrics> Train(const std::string& script) {
    return Script(script)->Train(offer_, base_path_, TempPath("update"),
                                 nullptr, stop_);
  }
  absl::StatusOr<v1::Metrics> Evaluate(const std::string& script) {
    return Script(script)->Evaluate(offer_, base_path_, stop_);
  }

  // A script that leaves `model` as the trained one.
  std::string Leave(const Model& model) {
    const std::string path = TempPath("trained.safetensors");
    EXPECT_OK(WriteModel(RealEnv(), path, model));
    return absl::StrCat("cp '", path, "' model.safetensors;");
  }

  ManualClock clock_{absl::UnixEpoch()};
  LocalDatasets datasets_;
  v1::OfferTask offer_ = testtask::BlobOffer();
  std::string base_path_;
  ExternalTrainerConfig config_;
  std::vector<std::string> lines_;
  std::function<void()> on_line_;
  std::atomic<bool> stop_{false};
};

TEST_F(ExternalTrainerTest, TrainedModel_BecomesTheUpdate) {
  Model trained = testtask::InitialModel(offer_.model());
  for (float& value : trained.values) value += 1;
  ASSERT_OK_AND_ASSIGN(
      const v1::Metrics metrics,
      Train(absl::StrCat("echo at work >&2;", Leave(trained), kGoodMetrics)));
  EXPECT_EQ(metrics.examples(), 70);
  EXPECT_EQ(metrics.loss(), 0.25);
  EXPECT_TRUE(metrics.has_accuracy());
  EXPECT_EQ(metrics.accuracy(), 0.5);
  EXPECT_EQ(metrics.steps(), 4);
  // Each parameter is below 2: adding and subtracting 1 rounds by an ulp of 3
  // at most, 2.4e-7.
  EXPECT_THAT(ReadFloats(TempPath("update")),
              Each(testing::FloatNear(1, 2.4e-7f)));
  EXPECT_THAT(lines_, ElementsAre("at work"));
}

TEST_F(ExternalTrainerTest, ModelWrittenInPlace_DoesNotTouchTheBase) {
  ASSERT_OK_AND_ASSIGN(const std::string before,
                       ReadFile(RealEnv(), base_path_, 1 << 20));
  Model trained = testtask::InitialModel(offer_.model());
  trained.values[0] = 9;
  const std::string path = TempPath("other.safetensors");
  ASSERT_OK(WriteModel(RealEnv(), path, trained));
  ASSERT_OK(Train(
      absl::StrCat("cat '", path, "' > model.safetensors;", kGoodMetrics)));
  EXPECT_THAT(ReadFile(RealEnv(), base_path_, 1 << 20), IsOkAndHolds(before));
  EXPECT_NE(ReadFloats(TempPath("update"))[0], 0);
}

TEST_F(ExternalTrainerTest, TaskJson_TellsTheTask) {
  (*offer_.mutable_training()->mutable_parameters())["depth"] = "3";
  offer_.set_seed(uint64_t{1} << 63);
  ASSERT_OK(Train(absl::StrCat("cat task.json;", kGoodMetrics)));
  std::string json;
  for (const std::string& line : lines_) absl::StrAppend(&json, line, "\n");
  for (const char* part :
       {"\"kind\": \"train\"", "\"job\": \"blobs-1\"", "\"round\": \"1\"",
        "\"seed\": \"9223372036854775808\"", "\"dataset\": \"blobs\"",
        "\"depth\": \"3\"", "\"batch_size\": \"16\"",
        "\"learning_rate\": 0.1"}) {
    EXPECT_THAT(json, HasSubstr(part));
  }
}

TEST_F(ExternalTrainerTest, Directory_IsFreshAndRemoved) {
  ASSERT_OK(RealEnv()->MakeDirs(TempPath("scratch") + "/left/over"));
  ASSERT_OK(
      Train(absl::StrCat("ls; mkdir deep; echo x > deep/file;", kGoodMetrics)));
  EXPECT_THAT(lines_, ElementsAre("model.safetensors", "task.json"));
  EXPECT_FALSE(RealEnv()->Exists(TempPath("scratch")));
}

TEST_F(ExternalTrainerTest, Evaluation_NeedsOnlyMetrics) {
  ASSERT_OK_AND_ASSIGN(
      const v1::Metrics metrics,
      Evaluate("grep '\"kind\": \"evaluate\"' task.json && rm "
               "model.safetensors && echo "
               "'{\"examples\": 30, \"loss\": 2}' > metrics.json"));
  EXPECT_EQ(metrics.examples(), 30);
  EXPECT_FALSE(metrics.has_accuracy());
}

TEST_F(ExternalTrainerTest, NoHeldOutPart_CannotBeEvaluated) {
  datasets_["blobs"].declared_held_out_examples = 0;
  EXPECT_THAT(Evaluate("exit 1"),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(ExternalTrainerTest, UnknownDataset_ListsTheKnown) {
  offer_.set_dataset("faces");
  EXPECT_THAT(Train("exit 1"), StatusIs(absl::StatusCode::kNotFound,
                                        HasSubstr("it has: blobs")));
}

TEST_F(ExternalTrainerTest, ProgramThatFails_IsToldWithoutItsOutput) {
  EXPECT_THAT(Train("echo private data; exit 3"),
              StatusIs(absl::StatusCode::kInternal,
                       "external trainer script: exited with code 3"));
  EXPECT_THAT(lines_, ElementsAre("private data"));
  EXPECT_FALSE(RealEnv()->Exists(TempPath("scratch")));
}

TEST_F(ExternalTrainerTest, MissingProgram_IsTold) {
  config_.set_name("gone");
  config_.add_command("/nonexistent/program");
  ASSERT_OK_AND_ASSIGN(const auto trainer,
                       ExternalTrainer::Create(RealEnv(), &clock_, &datasets_,
                                               TempPath("scratch"), config_));
  EXPECT_THAT(
      trainer->Train(offer_, base_path_, TempPath("update"), nullptr, stop_),
      StatusIs(absl::StatusCode::kInternal,
               HasSubstr("external trainer gone: cannot start "
                         "/nonexistent/program")));
}

TEST_F(ExternalTrainerTest, BadMetrics_SayExpectedAndFound) {
  const auto expect = [this](const std::string& json,
                             const std::string& error) {
    EXPECT_THAT(
        Train(absl::StrCat("echo '", json, "' > metrics.json")),
        StatusIs(absl::StatusCode::kInternal,
                 AllOf(HasSubstr("external trainer script: metrics.json"),
                       HasSubstr(error))))
        << json;
  };
  expect("", "JSON");
  expect("[1]", "JSON");
  expect("{\"examples\": 70, \"loss\": 1, \"acuracy\": 1}", "acuracy");
  expect("{\"loss\": 1}", "\"examples\" >= 1, found none");
  expect("{\"examples\": 0, \"loss\": 1}", "\"examples\" >= 1, found 0");
  expect("{\"examples\": 1.5, \"loss\": 1}", "JSON");
  expect("{\"examples\": 70}", "a finite \"loss\", found none");
  expect("{\"examples\": 70, \"loss\": \"NaN\"}", "a finite \"loss\"");
  expect("{\"examples\": 70, \"loss\": NaN}", "JSON");
  expect("{\"examples\": 70, \"loss\": 1, \"accuracy\": 98}",
         "\"accuracy\" in [0, 1], found 98");
  expect("{\"examples\": 70, \"loss\": 1, \"steps\": -1}", "\"steps\" >= 0");
  EXPECT_THAT(Train("true"),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("metrics.json: expected the file, found "
                                 "none")));
  EXPECT_THAT(Train("head -c 100000 /dev/zero > metrics.json"),
              StatusIs(absl::StatusCode::kInternal));
}

TEST_F(ExternalTrainerTest, BadModel_IsTold) {
  EXPECT_THAT(Train(absl::StrCat("rm model.safetensors;", kGoodMetrics)),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("script: trained model:")));
  EXPECT_THAT(Train(absl::StrCat("echo x > model.safetensors;", kGoodMetrics)),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("script: trained model:")));
  v1::ModelSpec other = offer_.model();
  other.mutable_logistic_regression()->set_classes(4);
  EXPECT_THAT(
      Train(absl::StrCat(Leave(testtask::InitialModel(other)), kGoodMetrics)),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("expected F32")));
}

TEST_F(ExternalTrainerTest, Stop_EndsTheProgram) {
  on_line_ = [this] { stop_ = true; };
  EXPECT_THAT(Train("echo ready; sleep 1000"),
              StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(ExternalTrainerTest, Timeout_EndsTheProgram) {
  config_.set_timeout_seconds(60);
  on_line_ = [this] { clock_.Advance(absl::Seconds(60)); };
  EXPECT_THAT(Train("echo ready; sleep 1000"),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("did not end within 1m")));
}

TEST_F(ExternalTrainerTest, OutputOverTheLimit_IsNotLogged) {
  config_.set_max_log_lines(3);
  ASSERT_OK(Train(absl::StrCat("seq 1 100;", kGoodMetrics)));
  EXPECT_THAT(lines_, ElementsAre("1", "2", "3"));
}

TEST_F(ExternalTrainerTest, Environment_HoldsOnlyWhatIsPassedOn) {
  setenv("KOINON_TEST_PASSED", "yes", 1);
  setenv("KOINON_TEST_SECRET", "no", 1);
  config_.add_pass_environment("KOINON_TEST_PASSED");
  ASSERT_OK(Train(absl::StrCat("env | grep KOINON_TEST;", kGoodMetrics)));
  EXPECT_THAT(lines_, ElementsAre("KOINON_TEST_PASSED=yes"));
}

TEST_F(ExternalTrainerTest, AnotherLayout_IsRefusedBeforeTheProgramRuns) {
  offer_.set_layout_hash(std::string(32, 'x'));
  EXPECT_THAT(Train("echo ran"), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("expected layout")));
  EXPECT_THAT(lines_, Not(testing::Contains("ran")));
}

TEST_F(ExternalTrainerTest, BadConfig_IsRefusedByName) {
  const auto expect = [this](const ExternalTrainerConfig& config,
                             const std::string& error) {
    EXPECT_THAT(
        ExternalTrainer::Create(RealEnv(), &clock_, &datasets_, "s", config),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  };
  ExternalTrainerConfig config;
  expect(config, "name");
  config.set_name("native");
  expect(config, "Koinon's own");
  config.set_name("numpy");
  expect(config, "expected a command");
  config.add_command("true");
  config.set_timeout_seconds(-1);
  expect(config, "timeout_seconds");
  config.set_timeout_seconds(0);
  config.set_max_log_lines(-1);
  expect(config, "max_log_lines");
}

}  // namespace
}  // namespace koinon::worker
