#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/testing_env.h"
#include "base/tls.h"
#include "kernels/graph/model_graph.h"
#include "tests/integration/coordinator_fixture.h"
#include "tests/integration/scaffold_reference.h"
#include "worker/client/grpc_client.h"
#include "worker/models/peer_models.h"
#include "worker/server.h"
#include "worker/store/control_store.h"
#include "worker/train/native_trainer.h"

// SCAFFOLD from end to end: a coordinator and whole workers in this process,
// with the native trainer, against a plain reference in double.

namespace koinon::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kInputs = 2;
constexpr int kClasses = 3;
constexpr size_t kParameters = kClasses * (kInputs + 1);
const std::vector<std::string> kWorkers = {"site-a", "site-b", "site-c"};

// Skewed: worker k has mostly class k, each class around its own corner, so
// that every worker's optimum is somewhere else.
LogisticProblem Problem(size_t k, size_t count) {
  LogisticProblem problem;
  problem.inputs = kInputs;
  problem.classes = kClasses;
  Random random(DeriveSeed(11, static_cast<uint64_t>(k)));
  for (size_t i = 0; i < count; ++i) {
    const int label = static_cast<int>(i % 5 == 0 ? i % kClasses : k);
    // Rounded to float: both sides get the same numbers.
    const auto value = [&](double centre) {
      return double{static_cast<float>(centre + random.NextNormal())};
    };
    const double angle = 2.1 * label;
    problem.examples.push_back(
        {value(std::cos(angle)), value(std::sin(angle))});
    problem.labels.push_back(label);
  }
  return problem;
}

worker::Dataset ToDataset(const LogisticProblem& problem) {
  worker::Dataset data;
  data.name = "data";
  data.shape = {kInputs};
  for (size_t i = 0; i < problem.examples.size(); ++i) {
    for (double value : problem.examples[i]) {
      data.features.push_back(static_cast<float>(value));
    }
    data.labels.push_back(problem.labels[i]);
  }
  return data;
}

// A worker as koinon-worker wires it, with its state in memory.
class Site {
 public:
  Site(const std::string& name, int port, const LogisticProblem& problem) {
    datasets_["data"].train = ToDataset(problem);
    datasets_["data"].held_out = ToDataset(problem);
    auto controls = worker::ControlStore::Open(&disk_, "/state/controls", {});
    EXPECT_OK(controls);
    controls_ = *std::move(controls);
    worker::NativeTrainer::Options trainer;
    trainer.controls = controls_.get();
    trainer_ = std::make_unique<worker::NativeTrainer>(&disk_, &clock_,
                                                       &datasets_, trainer);
    worker::GrpcClient::Options client;
    client.target = absl::StrCat("127.0.0.1:", port);
    client.credentials = MakeInsecureChannelCredentials();
    worker::PeerModels::Spec models;
    models.worker = name;
    models.coordinator = absl::StrCat("127.0.0.1:", port);
    models.state_dir = "/state";
    auto source = worker::PeerModels::Start(models, &disk_, &clock_);
    EXPECT_OK(source);
    models_ = *std::move(source);
    worker::Worker::Options options;
    options.models = models_.get();
    options.spec.name = name;
    options.spec.state_dir = "/state";
    auto* dataset = options.capabilities.add_datasets();
    dataset->set_name("data");
    dataset->set_examples(static_cast<int64_t>(problem.examples.size()));
    dataset->set_held_out_examples(dataset->examples());
    options.env = &disk_;
    options.clock = &clock_;
    options.trainer = trainer_.get();
    options.controls = controls_.get();
    options.client = *worker::GrpcClient::Create(std::move(client));
    auto started = worker::Worker::Start(std::move(options));
    EXPECT_OK(started);
    worker_ = *std::move(started);
  }

