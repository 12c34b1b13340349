#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "kernels/graph/control_variates.h"
#include "worker/data/testdata.h"
#include "worker/store/control_store.h"
#include "worker/train/native_trainer.h"
#include "worker/train/testtask.h"

// Training with control variates, one task at a time. tests/integration has
// whole rounds against a reference.

namespace koinon::worker {
namespace {

using testdata::TempPath;
using ::testing::Each;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::Pointwise;
using testtask::ReadFloats;

class NativeTrainerScaffoldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto controls = ControlStore::Open(&disk_, "/controls", {});
    ASSERT_OK(controls);
    controls_ = *std::move(controls);
    NativeTrainer::Options options;
    options.controls = controls_.get();
    trainer_ = std::make_unique<NativeTrainer>(RealEnv(), &clock_, &datasets_,
                                               options);
    offer_.set_job_submitted_ms(17);
    plain_path_ = testtask::WriteBase(&plain_);
    offer_.mutable_training()->mutable_scaffold();
    WriteBase(0);
  }

  // A version whose control variate is `control` everywhere.
  void WriteBase(float control) {
    Model model = testtask::InitialModel(offer_.model());
    parameters_ = model.values.size();
    const auto layout = kernels::WithControlVariates(model.layout);
    ASSERT_OK(layout);
    model_layout_ = model.layout;
    model.layout = *layout;
    model.values.resize(2 * parameters_, control);
    offer_.set_layout_hash(layout->hash().ToBytes());
    base_path_ = TempPath("extended.safetensors");
    ASSERT_OK(WriteModel(RealEnv(), base_path_, model));
  }

  absl::StatusOr<v1::Metrics> Train() {
    return trainer_->Train(offer_, base_path_, TempPath("update"), nullptr,
                           stop_);
  }
  // The halves of what Train left.
  std::vector<float> ModelHalf() const {
    std::vector<float> update = ReadFloats(TempPath("update"));
    EXPECT_EQ(update.size(), 2 * parameters_);
    update.resize(parameters_);
    return update;
  }
  std::vector<float> ControlHalf() const {
    const std::vector<float> update = ReadFloats(TempPath("update"));
    return {update.begin() + static_cast<int64_t>(parameters_), update.end()};
  }
  std::vector<float> PlainUpdate() {
    EXPECT_OK(trainer_->Train(plain_, plain_path_, TempPath("plain"), nullptr,
                              stop_));
    return ReadFloats(TempPath("plain"));
  }
  // Makes this worker's control variate `value` everywhere.
  void SetOwn(float value) {
    ASSERT_OK(controls_->Read({"blobs-1", 17}, model_layout_));
    std::vector<float> update(2 * parameters_, value);
    auto file = disk_.Open("/update", Env::OpenMode::kCreate);
    ASSERT_OK(file);
    ASSERT_OK((*file)->WriteAt(0, update.data(), update.size() * 4));
    ASSERT_OK(controls_->Include({"blobs-1", 1, TaskId::Kind::kTrain}, **file));
  }

  ManualClock clock_{absl::UnixEpoch()};
  LocalDatasets datasets_ = testtask::BlobDatasets();
  MemoryEnv disk_;
  std::unique_ptr<ControlStore> controls_;
  std::unique_ptr<NativeTrainer> trainer_;
  v1::OfferTask offer_ = testtask::BlobOffer();
  v1::OfferTask plain_ = testtask::BlobOffer();
  std::string base_path_, plain_path_;
  ModelLayout model_layout_;
  size_t parameters_ = 0;
  const std::atomic<bool> stop_{false};
};

TEST_F(NativeTrainerScaffoldTest, ControlsZero_ModelHalfIsPlainSgdsBitForBit) {
  ASSERT_OK(Train());
  EXPECT_EQ(ModelHalf(), PlainUpdate());
}

// c_i+ = (x - y) / (K eta), here K = 65 and eta = 0.1.
TEST_F(NativeTrainerScaffoldTest, ControlsZero_ControlHalfIsTheMeanGradient) {
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, Train());
  ASSERT_EQ(metrics.steps(), 65);
  std::vector<float> expected = ModelHalf();
  for (float& value : expected) value /= -6.5f;
  // Two roundings in float.
  EXPECT_THAT(ControlHalf(), Pointwise(FloatNear(1e-6f), expected));
}

