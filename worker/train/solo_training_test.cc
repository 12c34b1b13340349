#include "worker/train/solo_training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kCheckpoint[] = "/run/checkpoint.safetensors";

class SoloTrainingTest : public testing::Test {
 protected:
  SoloTrainingTest() {
    const v1::OfferTask offer = testtask::BlobOffer();
    *job_.mutable_model() = offer.model();
    job_.mutable_model()->mutable_mlp()->add_hidden(6);
    job_.mutable_model()->mutable_mlp()->set_classes(3);
    auto* training = job_.mutable_training();
    training->set_steps(20);  // epochs of 13
    training->set_batch_size(16);
    training->mutable_optimizer()->mutable_adamw()->set_learning_rate(0.2);
    training->mutable_schedule()->mutable_cosine()->set_steps(20);
    job_.set_seed(7);
    EXPECT_OK(env_.MakeDirs("/run"));
  }

  absl::StatusOr<std::unique_ptr<SoloTraining>> Create() {
    return SoloTraining::Create(used_, &clock_, job_, &data_, options_);
  }
  absl::Status Failure() { return Create().status(); }
  // Creates, runs to the end or to the stop, and writes the model to `path`.
  absl::Status Run(const std::string& path) {
    auto training = Create();
    if (!training.ok()) return training.status();
    first_step_ = (*training)->first_step();
    const auto last = (*training)->Run(observer_, stop_);
    if (!last.ok()) return last.status();
    last_ = *last;
    return (*training)->Write(path);
  }
  std::string Bytes(const std::string& path) {
    const auto bytes = ReadFile(&env_, path, 1 << 20);
    EXPECT_OK(bytes);
    return bytes.ok() ? *bytes : "";
  }

  MemoryEnv env_;
  Env* used_ = &env_;  // by the training
  ManualClock clock_{absl::UnixEpoch()};
  v1::JobSpec job_;
  LocalData data_ = testtask::BlobDatasets()["blobs"];
  SoloTraining::Options options_;
  SoloTraining::Observer observer_;
  std::atomic<bool> stop_{false};
  int64_t first_step_ = -1;
  SoloTraining::Report last_;
};

TEST_F(SoloTrainingTest, Blobs_AreLearnedAndReported) {
  options_.report_every = 8;
  options_.evaluate_every = 10;
  std::vector<int64_t> reports, evaluations;
  int64_t steps = 0;
  observer_.step = [&](int64_t step, const TrainingTotals& totals) {
    EXPECT_EQ(step, ++steps);
    EXPECT_GT(totals.examples, 0);
    clock_.Advance(absl::Seconds(1));
  };
  observer_.report = [&](const SoloTraining::Report& report) {
    reports.push_back(report.step);
    if (report.held_out.has_value()) evaluations.push_back(report.step);
    EXPECT_EQ(report.seconds, static_cast<double>(report.step));
    EXPECT_GT(report.training.MeanLoss(), 0);
  };
  ASSERT_OK(Run("/model"));
  EXPECT_EQ(steps, 20);
  EXPECT_THAT(reports, ElementsAre(8, 10, 16, 20));
  EXPECT_THAT(evaluations, ElementsAre(10, 20));
  // The centres are 13 standard deviations apart: next to nothing overlaps.
  EXPECT_GT(last_.held_out->Accuracy(), 0.95);
  EXPECT_EQ(last_.held_out->examples, 90);
  ASSERT_OK_AND_ASSIGN(const Model model, ReadModel(&env_, "/model", 1 << 20));
  EXPECT_EQ(model.values.size(), 2 * 6 + 6 + 6 * 3 + 3u);
}

TEST_F(SoloTrainingTest, NoHeldOutPart_IsTrainedAllTheSame) {
  data_.held_out = Dataset();
  ASSERT_OK(Run("/model"));
  EXPECT_FALSE(last_.held_out.has_value());
}

TEST_F(SoloTrainingTest, StoppedAndTakenUp_LeavesTheSameBytes) {
  ASSERT_OK(Run("/undisturbed"));
  options_.checkpoint_dir = "/run";
  // In the first epoch, between epochs, at a report and just before the end.
  for (int64_t at : {1, 5, 13, 14, 19}) {
    stop_ = false;
    observer_.step = [&](int64_t step, const TrainingTotals&) {
      if (step == at) stop_ = true;
    };
    EXPECT_THAT(Run("/model"),
                StatusIs(absl::StatusCode::kCancelled,
                         HasSubstr(absl::StrCat("stopped after step ", at))));
    stop_ = false;
    observer_.step = nullptr;
    ASSERT_OK(Run("/model"));
    EXPECT_EQ(first_step_, at);
    EXPECT_EQ(Bytes("/model"), Bytes("/undisturbed"));
    ASSERT_OK(env_.Remove(kCheckpoint));
  }
}

