#include "coordinator/jobs/job_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kMinimal[] = R"pb(
  name: "digits-1"
  dataset: "digits"
  rounds: 3
  model {
    input_shape: 64
    logistic_regression { classes: 10 }
  }
)pb";

// The minimal job with more text after it (later scalars win).
v1::JobSpec MakeSpec(const std::string& more = "") {
  v1::JobSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kMinimal, &spec));
  v1::JobSpec rest;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(more, &rest))
      << more;
  spec.MergeFrom(rest);
  return spec;
}

TEST(ValidateJobSpecTest, Minimal_GetsEveryDefault) {
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec, ValidateJobSpec(MakeSpec()));
  v1::JobSpec expected = MakeSpec(R"pb(
    training {
      epochs: 1
      batch_size: 32
      optimizer { sgd { learning_rate: 0.1 } }
      schedule { constant {} }
      loss: SOFTMAX_CROSS_ENTROPY
      precision: FLOAT32
    }
    cohort { minimum: 1 over_selection: 1 deadline_seconds: 600 retries: 3 }
    aggregation { fedavg { arithmetic: DOUBLE } }
    evaluation { every_rounds: 1 deadline_seconds: 120 }
  )pb");
  EXPECT_EQ(spec.training().DebugString(), expected.training().DebugString());
  EXPECT_EQ(spec.cohort().DebugString(), expected.cohort().DebugString());
  EXPECT_EQ(spec.aggregation().DebugString(),
            expected.aggregation().DebugString());
  EXPECT_EQ(spec.evaluation().DebugString(),
            expected.evaluation().DebugString());
  EXPECT_EQ(spec.name(), "digits-1");
  EXPECT_EQ(spec.rounds(), 3);
}

TEST(ValidateJobSpecTest, Adam_GetsItsDefaults) {
  ASSERT_OK_AND_ASSIGN(
      const v1::JobSpec spec,
      ValidateJobSpec(MakeSpec("training { optimizer { adamw {} } }")));
  const auto& adamw = spec.training().optimizer().adamw();
  EXPECT_EQ(adamw.learning_rate(), 0.001);
  EXPECT_EQ(adamw.beta1(), 0.9);
  EXPECT_EQ(adamw.beta2(), 0.999);
  EXPECT_EQ(adamw.epsilon(), 1e-8);
}

TEST(ValidateJobSpecTest, Minimum_IsWhatTheRuleNeedsUnlessSaid) {
  // Krum: n >= 2 f + 3.
  ASSERT_OK_AND_ASSIGN(
      v1::JobSpec spec,
      ValidateJobSpec(MakeSpec("aggregation { krum { f: 2 } }")));
  EXPECT_EQ(spec.cohort().minimum(), 7);
  ASSERT_OK_AND_ASSIGN(
      spec, ValidateJobSpec(MakeSpec("aggregation { krum { f: 2 } } "
                                     "cohort { target: 20 minimum: 9 }")));
  EXPECT_EQ(spec.cohort().minimum(), 9);
}

TEST(ValidateJobSpecTest, AdaptiveOptimizers_GetTheirVariant) {
  ASSERT_OK_AND_ASSIGN(const v1::JobSpec spec,
                       ValidateJobSpec(MakeSpec(
                           "aggregation { server_optimizer { fedyogi {} } }")));
  EXPECT_EQ(spec.aggregation().server_optimizer().fedyogi().variant(),
            v1::ServerOptimizer::Adaptive::PAPER);
}

