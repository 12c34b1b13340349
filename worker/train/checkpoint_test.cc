#include "worker/train/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

constexpr char kPath[] = "/run/checkpoint.safetensors";
constexpr uint64_t kNoBound = 1 << 20;

// Two tensors of five values, Adam, and a state that no field of is zero.
class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() {
    EXPECT_OK(env_.MakeDirs("/run"));
    state_.fingerprint = "f00d";
    state_.step = 17;
    state_.rates = 0.1 + 0.2;
    state_.seconds = 1.0 / 3;
    state_.since_report = {
        .loss = 2.0 / 3, .correct = 5, .labels = 12, .examples = 4};
  }

  static ModelLayout Layout() {
    auto layout =
        ModelLayout::Create({{"a", DType::kF32, {2}}, {"b", DType::kF32, {3}}});
    EXPECT_OK(layout);
    return *layout;
  }
  static std::unique_ptr<kernels::LocalOptimizer> Adam() {
    v1::Optimizer spec;
    spec.mutable_adam();
    auto optimizer = kernels::LocalOptimizer::Create(spec, 5);
    EXPECT_OK(optimizer);
    return *std::move(optimizer);
  }
  // After three steps.
  std::unique_ptr<kernels::LocalOptimizer> Stepped() {
    auto optimizer = Adam();
    const std::vector<float> gradients = {1, -2, 3, 4, -5};
    for (int i = 0; i < 3; ++i) {
      optimizer->Step(1, gradients, absl::MakeSpan(parameters_));
    }
    return optimizer;
  }
  absl::Status Write(kernels::LocalOptimizer* optimizer) {
    return WriteCheckpoint(&env_, kPath, Layout(), state_, parameters_,
                           optimizer);
  }
  absl::StatusOr<TrainingState> Read(kernels::LocalOptimizer* optimizer,
                                     const std::string& fingerprint = "f00d") {
    return ReadCheckpoint(&env_, kPath, Layout(), fingerprint, kNoBound,
                          absl::MakeSpan(restored_), optimizer);
  }

  MemoryEnv env_;
  TrainingState state_;
  std::vector<float> parameters_ = {1, 2, 3, 4, 5};
  std::vector<float> restored_ = {0, 0, 0, 0, 0};
};

TEST_F(CheckpointTest, Everything_ComesBackAsItWas) {
  const auto optimizer = Stepped();
  ASSERT_OK(Write(optimizer.get()));
  const auto other = Adam();
  ASSERT_OK_AND_ASSIGN(const TrainingState state, Read(other.get()));
  EXPECT_EQ(state.step, 17);
  EXPECT_EQ(state.rates, state_.rates);
  EXPECT_EQ(state.seconds, state_.seconds);
  EXPECT_EQ(state.since_report.loss, state_.since_report.loss);
  EXPECT_EQ(state.since_report.correct, 5);
  EXPECT_EQ(state.since_report.labels, 12);
  EXPECT_EQ(state.since_report.examples, 4);
  EXPECT_EQ(restored_, parameters_);
  EXPECT_EQ(other->steps(), 3);
  for (size_t i = 0; i < 2; ++i) {
    const auto from = optimizer->state()[i];
    EXPECT_TRUE(
        std::equal(from.begin(), from.end(), other->state()[i].begin()));
  }
}

TEST_F(CheckpointTest, NoFile_IsNotFound) {
  EXPECT_THAT(Read(Adam().get()), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(CheckpointTest, AnotherTraining_IsRefusedAndChangesNothing) {
  ASSERT_OK(Write(Stepped().get()));
  const auto other = Adam();
  EXPECT_THAT(Read(other.get(), "beef"),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("is of another training")));
  EXPECT_EQ(restored_, std::vector<float>(5, 0.0f));
  EXPECT_EQ(other->steps(), 0);
}

TEST_F(CheckpointTest, AnotherOptimizer_IsRefused) {
  ASSERT_OK(Write(Stepped().get()));
  auto sgd = kernels::LocalOptimizer::Create({}, 5);
  ASSERT_OK(sgd.status());
  EXPECT_THAT(Read(sgd->get()), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("found 15 with layout")));
}

