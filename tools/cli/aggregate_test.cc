#include "tools/cli/aggregate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/server/server_optimizer.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "tools/cli/job_file.h"

namespace koinon::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

ModelLayout Layout(int64_t elements = 4) {
  auto layout = ModelLayout::Create(
      {{"w", DType::kF32, {elements - 1}}, {"b", DType::kF32, {1}}});
  EXPECT_OK(layout);
  return *layout;
}

class AggregateTest : public ::testing::Test {
 protected:
  AggregateTest() { EXPECT_OK(env_.MakeDirs("/d")); }

  // The file's path.
  std::string Write(const std::string& name, std::vector<float> values) {
    Model model;
    model.layout = Layout(static_cast<int64_t>(values.size()));
    model.values = std::move(values);
    const std::string path = absl::StrCat("/d/", name, ".safetensors");
    EXPECT_OK(WriteModel(&env_, path, model));
    return path;
  }
  std::vector<float> Values(const std::string& path) {
    auto model = ReadModel(&env_, path, 1 << 20);
    EXPECT_OK(model);
    return model.ok() ? model->values : std::vector<float>();
  }
  std::vector<std::string> Files(const std::string& dir) {
    auto files = env_.List(dir);
    return files.ok() ? *files : std::vector<std::string>();
  }

  AggregateRequest Request(const std::string& rule,
                           std::vector<std::string> updates) {
    AggregateRequest request;
    EXPECT_OK(ParseTextInto("--rule", rule, &request.spec));
    request.updates = std::move(updates);
    request.output = "/d/out.safetensors";
    return request;
  }
  // Three updates with the mean {1, 2, 3, 4}.
  std::vector<std::string> Three() {
    return {Write("c", {2, 3, 4, 5}), Write("a", {0, 1, 2, 3}),
            Write("b", {1, 2, 3, 4})};
  }

  MemoryEnv env_;
};

TEST_F(AggregateTest, FedAvg_IsTheMeanOfTheFiles) {
  ASSERT_OK_AND_ASSIGN(const AggregateOutcome outcome,
                       AggregateFiles(&env_, Request("fedavg {}", Three())));
  EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(outcome.step, 1);
  EXPECT_EQ(outcome.report.rule(), "fedavg");
  // Canonical order, whatever the command line's.
  ASSERT_EQ(outcome.report.updates_size(), 3);
  EXPECT_EQ(outcome.report.updates(0).worker(), "a");
  EXPECT_EQ(outcome.report.updates(2).worker(), "c");
}

TEST_F(AggregateTest, Weights_BelongToTheFilesAsTheyAreGiven) {
  AggregateRequest request = Request(
      "fedavg {}", {Write("z", {4, 4, 4, 4}), Write("y", {0, 0, 0, 0})});
  request.weights = {3, 1};
  ASSERT_OK(AggregateFiles(&env_, request));
  EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(3, 3, 3, 3));
}

TEST_F(AggregateTest, RuleWithoutWeights_SaysThatItUsedNone) {
  const std::vector<std::string> three = Three();
  for (const auto& [rule, uses] : {std::pair("fedavg {}", true),
                                   {"fedavg { uniform: true }", false},
                                   {"median { weighted: true }", true},
                                   {"median {}", false}}) {
    AggregateRequest request = Request(rule, three);
    request.weights = {3, 1, 2};
    ASSERT_OK_AND_ASSIGN(const AggregateOutcome outcome,
                         AggregateFiles(&env_, request));
    EXPECT_EQ(outcome.used_weights, uses) << rule;
  }
}

TEST_F(AggregateTest, Krum_SelectsAndSaysSo) {
  std::vector<std::string> updates = Three();
  updates.push_back(Write("d", {1, 2, 3, 4.5f}));
  updates.push_back(Write("evil", {-900, 900, 0, 1e6f}));
  ASSERT_OK_AND_ASSIGN(
      const AggregateOutcome outcome,
      AggregateFiles(&env_, Request("krum { f: 1 }", updates)));
  // Its two nearest are at 0.25 and 3.25; those of b at 0.25 and 4.
  EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(1, 2, 3, 4.5f));
  EXPECT_EQ(outcome.report.rule(), "krum");
  EXPECT_FALSE(outcome.report.updates(4).selected());
}

TEST_F(AggregateTest, Base_IsAddedToTheStep) {
  AggregateRequest request = Request("fedavg {}", Three());
  request.base = Write("base", {10, 20, 30, 40});
  ASSERT_OK(AggregateFiles(&env_, request));
  EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(11, 22, 33, 44));
}

