#include "worker/train/native_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "kernels/bfloat16.h"
#include "worker/data/testdata.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;
using testing::HasSubstr;
using testtask::ReadFloats;

class NativeTrainerTest : public testing::Test {
 protected:
  NativeTrainerTest() : base_path_(testtask::WriteBase(&offer_)) {}

  absl::StatusOr<v1::Metrics> Train(const std::string& update = "update") {
    return trainer_.Train(offer_, base_path_, TempPath(update), progress_,
                          stop_);
  }
  absl::StatusOr<v1::Metrics> Evaluate(const std::string& model_path) {
    return trainer_.Evaluate(offer_, model_path, stop_);
  }
  absl::Status TrainFailure() { return Train().status(); }

  // base + update, as the coordinator would publish it.
  std::string Publish() {
    auto model = ReadModel(RealEnv(), base_path_, 1 << 20);
    EXPECT_OK(model);
    const std::vector<float> update = ReadFloats(TempPath("update"));
    for (size_t i = 0; i < update.size(); ++i) model->values[i] += update[i];
    const std::string path = TempPath("published.safetensors");
    EXPECT_OK(WriteModel(RealEnv(), path, *model));
    return path;
  }

  ManualClock clock_{absl::UnixEpoch()};
  LocalDatasets datasets_ = testtask::BlobDatasets();
  NativeTrainer trainer_{RealEnv(), &clock_, &datasets_, {}};
  v1::OfferTask offer_ = testtask::BlobOffer();
  std::string base_path_;
  ProgressCallback progress_;
  std::atomic<bool> stop_{false};
};

double Norm(const std::vector<float>& values) {
  double sum = 0;
  for (float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

TEST_F(NativeTrainerTest, SeparableBlobs_AreLearned) {
  ASSERT_OK_AND_ASSIGN(const v1::Metrics before, Evaluate(base_path_));
  ASSERT_OK_AND_ASSIGN(const v1::Metrics training, Train());
  ASSERT_OK_AND_ASSIGN(const v1::Metrics after, Evaluate(Publish()));
  // The centres are 13 standard deviations apart: next to nothing overlaps.
  EXPECT_GT(after.accuracy(), 0.95);
  EXPECT_LT(after.loss(), 0.2);
  EXPECT_LT(after.loss(), before.loss());
  EXPECT_EQ(after.examples(), 90);

  EXPECT_EQ(training.examples(), 200);
  EXPECT_EQ(training.steps(), 5 * 13);
  EXPECT_TRUE(training.has_accuracy());
  EXPECT_GT(training.accuracy(), 0.95);
}

TEST_F(NativeTrainerTest, SameSeed_GivesTheSameBytes) {
  offer_.mutable_model()->clear_logistic_regression();
  offer_.mutable_model()->mutable_mlp()->add_hidden(8);
  offer_.mutable_model()->mutable_mlp()->set_classes(3);
  base_path_ = testtask::WriteBase(&offer_);
  ASSERT_OK(Train("one"));
  ASSERT_OK(Train("again"));
  EXPECT_EQ(ReadFloats(TempPath("one")), ReadFloats(TempPath("again")));

  // Nor does it matter what the cached networks did before.
  NativeTrainer fresh(RealEnv(), &clock_, &datasets_, {});
  ASSERT_OK(fresh.Train(offer_, base_path_, TempPath("fresh"), nullptr, stop_));
  EXPECT_EQ(ReadFloats(TempPath("one")), ReadFloats(TempPath("fresh")));

  offer_.set_seed(8);
  ASSERT_OK(Train("other"));
  EXPECT_NE(ReadFloats(TempPath("one")), ReadFloats(TempPath("other")));
}

TEST_F(NativeTrainerTest, ProximalTerm_PullsTowardsTheBase) {
  double previous = std::numeric_limits<double>::infinity();
  for (double mu : {0.0, 0.1, 1.0, 5.0}) {
    offer_.mutable_training()->set_proximal_mu(mu);
    ASSERT_OK(Train());
    const double distance = Norm(ReadFloats(TempPath("update")));
    EXPECT_LT(distance, previous) << mu;
    EXPECT_GT(distance, 0);
    previous = distance;
  }
}

TEST_F(NativeTrainerTest, Clipping_BoundsTheUpdate) {
  offer_.mutable_training()->set_epochs(0);
  offer_.mutable_training()->set_steps(4);
  offer_.mutable_training()->set_clip_norm(1e-3);
  ASSERT_OK(Train());
  // Four steps of at most learning rate times norm, and the rounding of adding
  // them to parameters of up to 1.1 (sqrt(6 / 5)): half an ulp, 6e-8, each for
  // 9 parameters and 4 steps.
  EXPECT_LE(Norm(ReadFloats(TempPath("update"))), 4 * 0.1 * 1e-3 + 4e-7 * 3);
  EXPECT_GT(Norm(ReadFloats(TempPath("update"))), 0);
}

TEST_F(NativeTrainerTest, SchedulePerRound_FollowsTheRound) {
  auto* schedule = offer_.mutable_training()->mutable_schedule();
  schedule->mutable_step()->set_every(1);
  schedule->mutable_step()->set_factor(0.01);
  schedule->set_per_round(true);
  ASSERT_OK(Train("round1"));
  offer_.mutable_task()->set_round(2);
  ASSERT_OK(Train("round2"));
  EXPECT_LT(Norm(ReadFloats(TempPath("round2"))),
            0.1 * Norm(ReadFloats(TempPath("round1"))));
}

TEST_F(NativeTrainerTest, Progress_RisesToOne) {
  std::vector<double> fractions;
  progress_ = [&](double fraction, double loss) {
    EXPECT_TRUE(std::isfinite(loss));
    fractions.push_back(fraction);
  };
  ASSERT_OK(Train());
  EXPECT_TRUE(std::is_sorted(fractions.begin(), fractions.end()));
  EXPECT_GE(fractions.size(), 20u);
  EXPECT_LE(fractions.size(), 25u);
  EXPECT_LE(fractions.back(), 1);
}

TEST_F(NativeTrainerTest, Stop_EndsTrainingAndEvaluation) {
  progress_ = [this](double, double) { stop_ = true; };
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kCancelled));
  EXPECT_THAT(Evaluate(base_path_), StatusIs(absl::StatusCode::kCancelled));
}