// Each must be accepted, and come out the same when validated again.
TEST(ValidateJobSpecTest, GoodSpecs_AreAcceptedAndStayAsTheyAre) {
  const std::string good[] = {
      "",
      "training { steps: 100 }",
      "training { epochs: 0.5 batch_size: 1 }",
      "training { optimizer { sgd { momentum: 0.9 nesterov: true } } }",
      "training { optimizer { adam { beta1: 0.5 weight_decay: 0.01 } } }",
      "training { schedule { step { every: 10 factor: 0.5 } } }",
      "training { schedule { cosine { steps: 9 } warmup_steps: 3 } }",
      "training { schedule { per_round: true constant {} } }",
      "training { loss: MEAN_SQUARED_ERROR }",
      "training { proximal_mu: 0.01 clip_norm: 1 }",
      "training { precision: BFLOAT16 site_steps: 8 }",
      "training { precision: BFLOAT16_OR_FLOAT32 }",
      "training { external_trainer: \"numpy\" "
      "parameters { key: \"depth\" value: \"3\" } }",
      "cohort { target: 10 minimum: 10 over_selection: 1.3 }",
      "cohort { minimum: 5 deadline_seconds: 0.5 retries: 1 }",
      "aggregation { fedavg { uniform: true } }",
      "aggregation { krum { f_fraction: 0.4 } } cohort { target: 9 }",
      "aggregation { krum { f_fraction: 0.4 } } cohort { target: 8 } "
      "buffer { size: 7 }",
      "aggregation { max_weight: 100 }",
      "aggregation { server_optimizer { fedadam {} } }",
      "aggregation { server_optimizer { fedyogi { variant: FLOWER } } }",
      "aggregation { server_optimizer { diloco { momentum: 0.8 } } }",
      "evaluation { every_rounds: -7 }",
      "evaluation { every_rounds: 5 deadline_seconds: 10 }",
      "stop { metric: \"accuracy\" threshold: 0.97 }",
      "stop { metric: \"loss\" threshold: 0.1 patience: 5 }",
      "stop { metric: \"loss\" patience: 1 }",
      "training { loss: MEAN_SQUARED_ERROR } "
      "stop { metric: \"loss\" patience: 2 }",
      "priority: -100 seed: 18446744073709551615",
      "initial_model: \"other-job@0\"",
  };
  for (const std::string& text : good) {
    const auto once = ValidateJobSpec(MakeSpec(text));
    ASSERT_OK(once) << text;
    const auto twice = ValidateJobSpec(*once);
    ASSERT_OK(twice) << text;
    EXPECT_EQ(once->SerializeAsString(), twice->SerializeAsString()) << text;
  }
}

struct BadSpec {
  std::string text;
  std::string field;     // named in the message
  std::string found;     // what it holds
  std::string expected;  // what is allowed
};