TEST_F(SoloTrainingTest, Killed_GoesOnFromTheLastCheckpoint) {
  ASSERT_OK(Run("/undisturbed"));
  options_.checkpoint_dir = "/run";
  options_.checkpoint_every = 3;
  // What a kill at step 8 would have left.
  std::string left;
  observer_.step = [&](int64_t step, const TrainingTotals&) {
    if (step == 8) left = Bytes(kCheckpoint);
  };
  ASSERT_OK(Run("/model"));
  EXPECT_EQ(Bytes("/model"), Bytes("/undisturbed"));
  ASSERT_OK(WriteFileAtomically(&env_, kCheckpoint, left));
  observer_.step = nullptr;
  ASSERT_OK(Run("/again"));
  EXPECT_EQ(first_step_, 6);
  EXPECT_EQ(Bytes("/again"), Bytes("/undisturbed"));
}

TEST_F(SoloTrainingTest, FullDisk_EndsItAndKeepsTheCheckpointBefore) {
  ASSERT_OK(Run("/undisturbed"));
  FaultInjectingEnv faulty(&env_);
  used_ = &faulty;
  options_.checkpoint_dir = "/run";
  options_.checkpoint_every = 3;
  std::string before;
  int64_t steps = 0;
  observer_.step = [&](int64_t step, const TrainingTotals&) {
    steps = step;
    if (step != 7) return;
    before = Bytes(kCheckpoint);
    faulty.FillDisk();
  };
  EXPECT_THAT(Run("/model"), StatusIs(absl::StatusCode::kResourceExhausted,
                                      HasSubstr(kCheckpoint)));
  EXPECT_EQ(steps, 9);
  EXPECT_EQ(Bytes(kCheckpoint), before);
  EXPECT_FALSE(env_.Exists("/model"));
  // Half a checkpoint would take what room is left.
  ASSERT_OK_AND_ASSIGN(const auto left, env_.List("/run"));
  EXPECT_THAT(left, ElementsAre("checkpoint.safetensors"));
  // Whoever stops it then hears of the disk, not that it may go on from here.
  observer_.step = [this](int64_t, const TrainingTotals&) { stop_ = true; };
  EXPECT_THAT(Run("/model"), StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(Bytes(kCheckpoint), before);
  stop_ = false;
  observer_.step = nullptr;
  faulty.StopFailing();
  ASSERT_OK(Run("/model"));
  EXPECT_EQ(first_step_, 6);
  EXPECT_EQ(Bytes("/model"), Bytes("/undisturbed"));
}

// The machine dies at each operation in turn of the second checkpoint.
TEST_F(SoloTrainingTest, DiesAnywhereInACheckpoint_GoesOnFromItOrTheOneBefore) {
  ASSERT_OK(Run("/undisturbed"));
  const std::string undisturbed = Bytes("/undisturbed");
  ASSERT_OK(env_.SyncDir("/"));
  options_.checkpoint_dir = "/run";
  options_.checkpoint_every = 5;
  bool saved = false;
  for (int64_t k = 1; !saved; ++k) {
    ASSERT_LT(k, 100);
    FaultInjectingEnv faulty(&env_);
    used_ = &faulty;
    observer_.step = [&](int64_t step, const TrainingTotals&) {
      if (step == 9) faulty.FailAllFrom(k, absl::DataLossError("power"));
      saved = saved || step == 11;
    };
    // If not in this checkpoint, then in a later one.
    EXPECT_THAT(Run("/model"), StatusIs(absl::StatusCode::kDataLoss));
    env_.CrashAndLoseUnsynced();
    used_ = &env_;
    stop_ = false;
    observer_.step = nullptr;
    ASSERT_OK(Run("/model")) << "operation " << k;
    EXPECT_THAT(first_step_, testing::AnyOf(saved ? 10 : 5, 10))
        << "operation " << k;
    EXPECT_EQ(Bytes("/model"), undisturbed) << "operation " << k;
    ASSERT_OK(env_.Remove(kCheckpoint));
    ASSERT_OK(env_.SyncDir("/run"));
  }
}

TEST_F(SoloTrainingTest, DoneAndRunAgain_OnlyMeasures) {
  options_.checkpoint_dir = "/run";
  ASSERT_OK(Run("/model"));
  const double loss = last_.held_out->MeanLoss();
  int64_t steps = 0;
  observer_.step = [&](int64_t, const TrainingTotals&) { ++steps; };
  ASSERT_OK(Run("/again"));
  EXPECT_EQ(steps, 0);
  EXPECT_EQ(last_.held_out->MeanLoss(), loss);
  EXPECT_EQ(Bytes("/again"), Bytes("/model"));
}

TEST_F(SoloTrainingTest, MoreSteps_GoOnFromTheEnd) {
  options_.checkpoint_dir = "/run";
  ASSERT_OK(Run("/model"));
  job_.mutable_training()->set_steps(25);
  ASSERT_OK(Run("/longer"));
  EXPECT_EQ(first_step_, 20);
  EXPECT_EQ(last_.step, 25);
  job_.mutable_training()->set_steps(24);
  EXPECT_THAT(Failure(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("at most 24 steps")));
}

TEST_F(SoloTrainingTest, CheckpointOfAnotherTraining_IsRefused) {
  options_.checkpoint_dir = "/run";
  ASSERT_OK(Run("/model"));
  const std::string before = Bytes(kCheckpoint);
  const v1::JobSpec job = job_;
  const auto expect_refused = [this] {
    EXPECT_THAT(Failure(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                    HasSubstr("another training")));
  };
  job_.set_seed(8);
  expect_refused();
  job_ = job;
  job_.mutable_training()->set_clip_norm(1);
  expect_refused();
  job_ = job;
  const Dataset data = data_.train;
  data_.train.features.back() += 1;
  expect_refused();
  data_.train = data;
  data_.train.labels.back() = (data_.train.labels.back() + 1) % 3;
  expect_refused();
  data_.train = data;
  EXPECT_OK(Failure());
}

// The proximal term pulls towards it for as long as the training goes on.
TEST_F(SoloTrainingTest, CheckpointOfAnotherInitialModel_IsRefused) {
  job_.mutable_training()->set_proximal_mu(0.1);
  job_.set_seed(8);
  ASSERT_OK(Run("/first"));
  job_.set_seed(9);
  ASSERT_OK(Run("/second"));
  options_.checkpoint_dir = "/run";
  options_.initial_model = "/first";
  ASSERT_OK(Run("/model"));
  options_.initial_model = "/second";
  EXPECT_THAT(Failure(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("another training")));
  options_.initial_model = "/first";
  EXPECT_OK(Failure());
}

TEST_F(SoloTrainingTest, InitialModel_IsWhereItStarts) {
  ASSERT_OK(Run("/model"));
  options_.initial_model = "/model";
  job_.mutable_training()
      ->mutable_optimizer()
      ->mutable_sgd()
      ->set_learning_rate(1e-30);
  ASSERT_OK(Run("/copy"));
  EXPECT_EQ(Bytes("/copy"), Bytes("/model"));
  job_.mutable_model()->mutable_mlp()->add_hidden(2);
  EXPECT_THAT(Failure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                  HasSubstr("expected layout")));
}