TEST_F(AggregateTest, Models_AreTakenAsDifferencesToTheBase) {
  AggregateRequest request = Request(
      "fedavg {} server_optimizer { fedavgm { learning_rate: 2 "
      "momentum: 0 } }",
      Three());
  request.base = Write("base", {1, 1, 1, 1});
  request.models = true;
  ASSERT_OK(AggregateFiles(&env_, request));
  // 1 + 2 (mean - 1)
  EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(1, 3, 5, 7));
}

TEST_F(AggregateTest, State_CarriesTheOptimizerFromStepToStep) {
  AggregateRequest request =
      Request("fedavg {} server_optimizer { fedadam {} }", Three());
  request.state_dir = "/d/state";
  v1::ServerOptimizer spec;
  spec.mutable_fedadam();
  ASSERT_OK_AND_ASSIGN(const auto adam, aggregation::MakeServerOptimizer(spec));
  std::vector<float> v(4, adam->InitialState(0)), m(4, 0);
  for (int64_t step = 1; step <= 3; ++step) {
    ASSERT_OK_AND_ASSIGN(const AggregateOutcome outcome,
                         AggregateFiles(&env_, request));
    EXPECT_EQ(outcome.step, step);
    EXPECT_EQ(outcome.report.server_optimizer(), "fedadam");
    std::vector<float> expected = {1, 2, 3, 4};
    float* const state[] = {v.data(), m.data()};
    adam->Step(step, absl::MakeSpan(expected), state);
    EXPECT_EQ(Values("/d/out.safetensors"), expected);
    EXPECT_THAT(
        Files("/d/state"),
        UnorderedElementsAre(absl::StrCat(step, ".momentum.safetensors"),
                             absl::StrCat(step, ".second_moment.safetensors")));
  }
  ASSERT_OK_AND_ASSIGN(
      const Model state,
      ReadModel(&env_, "/d/state/3.second_moment.safetensors", 1 << 20));
  EXPECT_EQ(state.values, v);
  EXPECT_EQ(state.metadata.at("koinon.step"), "3");
  EXPECT_EQ(state.metadata.at("koinon.state"), "second_moment");
  EXPECT_EQ(state.metadata.at("koinon.keeper"), "fedadam");
}

TEST_F(AggregateTest, KeptAggregate_IsTheNextStepsCentre) {
  AggregateRequest request = Request("centered_clipping { tau: 1e9 }", Three());
  request.state_dir = "/d/state";
  ASSERT_OK(AggregateFiles(&env_, request));
  EXPECT_THAT(Values("/d/state/1.aggregate.safetensors"),
              ElementsAre(1, 2, 3, 4));
  // With a radius of almost nothing the centre stays.
  request = Request("centered_clipping { tau: 1e-6 }",
                    {Write("a", {9, 9, 9, 9}), Write("b", {9, 9, 9, 9})});
  request.state_dir = "/d/state";
  ASSERT_OK(AggregateFiles(&env_, request));
  const std::vector<float> values = Values("/d/out.safetensors");
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(values[i], 1.0 + i, 2e-6);
}

TEST_F(AggregateTest, StepAndSeed_DecideWhatIsLeftToChance) {
  std::vector<std::string> updates;
  for (int i = 0; i < 12; ++i) {
    updates.push_back(
        Write(absl::StrCat("w", i), {static_cast<float>(i * i), 0, 1, 2}));
  }
  const auto run = [&](uint64_t seed, int64_t step) {
    AggregateRequest request =
        Request("median {} pre_aggregation { bucketing { size: 3 } }", updates);
    request.seed = seed;
    request.step = step;
    EXPECT_OK(AggregateFiles(&env_, request));
    return Values("/d/out.safetensors");
  };
  EXPECT_EQ(run(5, 1), run(5, 1));
  EXPECT_EQ(run(5, 0), run(5, 1));
  EXPECT_NE(run(5, 1), run(5, 2));
  EXPECT_NE(run(5, 1), run(6, 1));
}

TEST_F(AggregateTest, ThreadsAndInstructionSets_GiveTheSameSelection) {
  std::vector<std::string> updates = Three();
  updates.push_back(Write("d", {1, 2, 3, 4.5f}));
  updates.push_back(Write("e", {7, 7, 7, 7}));
  for (const auto set : aggregation::SupportedInstructionSets()) {
    AggregateRequest request = Request("multi_krum { f: 1 m: 1 }", updates);
    request.threads = 3;
    request.aggregator.instruction_set = set;
    ASSERT_OK(AggregateFiles(&env_, request));
    EXPECT_THAT(Values("/d/out.safetensors"), ElementsAre(1, 2, 3, 4.5f));
  }
}