// Equal control variates cancel in the steps; the mean gradient is the same,
// and the difference is to the worker's own.
TEST_F(NativeTrainerScaffoldTest, EqualControls_CancelInTheSteps) {
  WriteBase(0.5f);
  SetOwn(0.5f);
  offer_.mutable_task()->set_round(2);
  ASSERT_OK(Train());
  EXPECT_EQ(ModelHalf(), PlainUpdate());
  std::vector<float> expected = ModelHalf();
  for (float& value : expected) value = value / -6.5f - 0.5f;
  EXPECT_THAT(ControlHalf(), Pointwise(FloatNear(1e-6f), expected));
}

// Without a gradient (no features, a single class) every step is
// -eta (c - c_i).
TEST_F(NativeTrainerScaffoldTest, Correction_IsServerMinusOwn) {
  Dataset& data = datasets_["blobs"].train;
  data.features.assign(data.features.size(), 0);
  data.labels.assign(data.labels.size(), 0);
  auto* model = offer_.mutable_model();
  model->mutable_logistic_regression()->set_classes(1);
  WriteBase(0.75f);
  SetOwn(0.5f);
  offer_.mutable_training()->set_epochs(0);
  offer_.mutable_training()->set_steps(4);
  auto* schedule = offer_.mutable_training()->mutable_schedule();
  schedule->mutable_step()->set_every(2);
  schedule->mutable_step()->set_factor(0.5);
  ASSERT_OK(Train());
  // Rates 0.1, 0.1, 0.05, 0.05.
  EXPECT_THAT(ModelHalf(), Each(FloatNear(-0.3f * 0.25f, 1e-6f)));
  // c_i+ is the mean gradient, which is zero.
  EXPECT_THAT(ControlHalf(), Each(FloatNear(-0.5f, 1e-5f)));
}

TEST_F(NativeTrainerScaffoldTest, ScheduleAtRest_ChangesNothing) {
  WriteBase(0.5f);
  auto* schedule = offer_.mutable_training()->mutable_schedule();
  schedule->set_per_round(true);
  schedule->mutable_cosine()->set_steps(3);
  offer_.mutable_task()->set_round(10);
  ASSERT_OK(Train());
  EXPECT_THAT(ModelHalf(), Each(0.0f));
  EXPECT_THAT(ControlHalf(), Each(0.0f));
}

TEST_F(NativeTrainerScaffoldTest, Training_LeavesTheStoredControlAlone) {
  ASSERT_OK(Train());
  EXPECT_THAT(controls_->Read({"blobs-1", 17}, model_layout_),
              IsOkAndHolds(Each(0.0f)));
}

TEST_F(NativeTrainerScaffoldTest, Evaluation_LooksAtTheModelAlone) {
  ASSERT_OK_AND_ASSIGN(const v1::Metrics plain,
                       trainer_->Evaluate(plain_, plain_path_, stop_));
  WriteBase(123);
  ASSERT_OK_AND_ASSIGN(const v1::Metrics extended,
                       trainer_->Evaluate(offer_, base_path_, stop_));
  EXPECT_EQ(extended.loss(), plain.loss());
  EXPECT_EQ(extended.accuracy(), plain.accuracy());
}

TEST_F(NativeTrainerScaffoldTest, PlainVersion_IsRefused) {
  offer_.set_layout_hash(plain_.layout_hash());
  base_path_ = plain_path_;
  EXPECT_THAT(Train(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("expected layout")));
}

TEST_F(NativeTrainerScaffoldTest, WorkerWithoutControls_SaysSo) {
  NativeTrainer without(RealEnv(), &clock_, &datasets_, {});
  EXPECT_THAT(
      without.Train(offer_, base_path_, TempPath("update"), nullptr, stop_),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("keeps no control variates")));
}

TEST_F(NativeTrainerScaffoldTest, Momentum_IsRefused) {
  offer_.mutable_training()->mutable_optimizer()->mutable_sgd()->set_momentum(
      0.9);
  EXPECT_THAT(Train(), StatusIs(absl::StatusCode::kInvalidArgument,
                                HasSubstr("momentum is 0.9")));
}

}  // namespace
}  // namespace koinon::worker
