// A task trained by the ranks of a site, against the same task trained alone.
#include <atomic>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/testing_updates.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/thread_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/graph/control_variates.h"
#include "kernels/reference/reference_network.h"
#include "worker/collective/testing_communicator.h"
#include "worker/data/testdata.h"
#include "worker/store/control_store.h"
#include "worker/train/batches.h"
#include "worker/train/native_trainer.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;
using ::testing::Each;
using ::testing::HasSubstr;
using testtask::ReadFloats;

// Float32 sums in another order differ by some 2^-24 of the gradient in each of
// the few dozen steps; none of the models here makes more of a difference. The
// updates are of order 1.
constexpr float kTolerance = 2e-5f;

class SiteTrainingTest : public ::testing::Test {
 protected:
  SiteTrainingTest() : base_path_(testtask::WriteBase(&offer_)) {}

  // A model with something hidden.
  void UseMlp() {
    offer_.mutable_model()->clear_logistic_regression();
    offer_.mutable_model()->mutable_mlp()->add_hidden(8);
    offer_.mutable_model()->mutable_mlp()->set_classes(3);
    base_path_ = testtask::WriteBase(&offer_);
  }

  std::vector<float> Alone() {
    NativeTrainer trainer(RealEnv(), &clock_, &datasets_, Options(nullptr));
    const auto metrics =
        trainer.Train(offer_, base_path_, TempPath("alone"), nullptr, never_);
    EXPECT_OK(metrics);
    if (metrics.ok()) alone_ = *metrics;
    return ReadFloats(TempPath("alone"));
  }

  // Each rank's outcome; rank 0's update.
  std::vector<absl::StatusOr<v1::Metrics>> metrics_;
  std::vector<float> Together(int ranks) {
    metrics_.assign(static_cast<size_t>(ranks), absl::UnknownError("not run"));
    RunRanks({.ranks = ranks, .cores = cores_}, [&](Communicator* site) {
      const auto rank = static_cast<size_t>(site->place().rank);
      NativeTrainer trainer(
          RealEnv(), &clock_,
          static_cast<int>(rank) == bare_rank_ ? &no_datasets_ : &datasets_,
          Options(site));
      const std::string none;
      metrics_[rank] = rank == 0
                           ? trainer.Train(offer_, base_path_, TempPath("site"),
                                           progress_, stop_)
                           : trainer.Train(offer_, none, none, nullptr, never_);
    });
    if (!metrics_[0].ok()) return {};
    return ReadFloats(TempPath("site"));
  }

  NativeTrainer::Options Options(Communicator* site) {
    NativeTrainer::Options options;
    options.controls =
        site == nullptr || site->place().rank == 0 ? controls_ : nullptr;
    options.site = site;
    return options;
  }

  void ExpectTheSame(const std::vector<float>& alone,
                     const std::vector<float>& together,
                     const std::string& what) {
    ASSERT_EQ(alone.size(), together.size()) << what;
    for (size_t i = 0; i < alone.size(); ++i) {
      ASSERT_NEAR(alone[i], together[i], kTolerance)
          << what << ", element " << i;
    }
  }

  RealClock clock_;
  LocalDatasets datasets_ = testtask::BlobDatasets();
  LocalDatasets no_datasets_;
  int bare_rank_ = -1;               // has no data
  std::vector<double> cores_ = {2};  // of each rank, from the first again
  ControlStore* controls_ = nullptr;
  v1::OfferTask offer_ = testtask::BlobOffer();
  std::string base_path_;
  v1::Metrics alone_;
  ProgressCallback progress_;
  std::atomic<bool> stop_{false};
  const std::atomic<bool> never_{false};
};

TEST_F(SiteTrainingTest, Train_OnAnyNumberOfRanks_MakesTheStepsOfOne) {
  UseMlp();
  const std::vector<float> alone = Alone();
  // 200 examples in batches of 16: the last one has 8. Three ranks and five
  // have parts of unequal size.
  for (const int ranks : {1, 2, 3, 4, 5}) {
    ExpectTheSame(alone, Together(ranks), absl::StrCat(ranks, " ranks"));
    for (const auto& metrics : metrics_) {
      ASSERT_OK(metrics);
      EXPECT_EQ(metrics->examples(), 200);
      EXPECT_EQ(metrics->steps(), alone_.steps());
      EXPECT_NEAR(metrics->loss(), alone_.loss(), 1e-5);
      EXPECT_EQ(metrics->accuracy(), alone_.accuracy());
    }
  }
}