TEST_F(CheckpointTest, MetadataThatLies_IsRefusedByName) {
  ASSERT_OK(Write(Stepped().get()));
  ASSERT_OK_AND_ASSIGN(const Model good, ReadModel(&env_, kPath, kNoBound));
  const auto expect = [&](const std::string& key, const std::string& value,
                          const std::string& error) {
    Model bad = good;
    bad.metadata[key] = value;
    if (value.empty()) bad.metadata.erase(key);
    ASSERT_OK(WriteModel(&env_, kPath, bad));
    EXPECT_THAT(Read(Adam().get()),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  };
  expect("koinon.checkpoint", "", "expected metadata \"koinon.checkpoint\"");
  expect("koinon.checkpoint", "1", "expected 2, found \"1\"");
  expect("step", "", "expected metadata \"step\"");
  expect("step", "-1", "whole number of at least 0, found \"-1\"");
  expect("optimizer_steps", "99999999999999999999", "optimizer_steps");
  expect("rates", "nan", "a finite number, found \"nan\"");
  expect("loss", "much", "a finite number, found \"much\"");
  expect("digest", "", "expected metadata \"digest\"");
}

TEST_F(CheckpointTest, AnyOtherBitInTheTensors_IsDataLoss) {
  ASSERT_OK(Write(Stepped().get()));
  ASSERT_OK_AND_ASSIGN(const std::string good,
                       ReadFile(&env_, kPath, kNoBound));
  const size_t data_bytes = 3 * parameters_.size() * sizeof(float);
  const auto other = Adam();
  for (size_t bit = 0; bit < 8 * data_bytes; ++bit) {
    std::string bad = good;
    char& byte = bad[good.size() - data_bytes + bit / 8];
    byte = static_cast<char>(byte ^ 1 << bit % 8);
    ASSERT_OK(WriteFileAtomically(&env_, kPath, bad));
    ASSERT_THAT(
        Read(other.get()),
        StatusIs(absl::StatusCode::kDataLoss,
                 HasSubstr(absl::StrCat("checkpoint ", kPath, ": is damaged"))))
        << "bit " << bit;
  }
  EXPECT_EQ(restored_, std::vector<float>(5, 0.0f));
  EXPECT_EQ(other->steps(), 0);
}

TEST_F(CheckpointTest, AnotherStepInTheMetadata_IsDataLoss) {
  ASSERT_OK(Write(Stepped().get()));
  ASSERT_OK_AND_ASSIGN(Model bad, ReadModel(&env_, kPath, kNoBound));
  bad.metadata["step"] = "18";
  ASSERT_OK(WriteModel(&env_, kPath, bad));
  EXPECT_THAT(Read(Adam().get()), StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(CheckpointTest, ParametersThatAreNotFinite_AreNotWritten) {
  const auto optimizer = Stepped();
  ASSERT_OK(Write(optimizer.get()));
  ASSERT_OK_AND_ASSIGN(const std::string good,
                       ReadFile(&env_, kPath, kNoBound));
  parameters_[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(Write(optimizer.get()),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("b[1] = nan")));
  EXPECT_THAT(ReadFile(&env_, kPath, kNoBound), IsOkAndHolds(good));
}

// A file that another program wrote, with a digest as the format has it.
TEST_F(CheckpointTest, ParametersThatAreNotFinite_AreNotTakenUp) {
  ASSERT_OK(Write(Stepped().get()));
  ASSERT_OK_AND_ASSIGN(Model file, ReadModel(&env_, kPath, kNoBound));
  file.values[1] = std::numeric_limits<float>::infinity();
  Sha256 hash;
  for (const auto& [key, value] : file.metadata) {
    if (key != "digest") hash.Update(absl::StrCat(key, "=", value, "\n"));
  }
  hash.Update(file.values.data(), file.values.size() * sizeof(float));
  file.metadata["digest"] = hash.Finish().ToHex();
  ASSERT_OK(WriteModel(&env_, kPath, file));
  EXPECT_THAT(Read(Adam().get()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a[1] = inf")));
}

TEST_F(CheckpointTest, FileOverTheBoundOrNoCheckpoint_IsRefused) {
  ASSERT_OK(Write(Stepped().get()));
  EXPECT_THAT(ReadCheckpoint(&env_, kPath, Layout(), "f00d", 8,
                             absl::MakeSpan(restored_), Adam().get()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(WriteFileAtomically(&env_, kPath, "not safetensors"));
  EXPECT_THAT(Read(Adam().get()), StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace koinon::worker
