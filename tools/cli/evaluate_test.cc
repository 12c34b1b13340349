#include "tools/cli/evaluate.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"
#include "tools/cli/job_file.h"

namespace koinon::cli {
namespace {

using ::testing::HasSubstr;

// Two features, two classes: a model that says class 1 if the first feature is
// positive, and a table of five rows of which it gets four right.
class EvaluateModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(job_, ParseJobFile("job", R"(model { input_shape: 2
                                     logistic_regression { classes: 2 } })",
                                            JobFileFormat::kText));
    ASSERT_OK_AND_ASSIGN(const auto graph,
                         kernels::ModelGraph::Build(job_.model()));
    Model model{graph.layout(), std::vector<float>(6, 0.0f), {}};
    // Either order of the weight's axes: the other feature is always zero.
    model.values = {-1, 0, 1, 0, 0, 0};
    model_path_ = ::testing::TempDir() + "/model.safetensors";
    ASSERT_OK(WriteModel(RealEnv(), model_path_, model));
    WriteTable("a,b,y\n3,0,1\n-2,0,0\n1,0,1\n-1,0,0\n5,0,0\n");
  }
  void WriteTable(const std::string& text) {
    ASSERT_OK(WriteFileAtomically(RealEnv(),
                                  ::testing::TempDir() + "/table.csv", text));
    dataset_.set_name("table");
    auto* csv = dataset_.mutable_source()->mutable_csv();
    csv->set_path(::testing::TempDir() + "/table.csv");
    csv->set_label("y");
  }
  absl::StatusOr<v1::Metrics> Evaluate() {
    return EvaluateModel(RealEnv(), model_path_, job_, dataset_, options_);
  }

  v1::JobSpec job_;
  worker::DatasetConfig dataset_;
  std::string model_path_;
  EvaluateOptions options_;
};

TEST_F(EvaluateModelTest, EveryExample_IsCounted) {
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, Evaluate());
  EXPECT_EQ(metrics.examples(), 5);
  EXPECT_TRUE(metrics.has_accuracy());
  EXPECT_DOUBLE_EQ(metrics.accuracy(), 0.8);
}

TEST_F(EvaluateModelTest, HeldOutFraction_IsNotSetAside) {
  dataset_.set_held_out_fraction(0.5);
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, Evaluate());
  EXPECT_EQ(metrics.examples(), 5);
}

TEST_F(EvaluateModelTest, HeldOutPart_CanBeMeasuredAlone) {
  dataset_.set_held_out_fraction(0.4);
  options_.held_out = true;
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, Evaluate());
  EXPECT_EQ(metrics.examples(), 2);
  dataset_.set_held_out_fraction(0);
  EXPECT_THAT(Evaluate(), StatusIs(absl::StatusCode::kFailedPrecondition,
                                   HasSubstr("no held-out part")));
}

TEST_F(EvaluateModelTest, MaxExamples_BoundsThem) {
  options_.max_examples = 2;
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, Evaluate());
  EXPECT_EQ(metrics.examples(), 2);
  EXPECT_EQ(metrics.steps(), 1);
}

TEST_F(EvaluateModelTest, LossOfTheJob_MustFitTheData) {
  job_.mutable_training()->set_loss(v1::TrainingSpec::MEAN_SQUARED_ERROR);
  EXPECT_THAT(Evaluate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("MEAN_SQUARED_ERROR")));
}

TEST_F(EvaluateModelTest, ControlVariatesAfterTheModel_AreLeftAside) {
  ASSERT_OK_AND_ASSIGN(const v1::Metrics plain, Evaluate());
  ASSERT_OK_AND_ASSIGN(Model model, ReadModel(RealEnv(), model_path_, 1 << 20));
  ASSERT_OK_AND_ASSIGN(model.layout,
                       kernels::WithControlVariates(model.layout));
  model.values.resize(12, 7.0f);
  ASSERT_OK(WriteModel(RealEnv(), model_path_, model));
  ASSERT_OK_AND_ASSIGN(const v1::Metrics extended, Evaluate());
  EXPECT_EQ(extended.loss(), plain.loss());
  EXPECT_EQ(extended.accuracy(), plain.accuracy());
}

TEST_F(EvaluateModelTest, ModelOfAnotherJob_IsRefused) {
  job_.mutable_model()->mutable_logistic_regression()->set_classes(3);
  EXPECT_THAT(Evaluate(), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("6 values")));
}

TEST_F(EvaluateModelTest, DataOfAnotherShape_AreRefused) {
  WriteTable("a,b,c,y\n3,0,0,1\n");
  EXPECT_THAT(Evaluate(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected examples of shape [2], as the "
                                 "model has it, found [3]")));
}

TEST_F(EvaluateModelTest, ModelOverTheBound_IsRefused) {
  options_.max_model_bytes = 4;
  EXPECT_THAT(Evaluate(), StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::cli