TEST(ValidateJobSpecTest, BadSpecs_AreRefusedByFieldValueAndRange) {
  const BadSpec bad[] = {
      {"name: \"Has Capitals\"", "name", "", ""},
      {"name: \"../etc\"", "name", "", ""},
      {"dataset: \"with space\"", "dataset", "", ""},
      {"rounds: -1", "rounds", "-1", "1 to 1000000"},
      {"rounds: 1000001", "rounds", "1000001", "1 to 1000000"},
      {"priority: 101", "priority", "101", "-100 to 100"},
      {"model { logistic_regression { classes: -3 } }", "model", "-3", ""},
      {"model { input_shape: 0 }", "model", "0", ""},

      {"training { epochs: 1 steps: 5 }", "training.epochs", "steps is 5",
       "one of the two"},
      {"training { epochs: -1 }", "training.epochs", "-1", "0 to 10000"},
      {"training { epochs: nan }", "training.epochs", "nan", "0 to 10000"},
      {"training { epochs: inf }", "training.epochs", "inf", "0 to 10000"},
      {"training { steps: -5 }", "training.steps", "-5", "0 to 1000000000"},
      {"training { batch_size: -32 }", "training.batch_size", "-32",
       "1 to 1048576"},
      {"training { batch_size: 2000000 }", "training.batch_size", "2000000",
       "1 to 1048576"},
      {"training { proximal_mu: -0.1 }", "training.proximal_mu", "-0.1", "0"},
      {"training { proximal_mu: nan }", "training.proximal_mu", "nan", "0"},
      {"training { clip_norm: -1 }", "training.clip_norm", "-1", "0"},
      {"training { clip_norm: inf }", "training.clip_norm", "inf", "0"},
      {"training { loss: 77 }", "training.loss", "77",
       "SOFTMAX_CROSS_ENTROPY, MEAN_SQUARED_ERROR"},
      {"training { precision: 77 }", "training.precision", "77",
       "FLOAT32, BFLOAT16, BFLOAT16_OR_FLOAT32"},
      {"training { site_steps: -1 }", "training.site_steps", "-1", "0"},
      {"training { external_trainer: \"a/b\" }", "training.external_trainer",
       "", ""},
      {"training { parameters { key: \"a\" value: \"b\" } }",
       "training.parameters", "", "training.external_trainer"},

      {"training { optimizer { sgd { learning_rate: -0.1 } } }",
       "training.optimizer.sgd.learning_rate", "-0.1", "more than 0"},
      {"training { optimizer { sgd { learning_rate: nan } } }",
       "training.optimizer.sgd.learning_rate", "nan", "more than 0"},
      {"training { optimizer { sgd { momentum: 1 } } }",
       "training.optimizer.sgd.momentum", "1", "less than 1"},
      {"training { optimizer { sgd { nesterov: true } } }",
       "training.optimizer.sgd.nesterov", "", "momentum"},
      {"training { optimizer { sgd { weight_decay: -1 } } }",
       "training.optimizer.sgd.weight_decay", "-1", "0"},
      {"training { optimizer { adam { beta1: 1 } } }",
       "training.optimizer.adam.beta1", "1", "less than 1"},
      {"training { optimizer { adamw { beta2: -0.5 } } }",
       "training.optimizer.adamw.beta2", "-0.5", "more than 0"},
      {"training { optimizer { adam { epsilon: -1 } } }",
       "training.optimizer.adam.epsilon", "-1", "more than 0"},
      {"training { optimizer { adam { learning_rate: inf } } }",
       "training.optimizer.adam.learning_rate", "inf", "more than 0"},
      {"training { optimizer { adamw { weight_decay: nan } } }",
       "training.optimizer.adamw.weight_decay", "nan", "0"},

      {"training { schedule { warmup_steps: -1 } }",
       "training.schedule.warmup_steps", "-1", "0"},
      {"training { schedule { step { factor: 0.5 } } }",
       "training.schedule.step.every", "0", "1 to"},
      {"training { schedule { step { every: 1 } } }",
       "training.schedule.step.factor", "0", "more than 0"},
      {"training { schedule { step { every: 1 factor: 2 } } }",
       "training.schedule.step.factor", "2", "to 1"},
      {"training { schedule { cosine {} } }", "training.schedule.cosine.steps",
       "0", "1 to"},
      {"training { schedule { cosine { steps: 1 final_factor: nan } } }",
       "training.schedule.cosine.final_factor", "nan", "0 to 1"},

      {"cohort { target: -1 }", "cohort.target", "-1", "0 to 1000000"},
      {"cohort { minimum: -1 }", "cohort.minimum", "-1", "1 to 1000000"},
      {"cohort { target: 3 minimum: 4 }", "cohort.minimum", "4",
       "cohort.target 3"},
      {"cohort { target: 3 over_selection: 0.5 }", "cohort.over_selection",
       "0.5", "1 to 10"},
      {"cohort { target: 3 over_selection: nan }", "cohort.over_selection",
       "nan", "1 to 10"},
      {"cohort { over_selection: 1.5 }", "cohort.over_selection", "1.5",
       "cohort.target"},
      {"cohort { deadline_seconds: -3 }", "cohort.deadline_seconds", "-3",
       "0.1 to 2592000"},
      {"cohort { deadline_seconds: inf }", "cohort.deadline_seconds", "inf",
       "0.1 to 2592000"},
      {"cohort { retries: -1 }", "cohort.retries", "-1", "1 to 1000"},

      {"aggregation { max_weight: -1 }", "aggregation", "-1", ""},
      {"aggregation { krum { f: 2 } } cohort { minimum: 6 }", "cohort.minimum",
       "is 6", "krum with these options needs at least 7"},
      {"aggregation { bulyan { f: 1 } } cohort { target: 6 }", "cohort.target",
       "is 6", "bulyan with these options needs at least 7"},
      // 7 = 2 x 2 + 3 are enough, and so are 9; of 8, 3 attackers are too many.
      {"aggregation { krum { f_fraction: 0.4 } } cohort { target: 8 }",
       "cohort.target", "is 8", "could never be aggregated"},
      {"aggregation { krum { f_fraction: 0.4 } } cohort { target: 9 } "
       "buffer { size: 8 }",
       "buffer.size", "is 8", "could never be aggregated"},
      // More than a rule that compares all with all takes.
      {"aggregation { krum { f: 1 } } cohort { target: 1000000 }",
       "cohort.target", "is 1000000", "compares at most"},
      {"aggregation { server_optimizer {} }", "aggregation.server_optimizer",
       "empty", "fedavgm, fedadagrad, fedadam, fedyogi or diloco"},
      {"aggregation { server_optimizer { fedadam { tau: -1 } } }",
       "aggregation.server_optimizer.fedadam.tau", "-1", "> 0"},

      {"evaluation { deadline_seconds: nan }", "evaluation.deadline_seconds",
       "nan", "0.1 to"},
      {"evaluation { every_rounds: 1000001 }", "evaluation.every_rounds",
       "1000001", "-1 to 1000000"},

      {"stop { metric: \"f1\" patience: 1 }", "stop.metric", "\"f1\"",
       "accuracy or loss"},
      {"stop { metric: \"accuracy\" }", "stop.metric", "accuracy",
       "stop.threshold"},
      {"stop { threshold: 0.5 }", "stop.metric", "", "accuracy or loss"},
      {"stop { patience: 5 }", "stop.metric", "", "accuracy or loss"},
      {"stop { metric: \"accuracy\" threshold: 97 }", "stop.threshold", "97",
       "0 to 1"},
      {"stop { metric: \"loss\" threshold: -1 }", "stop.threshold", "-1",
       "0 to"},
      {"stop { metric: \"loss\" threshold: nan }", "stop.threshold", "nan",
       "0 to"},
      {"stop { metric: \"loss\" patience: -1 }", "stop.patience", "-1", "0 to"},
      {"stop { metric: \"loss\" patience: 1 } evaluation { every_rounds: -1 }",
       "stop.metric", "loss", "evaluation.every_rounds"},
      {"stop { metric: \"accuracy\" patience: 1 } "
       "training { loss: MEAN_SQUARED_ERROR }",
       "stop.metric", "accuracy", "loss"},

      {"model { gpt { vocabulary: 5 layers: 1 heads: 1 width: 4 } } "
       "training { loss: MEAN_SQUARED_ERROR }",
       "training.loss", "outputs at 64 positions", "SOFTMAX_CROSS_ENTROPY"},

      {"initial_model: \"digits\"", "initial_model", "\"digits\"",
       "JOB@VERSION"},
      {"initial_model: \"@3\"", "initial_model", "\"@3\"", "JOB@VERSION"},
      {"initial_model: \"digits@\"", "initial_model", "", "JOB@VERSION"},
      {"initial_model: \"digits@-1\"", "initial_model", "", "JOB@VERSION"},
      {"initial_model: \"digits@ 1\"", "initial_model", "", "JOB@VERSION"},
      {"initial_model: \"digits@99999999999999999999\"", "initial_model", "",
       "JOB@VERSION"},
  };
  for (const BadSpec& b : bad) {
    EXPECT_THAT(ValidateJobSpec(MakeSpec(b.text)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(b.field), HasSubstr(b.found),
                               HasSubstr(b.expected))))
        << b.text;
  }
}