TEST_F(AggregateTest, BadInputs_AreNamedAndNothingIsWritten) {
  const std::vector<std::string> three = Three();
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  const auto expect = [&](const AggregateRequest& request,
                          absl::StatusCode code, const char* what) {
    EXPECT_THAT(AggregateFiles(&env_, request),
                StatusIs(code, HasSubstr(what)));
    EXPECT_FALSE(env_.Exists("/d/out.safetensors"));
    EXPECT_FALSE(env_.Exists("/d/out.safetensors.tmp"));
    EXPECT_FALSE(env_.Exists("/d/state"));
  };
  expect(Request("krum { f: 1 }", three), absl::StatusCode::kFailedPrecondition,
         "krum");
  expect(Request("fedavg {}", {}), kInvalid, "no update");
  expect(Request("fedavg {}", {three[0], "/d/none.safetensors"}),
         absl::StatusCode::kNotFound, "/d/none.safetensors");
  expect(Request("fedavg {}", {three[0], Write("long", {1, 2, 3, 4, 5})}),
         kInvalid,
         "/d/long.safetensors: tensor 1 is w F32 [4], in /d/c.safetensors it "
         "is w F32 [3]");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  expect(Request("fedavg {}", {three[0], Write("bad", {1, nan, 3, 4})}),
         kInvalid, "update from worker bad: w[1] is NaN");
  expect(Request("fedavg {}", {three[0], Write("bad", {1, 2, 3, INFINITY})}),
         kInvalid, "update from worker bad: b[0] is");
  expect(Request("fedavg {}", {three[0], three[0]}),
         absl::StatusCode::kAlreadyExists, "are both of worker c");
  expect(Request("fedavg { uniform: true } max_weight: 3", three), kInvalid,
         "max_weight");
  expect(Request("fedavg {} server_optimizer { fedadam { tau: -1 } }", three),
         kInvalid, "server_optimizer.fedadam.tau is -1");

  AggregateRequest request = Request("fedavg {}", three);
  request.weights = {1, 2};
  expect(request, kInvalid, "--weights has 2 numbers for 3 files");
  request.weights = {1, 0, 1};
  expect(request, kInvalid, "update from worker a: weight 0");
  request = Request("fedavg {}", three);
  request.models = true;
  expect(request, kInvalid, "--models needs --base");
  request = Request("fedavg {}", three);
  request.state_dir = "/d/state";
  expect(request, kInvalid, "--state has no effect");
  request = Request("fedavg {} server_optimizer { diloco {} }", three);
  request.state_dir = "/d/state";
  request.step = 2;
  expect(request, kInvalid, "--step has no effect");

  ASSERT_OK(WriteFileAtomically(&env_, "/d/text.safetensors", "hello, world"));
  expect(Request("fedavg {}", {three[0], "/d/text.safetensors"}), kInvalid,
         "/d/text.safetensors");
  Model integers;
  ASSERT_OK_AND_ASSIGN(integers.layout,
                       ModelLayout::Create({{"n", DType::kI32, {1}}}));
  ASSERT_OK(WriteFileAtomically(
      &env_, "/d/int.safetensors",
      EncodeSafetensorsHeader(integers.layout, {}) + std::string(4, '\0')));
  expect(Request("fedavg {}", {"/d/int.safetensors"}), kInvalid,
         "/d/int.safetensors: tensor n I32 [1], expected F32");
}

TEST_F(AggregateTest, OutputThatIsAnInput_IsRefused) {
  const std::vector<std::string> three = Three();
  AggregateRequest request = Request("fedavg {}", three);
  for (const std::string& output :
       {three[1], absl::StrCat("/d/base.safetensors")}) {
    request.base = Write("base", {0, 0, 0, 0});
    request.output = output;
    EXPECT_THAT(AggregateFiles(&env_, request),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("overwrite"), HasSubstr(output))));
  }
  // Its temporary file counts too.
  Model model;
  model.layout = Layout();
  model.values = {1, 2, 3, 4};
  ASSERT_OK(WriteModel(&env_, "/d/x.tmp", model));
  request = Request("fedavg {}", {"/d/x.tmp"});
  request.output = "/d/x";
  EXPECT_THAT(
      AggregateFiles(&env_, request),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("/d/x.tmp")));
  EXPECT_EQ(Values("/d/x.tmp"), model.values);
}

