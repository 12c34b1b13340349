#include "worker/train/trainer_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "worker/data/testdata.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;
using testing::ElementsAre;
using testing::HasSubstr;

class TrainerSetTest : public testing::Test {
 protected:
  TrainerSetTest() : base_path_(testtask::WriteBase(&offer_)) {
    options_.scratch_dir = TempPath("scratch");
    for (const char* name : {"two", "one"}) {
      ExternalTrainerConfig& config = options_.external.emplace_back();
      config.set_name(name);
      for (const char* word : {"sh", "-c",
                               "echo '{\"examples\": 1, \"loss\": 0.5}' > "
                               "metrics.json"}) {
        config.add_command(word);
      }
    }
  }

  absl::StatusOr<v1::Metrics> TrainWith(const std::string& name) {
    auto set = TrainerSet::Create(RealEnv(), &clock_, &datasets_, options_);
    EXPECT_OK(set);
    offer_.mutable_training()->set_external_trainer(name);
    return (*set)->Train(offer_, base_path_, TempPath("update"), nullptr,
                         stop_);
  }

  ManualClock clock_{absl::UnixEpoch()};
  LocalDatasets datasets_ = testtask::BlobDatasets();
  TrainerSet::Options options_;
  v1::OfferTask offer_ = testtask::BlobOffer();
  std::string base_path_;
  std::atomic<bool> stop_{false};
};

TEST_F(TrainerSetTest, Names_PickTheTrainer) {
  for (const char* native : {"", "native"}) {
    ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, TrainWith(native));
    EXPECT_EQ(metrics.examples(), 200);
  }
  ASSERT_OK_AND_ASSIGN(const v1::Metrics metrics, TrainWith("one"));
  EXPECT_EQ(metrics.examples(), 1);
}

TEST_F(TrainerSetTest, Evaluation_GoesToTheSameTrainer) {
  ASSERT_OK_AND_ASSIGN(
      const auto set,
      TrainerSet::Create(RealEnv(), &clock_, &datasets_, options_));
  ASSERT_OK_AND_ASSIGN(const v1::Metrics native,
                       set->Evaluate(offer_, base_path_, stop_));
  EXPECT_EQ(native.examples(), 90);
  offer_.mutable_training()->set_external_trainer("two");
  ASSERT_OK_AND_ASSIGN(const v1::Metrics external,
                       set->Evaluate(offer_, base_path_, stop_));
  EXPECT_EQ(external.loss(), 0.5);
}

TEST_F(TrainerSetTest, UnknownName_ListsTheKnown) {
  EXPECT_THAT(TrainWith("three"),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("trainer \"three\": this worker has none of "
                                 "that name; it has: native, one, two")));
}

TEST_F(TrainerSetTest, ControlVariatesWithAnExternalTrainer_AreRefused) {
  offer_.mutable_training()->mutable_scaffold();
  EXPECT_THAT(TrainWith("one"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("training.external_trainer is one")));
}

TEST_F(TrainerSetTest, ExternalNames_AreSorted) {
  ASSERT_OK_AND_ASSIGN(
      const auto set,
      TrainerSet::Create(RealEnv(), &clock_, &datasets_, options_));
  EXPECT_THAT(set->external_names(), ElementsAre("one", "two"));
}

TEST_F(TrainerSetTest, NameUsedTwice_IsRefused) {
  options_.external.push_back(options_.external.front());
  EXPECT_THAT(TrainerSet::Create(RealEnv(), &clock_, &datasets_, options_),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("external trainer two")));
}

}  // namespace
}  // namespace koinon::worker