TEST_F(SiteTrainingTest, Train_MoreRanksThanExamplesInABatch_StillMatches) {
  offer_.mutable_training()->set_batch_size(3);
  const std::vector<float> alone = Alone();
  ExpectTheSame(alone, Together(4), "4 ranks, batches of 3");
}

TEST_F(SiteTrainingTest, Train_WithEveryTerm_MatchesOneRank) {
  UseMlp();
  v1::TrainingSpec& training = *offer_.mutable_training();
  training.set_proximal_mu(0.3);
  training.set_clip_norm(0.5);
  training.mutable_optimizer()->mutable_sgd()->set_momentum(0.9);
  training.mutable_optimizer()->mutable_sgd()->set_nesterov(true);
  training.mutable_optimizer()->mutable_sgd()->set_weight_decay(0.01);
  training.mutable_schedule()->set_warmup_steps(5);
  const std::vector<float> alone = Alone();
  for (const int ranks : {2, 4}) {
    ExpectTheSame(alone, Together(ranks), absl::StrCat(ranks, " ranks"));
  }
}

TEST_F(SiteTrainingTest, Train_Scaffold_MatchesOneRankInBothHalves) {
  MemoryEnv disk;
  ASSERT_OK_AND_ASSIGN(const auto controls,
                       ControlStore::Open(&disk, "/controls", {}));
  controls_ = controls.get();
  offer_.set_job_submitted_ms(17);
  offer_.mutable_training()->mutable_scaffold();
  Model model = testtask::InitialModel(offer_.model());
  ASSERT_OK_AND_ASSIGN(model.layout,
                       kernels::WithControlVariates(model.layout));
  model.values.resize(2 * model.values.size(), 0.25f);
  offer_.set_layout_hash(model.layout.hash().ToBytes());
  base_path_ = TempPath("extended.safetensors");
  ASSERT_OK(WriteModel(RealEnv(), base_path_, model));
  const std::vector<float> alone = Alone();
  ASSERT_EQ(alone.size(), model.values.size());
  for (const int ranks : {2, 3}) {
    ExpectTheSame(alone, Together(ranks), absl::StrCat(ranks, " ranks"));
  }
}

TEST_F(SiteTrainingTest, Train_Twice_GivesTheSameBytes) {
  UseMlp();
  for (const int64_t site_steps : {0, 5}) {
    offer_.mutable_training()->set_site_steps(site_steps);
    const std::vector<float> once = Together(3);
    ASSERT_OK(metrics_[0]);
    EXPECT_EQ(once, Together(3)) << "site_steps " << site_steps;
  }
}

TEST_F(SiteTrainingTest, Train_OnOneCoreEach_GivesTheSameBytes) {
  UseMlp();
  const std::vector<float> beside = Together(3);
  ASSERT_OK(metrics_[0]);
  cores_ = {1};  // sums are not made beside the way back
  EXPECT_EQ(beside, Together(3));
  // Ranks that were bound unevenly must do the same.
  cores_ = {1.5, 3};
  EXPECT_EQ(beside, Together(3));
  EXPECT_OK(metrics_[0]);
}

// What the guide says of batch norm in a site, on plain kernels: each rank
// normalises by its own part of a batch and keeps moments of its own, gradients
// are summed by examples, and at the end moments are averaged.
class SiteOfReferences {
 public:
  SiteOfReferences(const v1::OfferTask& offer, const Dataset& data, int ranks)
      : offer_(offer), graph_(*kernels::ModelGraph::Build(offer.model())) {
    const auto count = static_cast<size_t>(ranks);
    const auto batch_size = static_cast<size_t>(offer.training().batch_size());
    const Model base = testtask::InitialModel(offer.model());
    for (size_t rank = 0; rank < count; ++rank) {
      const Shard shard = {.index = rank, .count = count};
      batches_.emplace_back(data, batch_size, shard);
      networks_.push_back(*kernels::NewReferenceNetwork(
          graph_, {.batch_size = shard.Most(batch_size)}));
      std::copy(base.values.begin(), base.values.end(),
                networks_.back()->parameters().begin());
    }
  }

