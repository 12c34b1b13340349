#include "worker/collective/site_trainer.h"

#include <memory>
#include <vector>

#include "base/mutex.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/collective/testing_communicator.h"

namespace koinon::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Remembers what it was given; as a rank of a site, agrees with the others.
class RecordingTrainer final : public Trainer {
 public:
  explicit RecordingTrainer(Communicator* site) : site_(site) {}

  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback&,
                                    const std::atomic<bool>&) override {
    rounds.push_back(offer.task().round());
    paths.push_back(base_path + "," + update_path);
    if (!offer.training().external_trainer().empty()) return v1::Metrics();
    const absl::Status own = offer.task().round() == bad_round
                                 ? absl::NotFoundError("no dataset")
                                 : absl::OkStatus();
    const absl::Status agreed = AgreeOnStatus(site_, own);
    if (!agreed.ok()) return agreed;
    return v1::Metrics();
  }
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask&, const std::string&,
                                       const std::atomic<bool>&) override {
    ++evaluations;
    return v1::Metrics();
  }

  std::vector<int64_t> rounds;
  std::vector<std::string> paths;
  int evaluations = 0;
  int64_t bad_round = -1;

 private:
  Communicator* const site_;
};

v1::OfferTask OfferOf(int64_t round) {
  v1::OfferTask offer;
  offer.mutable_task()->set_job("job");
  offer.mutable_task()->set_round(round);
  return offer;
}

TEST(SiteTrainerTest, Train_SeveralTasks_ReachEveryRankInOrder) {
  RunRanks({.ranks = 3}, [](Communicator* site) {
    RecordingTrainer own(site);
    if (site->place().rank != 0) {
      EXPECT_OK(FollowSite(&own, site));
      EXPECT_THAT(own.rounds, ElementsAre(1, 2));
      EXPECT_THAT(own.paths, ElementsAre(",", ","));
      return;
    }
    const std::atomic<bool> stop = false;
    SiteTrainer trainer(&own, site,
                        [](const absl::Status& s) { ADD_FAILURE() << s; });
    EXPECT_OK(trainer.Train(OfferOf(1), "base", "update", nullptr, stop));
    EXPECT_OK(trainer.Train(OfferOf(2), "base", "update", nullptr, stop));
    EXPECT_THAT(own.paths, ElementsAre("base,update", "base,update"));
    SendHome(site);
  });
}

TEST(SiteTrainerTest, Train_OneRankFails_TaskFailsAndTheNextGoesWell) {
  RunRanks({.ranks = 3}, [](Communicator* site) {
    RecordingTrainer own(site);
    if (site->place().rank != 0) {
      if (site->place().rank == 2) own.bad_round = 1;
      EXPECT_OK(FollowSite(&own, site));
      EXPECT_THAT(own.rounds, ElementsAre(1, 2));
      return;
    }
    const std::atomic<bool> stop = false;
    SiteTrainer trainer(&own, site,
                        [](const absl::Status& s) { ADD_FAILURE() << s; });
    EXPECT_THAT(
        trainer.Train(OfferOf(1), "", "", nullptr, stop).status(),
        StatusIs(absl::StatusCode::kNotFound, HasSubstr("rank 2 (thread)")));
    EXPECT_OK(trainer.Train(OfferOf(2), "", "", nullptr, stop));
    SendHome(site);
  });
}

TEST(SiteTrainerTest, ExternalTasksAndEvaluations_AreDoneByFirstRankAlone) {
  RunRanks({.ranks = 2}, [](Communicator* site) {
    RecordingTrainer own(site);
    if (site->place().rank != 0) {
      EXPECT_OK(FollowSite(&own, site));
      EXPECT_TRUE(own.rounds.empty());
      EXPECT_EQ(own.evaluations, 0);
      return;
    }
    const std::atomic<bool> stop = false;
    SiteTrainer trainer(&own, site,
                        [](const absl::Status& s) { ADD_FAILURE() << s; });
    v1::OfferTask offer = OfferOf(1);
    offer.mutable_training()->set_external_trainer("torch");
    EXPECT_OK(trainer.Train(offer, "", "", nullptr, stop));
    EXPECT_OK(trainer.Evaluate(OfferOf(1), "", stop));
    EXPECT_EQ(own.evaluations, 1);
    SendHome(site);
  });
}

TEST(SiteTrainerTest, Train_RankThatHangs_BreaksTheSiteWithinItsPatience) {
  Mutex mutex;
  std::vector<std::string> reasons;
  RunRanks(
      {.ranks = 2, .patience = absl::Milliseconds(300)},
      [&](Communicator* site) {
        RecordingTrainer own(site);
        if (site->place().rank != 0) return;  // hears nothing, does nothing
        const std::atomic<bool> stop = false;
        SiteTrainer trainer(&own, site, [&](const absl::Status& status) {
          MutexLock lock(&mutex);
          reasons.push_back(std::string(status.message()));
        });
        EXPECT_THAT(trainer.Train(OfferOf(1), "", "", nullptr, stop).status(),
                    StatusIs(absl::StatusCode::kUnavailable,
                             HasSubstr("made no progress")));
        EXPECT_THAT(trainer.Train(OfferOf(2), "", "", nullptr, stop).status(),
                    StatusIs(absl::StatusCode::kUnavailable,
                             HasSubstr("cannot go on together")));
        EXPECT_EQ(own.rounds.size(), 1u);
      });
  EXPECT_THAT(reasons, ElementsAre(HasSubstr("made no progress")));
}

}  // namespace
}  // namespace koinon::worker