TEST_F(NativeTrainerTest, LossThatIsNotFinite_SaysTheStep) {
  offer_.mutable_training()
      ->mutable_optimizer()
      ->mutable_sgd()
      ->set_learning_rate(1e38);
  EXPECT_THAT(TrainFailure(),
              StatusIs(absl::StatusCode::kInternal,
                       testing::MatchesRegex(
                           "loss became (NaN|infinite) at step [0-9]+")));
}

TEST_F(NativeTrainerTest, Regression_IsLearned) {
  // y = 2 a - b + 1.
  Dataset& data = datasets_["blobs"].train;
  data.labels.clear();
  data.target_size = 1;
  for (size_t i = 0; i < 200; ++i) {
    data.targets.push_back(2 * data.features[2 * i] - data.features[2 * i + 1] +
                           1);
  }
  datasets_["blobs"].held_out = data;
  offer_.mutable_model()->mutable_logistic_regression()->set_classes(1);
  offer_.mutable_training()->set_loss(v1::TrainingSpec::MEAN_SQUARED_ERROR);
  offer_.mutable_training()
      ->mutable_optimizer()
      ->mutable_sgd()
      ->set_learning_rate(0.02);
  offer_.mutable_training()->set_epochs(30);
  base_path_ = testtask::WriteBase(&offer_);
  ASSERT_OK(Train());
  ASSERT_OK_AND_ASSIGN(const v1::Metrics after, Evaluate(Publish()));
  EXPECT_FALSE(after.has_accuracy());
  EXPECT_LT(after.loss(), 1e-3);
}

// A text that repeats itself every five tokens, and a small GPT on it.
TEST_F(NativeTrainerTest, SequencesOfTokens_AreLearned) {
  std::vector<uint16_t> text;
  for (int i = 0; i < 600; ++i) text.push_back(static_cast<uint16_t>(i % 5));
  Dataset data;
  data.name = "blobs";
  data.shape = {8};
  data.windows.tokens = MakeTokens(std::move(text));
  data.windows.end = 600;
  data.windows.context = 8;
  data.windows.stride = 3;
  data.windows.vocabulary = 5;
  datasets_["blobs"].train = datasets_["blobs"].held_out = data;
  auto* model = offer_.mutable_model();
  model->set_input_shape(0, 8);
  model->mutable_gpt()->set_vocabulary(5);
  model->mutable_gpt()->set_layers(1);
  model->mutable_gpt()->set_heads(2);
  model->mutable_gpt()->set_width(8);
  offer_.mutable_training()
      ->mutable_optimizer()
      ->mutable_adamw()
      ->set_learning_rate(0.02);
  base_path_ = testtask::WriteBase(&offer_);
  ASSERT_OK_AND_ASSIGN(const v1::Metrics before, Evaluate(base_path_));
  // Knowing nothing; weights start small, so that logits are next to zero.
  EXPECT_NEAR(before.loss(), std::log(5.0), 0.05);
  ASSERT_OK(Train());
  ASSERT_OK_AND_ASSIGN(const v1::Metrics after, Evaluate(Publish()));
  EXPECT_EQ(after.examples(), 198);
  EXPECT_GT(after.accuracy(), 0.95);
  EXPECT_LT(after.loss(), 0.5);
}