  void TrainEpoch(int64_t epoch) {
    const uint64_t seed = DeriveSeed(DeriveSeed(offer_.seed(), "order"),
                                     static_cast<uint64_t>(epoch));
    for (Batches& batches : batches_) batches.Shuffle(seed);
    while (Step()) {
    }
  }

  // What training has changed.
  std::vector<float> Update() const {
    const Model base = testtask::InitialModel(offer_.model());
    std::vector<float> update(base.values.size());
    for (size_t t = 0; t < graph_.layout().tensors().size(); ++t) {
      const size_t begin = graph_.layout().offset_bytes(t) / sizeof(float);
      for (size_t i = begin; i < begin + graph_.layout().element_count(t);
           ++i) {
        double sum = 0;
        for (const auto& network : networks_) sum += network->parameters()[i];
        update[i] = static_cast<float>(
            sum / static_cast<double>(networks_.size()) - base.values[i]);
      }
    }
    return update;
  }

 private:
  bool Step() {
    std::vector<double> gradients(graph_.layout().total_elements());
    for (size_t rank = 0; rank < networks_.size(); ++rank) {
      const auto batch = batches_[rank].Next();
      EXPECT_OK(batch);
      if (batches_[rank].whole_size() == 0) return false;
      EXPECT_OK(networks_[rank]->ForwardBackward(*batch, 1));
      const double weight = static_cast<double>(batch->size) /
                            static_cast<double>(batches_[rank].whole_size());
      for (size_t i = 0; i < gradients.size(); ++i) {
        gradients[i] += weight * networks_[rank]->gradients()[i];
      }
    }
    const double rate = offer_.training().optimizer().sgd().learning_rate();
    for (const auto& network : networks_) {
      for (size_t i = 0; i < gradients.size(); ++i) {
        network->parameters()[i] -= static_cast<float>(rate * gradients[i]);
      }
    }
    return true;
  }

  const v1::OfferTask& offer_;
  const kernels::ModelGraph graph_;
  std::vector<Batches> batches_;
  std::vector<std::unique_ptr<kernels::Network>> networks_;
};

TEST_F(SiteTrainingTest, Train_BatchNorm_AveragesMomentsOfTheRanksParts) {
  v1::ModelSpec& model = *offer_.mutable_model();
  model.clear_logistic_regression();
  model.mutable_layers()->add_layers()->mutable_batch_norm();
  model.mutable_layers()->add_layers()->mutable_dense()->set_units(3);
  base_path_ = testtask::WriteBase(&offer_);
  offer_.mutable_training()->set_epochs(2);
  const std::vector<float> alone = Alone();
  for (const int ranks : {1, 2, 3, 4}) {
    SiteOfReferences site(offer_, datasets_["blobs"].train, ranks);
    site.TrainEpoch(0);
    site.TrainEpoch(1);
    const std::vector<float> together = Together(ranks);
    ExpectTheSame(site.Update(), together, absl::StrCat(ranks, " ranks"));
    // Variances within parts are others than within batches: in the layout,
    // weights, shifts, means and variances of two channels come first.
    ASSERT_GE(together.size(), 8u);
    if (ranks == 1) continue;
    EXPECT_GT(std::abs(together[6] - alone[6]), 100 * kTolerance);
  }
}

TEST_F(SiteTrainingTest, Train_SiteSteps_LearnsWithFewerSums) {
  offer_.mutable_training()->set_site_steps(4);
  Together(2);
  ASSERT_OK(metrics_[0]);
  EXPECT_GT(metrics_[0]->accuracy(), 0.95);
  const int64_t rare = metrics_[0]->communication().bytes();
  offer_.mutable_training()->set_site_steps(1);
  Together(2);
  ASSERT_OK(metrics_[0]);
  EXPECT_LT(rare, metrics_[0]->communication().bytes() / 2);
}

// Local SGD that averages once, at the end, is one round of FedAvg inside the
// site, of ranks that count alike.
TEST_F(SiteTrainingTest, Train_OneAverageAtTheEnd_IsTheMeanOfTheRanks) {
  offer_.mutable_training()->set_epochs(0);
  offer_.mutable_training()->set_steps(1);
  offer_.mutable_training()->set_site_steps(1);
  const std::vector<float> summed = Together(2);
  ASSERT_OK(metrics_[0]);
  // With one step of plain SGD and equal parts, both are the same.
  offer_.mutable_training()->set_site_steps(100);
  ExpectTheSame(summed, Together(2), "one step");
}