  // Of the job, which this worker has taken part in. Ends the worker.
  std::vector<float> Control(const v1::JobStatus& job) {
    worker_ = nullptr;
    const auto graph = kernels::ModelGraph::Build(job.spec().model());
    EXPECT_OK(graph);
    const auto control =
        controls_->Read({job.name(), job.submitted_ms()}, graph->layout());
    EXPECT_OK(control);
    return *control;
  }

 private:
  const RealClock clock_;
  MemoryEnv disk_;
  worker::LocalDatasets datasets_;
  std::unique_ptr<worker::ControlStore> controls_;
  std::unique_ptr<worker::NativeTrainer> trainer_;
  std::unique_ptr<worker::PeerModels> models_;
  std::unique_ptr<worker::Worker> worker_;
};

class ScaffoldTest : public CoordinatorFixture {
 protected:
  void SetUp() override {
    CoordinatorFixture::SetUp();
    Start();
    for (size_t k = 0; k < kWorkers.size(); ++k) {
      problems_[kWorkers[k]] = Problem(k, 30);
    }
  }
  void StartSites() {
    for (const auto& [name, problem] : problems_) {
      sites_[name] = std::make_unique<Site>(name, port(), problem);
    }
  }

  // Full batches: the order of the examples is only a matter of rounding. Each
  // version is evaluated by all: the last evaluation comes after everything
  // that the workers are told about the last round.
  static v1::JobSpec Job(const std::string& name, int64_t rounds) {
    v1::JobSpec spec;
    spec.set_name(name);
    spec.mutable_model()->add_input_shape(kInputs);
    spec.mutable_model()->mutable_logistic_regression()->set_classes(kClasses);
    spec.set_dataset("data");
    spec.set_rounds(rounds);
    spec.set_seed(5);
    spec.mutable_cohort()->set_minimum(3);
    v1::TrainingSpec* training = spec.mutable_training();
    training->set_batch_size(1000);
    training->set_steps(8);
    training->mutable_scaffold();
    auto* sgd = training->mutable_optimizer()->mutable_sgd();
    sgd->set_learning_rate(0.5);
    sgd->set_weight_decay(0.01);
    return spec;
  }
  // Runs the job to its end.
  v1::JobStatus Run(const v1::JobSpec& spec) {
    EXPECT_THAT(Submit(spec), IsOk());
    const auto status = AwaitEnd(spec.name());
    EXPECT_THAT(status, IsOk());
    EXPECT_EQ(status->state(), v1::SUCCEEDED) << status->reason();
    return *status;
  }
  std::vector<double> Half(const std::string& job, int64_t version,
                           bool control) const {
    const std::vector<float> values = Values(job, version);
    EXPECT_EQ(values.size(), 2 * kParameters);
    const auto middle = values.begin() + kParameters;
    return control ? std::vector<double>(middle, values.end())
                   : std::vector<double>(values.begin(), middle);
  }

  ScaffoldReference Reference(const v1::JobSpec& spec,
                              size_t population) const {
    ScaffoldReference::Options options;
    options.population = population;
    options.rates.assign(spec.training().steps(), 0.5);
    options.weight_decay = 0.01;
    options.control_variates = spec.training().has_scaffold();
    std::vector<double> initial = Half(spec.name(), 0, false);
    return ScaffoldReference(options, problems_, initial);
  }

  std::map<std::string, LogisticProblem> problems_;
  std::map<std::string, std::unique_ptr<Site>> sites_;
};

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    largest = std::max(largest, std::abs(a[i] - b[i]));
  }
  return largest;
}

// Values are below 4, gradients below 1, rates sum to 4 in a round: float steps
// of half an ulp (2^-23 of 4) each, 8 steps a round and 6 rounds, come to at
// most 48 * 2.4e-7 in x if all err the same way; c divides such a difference by
// 4. A wrong sign or factor anywhere shows from 1e-2 on.
constexpr double kTolerance = 1.2e-5;