// A file renamed to it would be there in its place.
TEST_F(AggregateTest, OutputThatIsADevice_IsRefused) {
  AggregateRequest request = Request("fedavg {}", Three());
  request.output = "/dev/null";
  EXPECT_THAT(AggregateFiles(&env_, request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/dev/null is there and is no regular file")));
}

TEST_F(AggregateTest, Overflow_NamesTheElement) {
  AggregateRequest request =
      Request("fedavg {} server_optimizer { fedavgm { learning_rate: 1e39 } }",
              Three());
  EXPECT_THAT(AggregateFiles(&env_, request),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("fedavgm's step overflows at w[0]")));
  EXPECT_FALSE(env_.Exists("/d/out.safetensors"));
}

TEST_F(AggregateTest, StateThatDoesNotFit_IsRefused) {
  AggregateRequest request =
      Request("fedavg {} server_optimizer { fedadam {} }", Three());
  request.state_dir = "/d/state";
  ASSERT_OK(AggregateFiles(&env_, request));
  ASSERT_OK(AggregateFiles(&env_, request));

  AggregateRequest other =
      Request("fedavg {} server_optimizer { fedyogi {} }", Three());
  other.state_dir = "/d/state";
  EXPECT_THAT(AggregateFiles(&env_, other),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("kept for fedadam, not for fedyogi")));
  AggregateRequest larger = Request("fedavg {} server_optimizer { fedadam {} }",
                                    {Write("l", {1, 2, 3, 4, 5})});
  larger.state_dir = "/d/state";
  EXPECT_THAT(AggregateFiles(&env_, larger),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("/d/l.safetensors")));
  ASSERT_OK(env_.Remove("/d/state/2.momentum.safetensors"));
  EXPECT_THAT(AggregateFiles(&env_, request),
              StatusIs(absl::StatusCode::kDataLoss,
                       AllOf(HasSubstr("/d/state: state of step 2 has "
                                       "second_moment"),
                             HasSubstr("momentum"))));
}

// One step of an optimizer that keeps less is not what an interrupted first
// step of another leaves.
TEST_F(AggregateTest, FirstStepOfAnotherOptimizer_IsRefusedAndKept) {
  AggregateRequest request =
      Request("fedavg {} server_optimizer { fedavgm {} }", Three());
  request.state_dir = "/d/state";
  ASSERT_OK(AggregateFiles(&env_, request));
  AggregateRequest other =
      Request("fedavg {} server_optimizer { fedadam {} }", Three());
  other.state_dir = "/d/state";
  EXPECT_THAT(AggregateFiles(&env_, other),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("kept for fedavgm, not for fedadam")));
  EXPECT_THAT(Files("/d/state"), ElementsAre("1.momentum.safetensors"));
  ASSERT_OK_AND_ASSIGN(const AggregateOutcome next,
                       AggregateFiles(&env_, request));
  EXPECT_EQ(next.step, 2);
}

// The process dies at each operation in turn: the same command then does the
// same step, and ends in the same state.
TEST_F(AggregateTest, DeathAtAnyOperation_TheSameCommandGoesOn) {
  std::vector<float> expected, expected_state;
  for (int64_t k = 1;; ++k) {
    MemoryEnv memory;
    ASSERT_OK(memory.MakeDirs("/d"));
    Model model;
    model.layout = Layout();
    model.values = {1, 2, 3, 4};
    ASSERT_OK(WriteModel(&memory, "/d/a.safetensors", model));
    AggregateRequest request = Request(
        "fedavg {} server_optimizer { fedadam {} }", {"/d/a.safetensors"});
    request.state_dir = "/d/state";
    ASSERT_OK(AggregateFiles(&memory, request));
    FaultInjectingEnv env(&memory);
    env.FailAllFrom(k, absl::DataLossError("dead"));
    const auto died = AggregateFiles(&env, request);
    env.StopFailing();
    const bool committed =
        memory.Exists("/d/state/2.momentum.safetensors") &&
        memory.Exists("/d/state/2.second_moment.safetensors");
    if (!committed) {
      ASSERT_OK_AND_ASSIGN(const AggregateOutcome again,
                           AggregateFiles(&memory, request));
      EXPECT_EQ(again.step, 2) << "operation " << k;
    }
    ASSERT_OK_AND_ASSIGN(const Model out,
                         ReadModel(&memory, "/d/out.safetensors", 1 << 20));
    ASSERT_OK_AND_ASSIGN(
        const Model state,
        ReadModel(&memory, "/d/state/2.momentum.safetensors", 1 << 20));
    if (k == 1) expected = out.values;
    if (k == 1) expected_state = state.values;
    EXPECT_EQ(out.values, expected) << "operation " << k;
    EXPECT_EQ(state.values, expected_state) << "operation " << k;
    ASSERT_OK(AggregateFiles(&memory, request));
    ASSERT_OK_AND_ASSIGN(const auto files, memory.List("/d/state"));
    EXPECT_THAT(files, ElementsAre("3.momentum.safetensors",
                                   "3.second_moment.safetensors"))
        << "operation " << k;
    if (died.ok()) break;
    ASSERT_LT(k, 1000) << "never succeeds";
  }
}

}  // namespace
}  // namespace koinon::cli