TEST_F(SiteTrainingTest, Train_Communication_IsMeasured) {
  Together(2);
  for (const auto& metrics : metrics_) {
    ASSERT_OK(metrics);
    const v1::SiteCommunication& communication = metrics->communication();
    EXPECT_EQ(communication.ranks(), 2);
    EXPECT_EQ(communication.nodes(), 1);
    // 9 parameters: once to everybody, then in each of 65 steps with a word on
    // whether all is well.
    EXPECT_EQ(communication.bytes(), 4 * (9 + 65 * (9 + 1)));
    EXPECT_GT(communication.seconds(), 0);
    EXPECT_GT(communication.waited_seconds(), 0);
    EXPECT_GT(communication.step_seconds(), 0);
    EXPECT_LT(communication.step_seconds(), metrics->seconds());
    EXPECT_GT(communication.step_waited_seconds(), 0);
    EXPECT_LE(communication.step_waited_seconds(),
              communication.step_seconds());
    // Also before and after the steps.
    EXPECT_LT(communication.step_waited_seconds(),
              communication.waited_seconds());
  }
  Alone();
  EXPECT_FALSE(alone_.has_communication());
}

TEST_F(SiteTrainingTest, Train_RankWithoutTheData_FailsEverywhereByItsName) {
  bare_rank_ = 2;
  Together(3);
  for (const auto& metrics : metrics_) {
    EXPECT_THAT(metrics.status(),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("rank 2")));
  }
}

TEST_F(SiteTrainingTest, Train_StoppedAtFirstRank_EndsOnAll) {
  offer_.mutable_training()->set_epochs(200);
  progress_ = [this](double, double) { stop_ = true; };
  for (const int64_t site_steps : {0, 7}) {
    offer_.mutable_training()->set_site_steps(site_steps);
    stop_ = false;
    Together(3);
    for (const auto& metrics : metrics_) {
      EXPECT_THAT(metrics.status(),
                  StatusIs(absl::StatusCode::kCancelled, HasSubstr("rank 0")));
    }
  }
}

TEST_F(SiteTrainingTest, Train_LossThatBlowsUp_FailsOnAll) {
  offer_.mutable_training()
      ->mutable_optimizer()
      ->mutable_sgd()
      ->set_learning_rate(1e38);
  Together(2);
  for (const auto& metrics : metrics_) {
    EXPECT_THAT(metrics.status(),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("loss")));
  }
}

TEST(SiteSumTest, AllReduceOfUpdates_IsTheFedAvgOfTheSame) {
  constexpr int kRanks = 5;
  constexpr size_t kParameters = 3001;
  std::vector<std::vector<float>> updates;
  std::vector<double> examples;
  double all_examples = 0;
  Random random(11);
  for (int rank = 0; rank < kRanks; ++rank) {
    std::vector<float>& update = updates.emplace_back(kParameters);
    for (float& value : update) value = static_cast<float>(random.NextNormal());
    examples.push_back(static_cast<double>(1 + random.NextBelow(1000)));
    all_examples += examples.back();
  }
  v1::AggregationSpec spec;
  spec.mutable_fedavg();
  ASSERT_OK_AND_ASSIGN(const auto rule, aggregation::MakeAggregator(spec));
  const aggregation::UpdateSet set = aggregation::TestSet(updates, examples);
  ThreadPool pool(1);
  std::vector<float> expected(kParameters);
  aggregation::MemorySink sink(absl::MakeSpan(expected));
  ASSERT_OK(rule->Aggregate(set, {.pool = &pool}, &sink));

  RunRanks({.ranks = kRanks}, [&](Communicator* site) {
    const auto rank = static_cast<size_t>(site->place().rank);
    std::vector<float> values = updates[rank];
    ASSERT_OK(
        site->AllReduce(absl::MakeSpan(values),
                        static_cast<float>(examples[rank] / all_examples)));
    for (size_t i = 0; i < kParameters; ++i) {
      // Five products and sums of values up to 4, rounded to float32 at each.
      ASSERT_NEAR(values[i], expected[i], 10 * 4 * 6e-8) << i;
    }
  });
}

}  // namespace
}  // namespace koinon::worker