TEST(ValidateJobSpecTest, MissingParts_AreNamed) {
  const std::pair<std::function<void(v1::JobSpec*)>, std::string> cases[] = {
      {[](v1::JobSpec* s) { s->clear_name(); }, "name"},
      {[](v1::JobSpec* s) { s->clear_model(); }, "model"},
      {[](v1::JobSpec* s) { s->clear_dataset(); }, "dataset"},
      {[](v1::JobSpec* s) { s->clear_rounds(); }, "rounds"},
  };
  for (const auto& [clear, field] : cases) {
    v1::JobSpec spec = MakeSpec();
    clear(&spec);
    EXPECT_THAT(ValidateJobSpec(spec),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         ::testing::StartsWith(field)));
  }
}

TEST(ValidateJobSpecTest, Parameters_AreBounded) {
  const auto with = [](const std::string& name, const std::string& value) {
    v1::JobSpec spec = MakeSpec("training { external_trainer: \"numpy\" }");
    (*spec.mutable_training()->mutable_parameters())[name] = value;
    return ValidateJobSpec(spec);
  };
  EXPECT_OK(with("depth", std::string(4096, 'x')));
  EXPECT_THAT(with("depth", std::string(4097, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("\"depth\""), HasSubstr("4096"))));
  EXPECT_THAT(with("", "x"), StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(with(std::string(65, 'x'), "x"),
              StatusIs(absl::StatusCode::kInvalidArgument));
  v1::JobSpec many = MakeSpec("training { external_trainer: \"numpy\" }");
  for (int i = 0; i < 65; ++i) {
    (*many.mutable_training()->mutable_parameters())[absl::StrCat(i)] = "x";
  }
  EXPECT_THAT(ValidateJobSpec(many),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("65 entries, expected at most 64")));
}

}  // namespace
}  // namespace koinon::coordinator