TEST_F(SoloTrainingTest, ModelThatIsNotFinite_IsNotWritten) {
  // One step too long for a float; no loss is measured after it.
  for (float& feature : data_.train.features) feature *= 1e3f;
  data_.held_out = Dataset();
  auto* training = job_.mutable_training();
  training->set_steps(1);
  training->clear_schedule();
  training->mutable_optimizer()->mutable_sgd()->set_learning_rate(1e38);
  EXPECT_THAT(Run("/model"), StatusIs(absl::StatusCode::kInternal,
                                      HasSubstr("expected finite values")));
  EXPECT_FALSE(env_.Exists("/model"));
}

TEST_F(SoloTrainingTest, JobsForOthers_AreRefused) {
  const v1::JobSpec job = job_;
  const auto expect = [this](const char* error) {
    EXPECT_THAT(Failure(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  };
  job_.mutable_training()->set_external_trainer("numpy");
  expect("training.external_trainer");
  job_ = job;
  job_.mutable_training()->mutable_scaffold();
  expect("training.scaffold");
  job_ = job;
  job_.set_initial_model("other@3");
  expect("expected the file of other@3");
  job_ = job;
  options_.report_every = -1;
  expect("at least 0 steps between reports");
  options_ = {};
  data_.external = true;
  expect("found an external source");
}

TEST_F(SoloTrainingTest, ModelOverTheBound_IsRefused) {
  options_.max_model_bytes = 100;
  EXPECT_THAT(Failure(), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