TEST_F(ScaffoldTest, EverybodyTakesPart_NumbersAreTheReferences) {
  StartSites();
  const v1::JobSpec spec = Job("all", 6);
  const v1::JobStatus status = Run(spec);
  EXPECT_THAT(Half("all", 0, true), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0));
  ScaffoldReference reference = Reference(spec, 3);
  for (int64_t round = 1; round <= 6; ++round) {
    reference.Round(kWorkers);
    SCOPED_TRACE(absl::StrCat("round ", round));
    const double model = Distance(Half("all", round, false), reference.model());
    const double control =
        Distance(Half("all", round, true), reference.control());
    EXPECT_LT(model, kTolerance);
    EXPECT_LT(control, kTolerance);
    RecordProperty(absl::StrCat("model_error_", round), absl::StrCat(model));
    RecordProperty(absl::StrCat("control_error_", round),
                   absl::StrCat(control));
  }
  // What the versions hold is the mean of what the workers hold.
  std::vector<double> mean(kParameters);
  for (const std::string& name : kWorkers) {
    const std::vector<float> control = sites_[name]->Control(status);
    const std::vector<double> own(control.begin(), control.end());
    EXPECT_LT(Distance(own, reference.control_of(name)), kTolerance) << name;
    EXPECT_GT(Distance(own, reference.control()), 0.05) << name;
    for (size_t p = 0; p < kParameters; ++p) mean[p] += own[p] / 3;
  }
  // Roundings of 6 rounds, of values below 1.
  EXPECT_LT(Distance(mean, Half("all", 6, true)), 1e-6);
}

TEST_F(ScaffoldTest, TwoOfThreeTakePart_NumbersAreTheReferences) {
  StartSites();
  v1::JobSpec spec = Job("some", 8);
  spec.mutable_training()->mutable_scaffold()->set_population(3);
  spec.mutable_cohort()->set_target(2);
  spec.mutable_cohort()->set_minimum(2);
  const v1::JobStatus status = Run(spec);
  ScaffoldReference reference = Reference(spec, 3);
  std::map<std::string, int> taken_part;
  for (const v1::RoundReport& report : Rounds("some")) {
    ASSERT_EQ(report.included_size(), 2);
    reference.Round({report.included().begin(), report.included().end()});
    for (const std::string& name : report.included()) ++taken_part[name];
    EXPECT_LT(Distance(Half("some", report.round(), false), reference.model()),
              kTolerance)
        << report.round();
    EXPECT_LT(Distance(Half("some", report.round(), true), reference.control()),
              kTolerance)
        << report.round();
  }
  EXPECT_EQ(taken_part.size(), 3u) << "the seed leaves somebody out";
  for (const std::string& name : kWorkers) {
    const std::vector<float> control = sites_[name]->Control(status);
    EXPECT_LT(
        Distance({control.begin(), control.end()}, reference.control_of(name)),
        kTolerance)
        << name;
  }
}

// Many local steps on skewed data pull FedAvg to the mean of the workers' own
// optima; SCAFFOLD goes to the optimum of the mean.
TEST_F(ScaffoldTest, SkewedWorkersWithManySteps_ReachTheOptimumFedAvgMisses) {
  StartSites();
  v1::JobSpec corrected = Job("scaffold", 10);
  corrected.mutable_training()->set_steps(60);
  auto* optimizer = corrected.mutable_training()->mutable_optimizer();
  optimizer->mutable_sgd()->set_learning_rate(0.1);
  v1::JobSpec plain = corrected;
  plain.set_name("fedavg");
  plain.mutable_training()->clear_scaffold();
  plain.mutable_aggregation()->mutable_fedavg()->set_uniform(true);
  Run(corrected);
  Run(plain);

  ScaffoldReference::Options descent;
  descent.population = 3;
  descent.rates = {0.5};
  descent.weight_decay = 0.01;
  ScaffoldReference optimum(descent, problems_,
                            std::vector<double>(kParameters));
  // One step a round: gradient descent on the mean of the losses.
  for (int step = 0; step < 5000; ++step) optimum.Round(kWorkers);
  const double best = optimum.Loss(optimum.model());
  const auto gap = [&](const std::string& job) {
    const std::vector<float> values = Values(job, 10);
    return optimum.Loss({values.begin(), values.begin() + kParameters}) - best;
  };
  const double scaffold = gap("scaffold"), fedavg = gap("fedavg");
  RecordProperty("scaffold_gap", absl::StrCat(scaffold));
  RecordProperty("fedavg_gap", absl::StrCat(fedavg));
  EXPECT_GE(scaffold, -1e-9);
  // Full batches and a fixed start: 8.1e-5 and 9.5e-3, up to rounding.
  EXPECT_LT(scaffold, fedavg / 50) << "optimal loss " << best << ", scaffold +"
                                   << scaffold << ", fedavg +" << fedavg;
}