TEST_F(NativeTrainerTest, Bfloat16_IsUsedOrRefusedByTheProcessor) {
  offer_.mutable_training()->set_precision(
      v1::TrainingSpec::BFLOAT16_OR_FLOAT32);
  ASSERT_OK_AND_ASSIGN(const v1::Metrics either, Train());
  EXPECT_EQ(either.bfloat16(), kernels::HasBfloat16());
  EXPECT_GT(either.accuracy(), 0.95);
  offer_.mutable_training()->set_precision(v1::TrainingSpec::BFLOAT16);
  if (kernels::HasBfloat16()) {
    EXPECT_OK(TrainFailure());
  } else {
    EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("avx512_bf16")));
  }
  offer_.mutable_training()->set_precision(v1::TrainingSpec::FLOAT32);
  ASSERT_OK_AND_ASSIGN(const v1::Metrics single, Train());
  EXPECT_FALSE(single.bfloat16());
  // Products with 8 bits of mantissa, over 65 steps.
  EXPECT_NEAR(single.loss(), either.loss(), 0.02);
}

TEST_F(NativeTrainerTest, UnknownDataset_ListsTheKnown) {
  offer_.set_dataset("faces");
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kNotFound,
                                       HasSubstr("it has: blobs")));
}

TEST_F(NativeTrainerTest, NoHeldOutPart_CannotBeEvaluated) {
  datasets_["blobs"].held_out = Dataset();
  EXPECT_THAT(Evaluate(base_path_),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_F(NativeTrainerTest, ExternalDataset_IsRefused) {
  datasets_["blobs"].external = true;
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("external trainer")));
}

TEST_F(NativeTrainerTest, DataThatDoesNotFit_SaysHow) {
  Dataset& data = datasets_["blobs"].train;
  data.labels[5] = 3;
  EXPECT_THAT(TrainFailure(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected classes below 3, as the model has "
                                 "them, found 3")));
  data.labels[5] = 0;
  data.shape = {1, 1, 2};
  EXPECT_OK(TrainFailure()) << "a flat model takes any shape of that size";
  data.shape = {1};
  data.features.resize(200);
  EXPECT_THAT(TrainFailure(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected examples of shape [2], as the "
                                 "model has it, found [1]")));
}

TEST_F(NativeTrainerTest, LossThatDoesNotFit_SaysHow) {
  offer_.mutable_training()->set_loss(v1::TrainingSpec::MEAN_SQUARED_ERROR);
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("found classes")));
}

TEST_F(NativeTrainerTest, AnotherLayout_IsRefused) {
  const std::string small = base_path_;
  offer_.mutable_model()->mutable_logistic_regression()->set_classes(4);
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("expected layout")));
  // The offer and its model agree, the file is another's.
  testtask::WriteBase(&offer_);
  const Model three = testtask::InitialModel(testtask::BlobOffer().model());
  ASSERT_OK(WriteModel(RealEnv(), base_path_, three));
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("expected layout")));
}

TEST_F(NativeTrainerTest, FieldsOutOfRange_AreRefusedByName) {
  offer_.mutable_training()->set_proximal_mu(-1);
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("training.proximal_mu")));
  offer_.mutable_training()->set_proximal_mu(0);
  offer_.mutable_training()->set_clip_norm(
      std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("training.clip_norm")));
  offer_.mutable_training()->set_clip_norm(0);
  offer_.mutable_training()->mutable_schedule()->set_warmup_steps(-1);
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(NativeTrainerTest, HugeModels_AreRefusedBeforeAllocation) {
  auto* mlp = offer_.mutable_model()->mutable_mlp();
  mlp->set_classes(3);
  mlp->add_hidden(int64_t{1} << 36);
  const auto graph = kernels::ModelGraph::Build(offer_.model());
  ASSERT_OK(graph);
  offer_.set_layout_hash(graph->layout().hash().ToBytes());
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kResourceExhausted,
                                       HasSubstr("bytes of parameters")));
}

TEST_F(NativeTrainerTest, SmallModelWithHugeOutputs_IsRefused) {
  // One parameter a channel, and an output of the whole image for each.
  constexpr int64_t kSide = 1000;
  Dataset& data = datasets_["blobs"].train;
  data = Dataset();
  data.name = "blobs";
  data.shape = {1, kSide, kSide};
  data.features.assign(kSide * kSide, 0);
  data.labels = {0};
  auto* model = offer_.mutable_model();
  model->clear_input_shape();
  for (int64_t extent : data.shape) model->add_input_shape(extent);
  auto* layers = model->mutable_layers();
  auto* conv = layers->add_layers()->mutable_conv2d();
  conv->set_channels(10'000);
  conv->set_kernel(1);
  auto* pool = layers->add_layers()->mutable_max_pool();
  pool->set_kernel(kSide);
  layers->add_layers()->mutable_flatten();
  layers->add_layers()->mutable_dense()->set_units(2);
  base_path_ = testtask::WriteBase(&offer_);
  EXPECT_THAT(TrainFailure(), StatusIs(absl::StatusCode::kResourceExhausted,
                                       HasSubstr("layers' outputs")));
}

}  // namespace
}  // namespace koinon::worker