// The second job begins with the first one's model; its control variate is
// zero, as its workers' are.
TEST_F(ScaffoldTest, InitialModel_GivesItsModelHalfToEitherKind) {
  StartSites();
  Run(Job("first", 2));
  v1::JobSpec next = Job("next", 1);
  next.set_initial_model("first@2");
  Run(next);
  EXPECT_EQ(Half("next", 0, false), Half("first", 2, false));
  EXPECT_THAT(Half("next", 0, true), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 0));
  v1::JobSpec plain = Job("plain", 1);
  plain.mutable_training()->clear_scaffold();
  plain.set_initial_model("first@2");
  Run(plain);
  const std::vector<float> values = Values("plain", 0);
  EXPECT_EQ(std::vector<double>(values.begin(), values.end()),
            Half("first", 2, false));
  v1::JobSpec back = Job("back", 1);
  back.set_initial_model("plain@0");
  Run(back);
  EXPECT_EQ(Half("back", 0, false), Half("first", 2, false));
}

TEST_F(ScaffoldTest, CoordinatorRestarted_GoesOnWithTheSameNumbers) {
  spec_.listen = absl::StrCat("127.0.0.1:", port());
  v1::JobSpec spec = Job("restarted", 3);
  ASSERT_THAT(Submit(spec), IsOk());
  Stop();
  Start();
  StartSites();
  ASSERT_THAT(AwaitEnd("restarted"), IsOk());
  ScaffoldReference reference = Reference(spec, 3);
  for (int round = 1; round <= 3; ++round) reference.Round(kWorkers);
  EXPECT_LT(Distance(Half("restarted", 3, true), reference.control()),
            kTolerance);
}

TEST_F(ScaffoldTest, MoreWorkersThanThePopulation_FailTheJobByName) {
  StartSites();
  v1::JobSpec spec = Job("miscounted", 1);
  spec.mutable_training()->mutable_scaffold()->set_population(2);
  spec.mutable_cohort()->set_minimum(2);
  spec.mutable_cohort()->set_retries(1);
  // Everybody is asked.
  ASSERT_THAT(Submit(spec), IsOk());
  const auto status = AwaitEnd("miscounted");
  ASSERT_THAT(status, IsOk());
  if (status->state() == v1::FAILED) {
    EXPECT_THAT(status->reason(),
                HasSubstr("training.scaffold.population is 2, but 3"));
  } else {
    // The third came after the round had opened.
    EXPECT_EQ(Rounds("miscounted").at(0).included_size(), 2);
  }
}

TEST_F(ScaffoldTest, FieldsThatDoNotGoTogether_AreRefusedAtSubmission) {
  v1::JobSpec spec = Job("refused", 1);
  spec.mutable_aggregation()->mutable_median();
  EXPECT_THAT(Submit(spec).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("aggregation.median is set")));
  spec = Job("refused", 1);
  spec.mutable_training()->set_proximal_mu(1);
  EXPECT_THAT(Submit(spec).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("training.proximal_mu")));
}

}  // namespace
}  // namespace koinon::testing
