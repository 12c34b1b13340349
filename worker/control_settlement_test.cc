#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/model_layout.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/tls.h"
#include "worker/client/grpc_client.h"
#include "worker/server.h"
#include "worker/store/control_store.h"
#include "worker/testing/fake_coordinator.h"
#include "worker/testing/fake_models.h"

// When a worker's control variate changes, and when it does not: a whole worker
// in this process, against a fake coordinator, with a disk in memory that loses
// power.

namespace koinon::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Heard = FakeCoordinator::Heard;

constexpr int64_t kSubmitted = 42;

// Reads the control variate, as training does, and leaves an update whose
// second half is (round, 10 round).
class ControlTrainer final : public Trainer {
 public:
  ControlTrainer(Env* env, ControlStore* controls)
      : env_(env), controls_(controls) {}

  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask& offer,
                                    const std::string&,
                                    const std::string& update_path,
                                    const ProgressCallback&,
                                    const std::atomic<bool>&) override {
    ABSL_RETURN_IF_ERROR(See(offer.task().job()));
    const float round = static_cast<float>(offer.task().round());
    const float update[] = {9, 9, round, 10 * round};
    ABSL_ASSIGN_OR_RETURN(auto file,
                          env_->Open(update_path, Env::OpenMode::kCreate));
    ABSL_RETURN_IF_ERROR(file->WriteAt(0, update, sizeof(update)));
    v1::Metrics metrics;
    metrics.set_examples(1);
    return metrics;
  }
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask& offer,
                                       const std::string&,
                                       const std::atomic<bool>&) override {
    ABSL_RETURN_IF_ERROR(See(offer.task().job()));
    return v1::Metrics();
  }

  // What the last run saw.
  std::vector<float> seen() const {
    MutexLock lock(&mutex_);
    return seen_;
  }

 private:
  absl::Status See(const std::string& job) {
    ABSL_ASSIGN_OR_RETURN(
        std::vector<float> control,
        controls_->Read({job, kSubmitted},
                        *ModelLayout::Create({{"w", DType::kF32, {2}}})));
    MutexLock lock(&mutex_);
    seen_ = std::move(control);
    return absl::OkStatus();
  }

  Env* const env_;
  ControlStore* const controls_;
  mutable Mutex mutex_;
  std::vector<float> seen_ ABSL_GUARDED_BY(mutex_);
};

class ControlSettlementTest : public ::testing::Test {
 protected:
  void SetUp() override {
    coordinator_.SetBase(models_.digest());
    Start();
  }

  void Start() {
    auto controls = ControlStore::Open(&disk_, "/state/controls", {});
    ASSERT_OK(controls);
    controls_ = *std::move(controls);
    trainer_ = std::make_unique<ControlTrainer>(&disk_, controls_.get());
    GrpcClient::Options client;
    client.target = coordinator_.target();
    client.credentials = MakeInsecureChannelCredentials();
    Worker::Options options;
    options.spec.name = "site-a";
    options.spec.state_dir = "/state";
    options.spec.backoff.base = absl::Milliseconds(5);
    options.spec.backoff.max = absl::Milliseconds(50);
    auto* dataset = options.capabilities.add_datasets();
    dataset->set_name("digits");
    dataset->set_examples(10);
    dataset->set_held_out_examples(3);
    options.env = &disk_;
    options.clock = &clock_;
    options.trainer = trainer_.get();
    options.controls = controls_.get();
    options.client = *GrpcClient::Create(std::move(client));
    options.models = &models_;
    auto worker = Worker::Start(std::move(options));
    ASSERT_OK(worker);
    worker_ = *std::move(worker);
  }
  // Ends the process and takes the power away.
  void Kill() {
    worker_ = nullptr;
    controls_ = nullptr;
    disk_.StopFailing();
    memory_.CrashAndLoseUnsynced();
  }
  void KillAndRestart() {
    Kill();
    Start();
  }

  // Has the round trained and pushed.
  void Train(int64_t round) {
    coordinator_.Send(coordinator_.Offer("job", round));
    AwaitUpdate(round);
  }
  void AwaitUpdate(int64_t round) {
    ASSERT_TRUE(coordinator_.WaitUntil([&](const Heard& heard) {
      return heard.updates.contains(absl::StrCat("job/", round));
    }));
  }
  void Settle(int64_t round, v1::UpdateSettled::Outcome outcome) {
    v1::CoordinatorMessage message;
    *message.mutable_update_settled()->mutable_task() =
        coordinator_.Offer("job", round).offer_task().task();
    message.mutable_update_settled()->set_outcome(outcome);
    coordinator_.Send(message);
  }
  void Withdraw(int64_t round) {
    v1::CoordinatorMessage message;
    *message.mutable_withdraw_task()->mutable_task() =
        coordinator_.Offer("job", round).offer_task().task();
    coordinator_.Send(message);
  }
  // What a run sees that is offered now, after all that was said before.
  std::vector<float> SeenNow() {
    const size_t before = Count(v1::WorkerMessage::kEvaluationDone);
    coordinator_.Send(
        coordinator_.Offer("job", ++evaluations_, v1::TaskRef::EVALUATE));
    EXPECT_TRUE(coordinator_.WaitUntil([&](const Heard& heard) {
      return CountIn(heard, v1::WorkerMessage::kEvaluationDone) > before;
    }));
    return trainer_->seen();
  }
  static size_t CountIn(const Heard& heard,
                        v1::WorkerMessage::MessageCase kind) {
    size_t count = 0;
    for (const auto& m : heard.messages) count += m.message_case() == kind;
    return count;
  }
  size_t Count(v1::WorkerMessage::MessageCase kind) const {
    return CountIn(coordinator_.heard(), kind);
  }
  void AwaitHellos(size_t count) {
    ASSERT_TRUE(coordinator_.WaitUntil(
        [&](const Heard& heard) { return heard.hellos.size() >= count; }));
  }

  const RealClock clock_;
  MemoryEnv memory_;
  FaultInjectingEnv disk_{&memory_};
  FakeCoordinator coordinator_{{}};
  FakeModels models_{&memory_, "a model"};
  int64_t evaluations_ = 0;
  std::unique_ptr<ControlStore> controls_;
  std::unique_ptr<ControlTrainer> trainer_;
  std::unique_ptr<Worker> worker_;
};

TEST_F(ControlSettlementTest, Included_AddsTheDifference) {
  Train(1);
  EXPECT_THAT(trainer_->seen(), ElementsAre(0, 0));
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
  Settle(1, v1::UpdateSettled::ACCEPTED);
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
  Settle(1, v1::UpdateSettled::INCLUDED);
  Train(2);
  EXPECT_THAT(trainer_->seen(), ElementsAre(1, 10));
  Settle(2, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(3, 30));
  EXPECT_THAT(memory_.List("/state/updates"), IsOkAndHolds(ElementsAre()));
}

TEST_F(ControlSettlementTest, NotIncluded_KeepsTheOld) {
  Train(1);
  Settle(1, v1::UpdateSettled::INCLUDED);
  Train(2);
  Settle(2, v1::UpdateSettled::NOT_INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
  Train(3);
  Settle(3, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(4, 40));
}

TEST_F(ControlSettlementTest, WithdrawnBeforeItWasTaken_KeepsTheOld) {
  FakeCoordinator::Knobs patient;
  patient.grant_uploads = false;
  coordinator_.SetKnobs(patient);
  coordinator_.Send(coordinator_.Offer("job", 1));
  coordinator_.WaitFor(v1::WorkerMessage::kUpdateReady);
  Withdraw(1);
  // It has no update of that round any more: this changes nothing.
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
}

TEST_F(ControlSettlementTest, KilledAfterTraining_CountsOnceItIsIncluded) {
  FakeCoordinator::Knobs patient;
  patient.grant_uploads = false;
  coordinator_.SetKnobs(patient);
  coordinator_.Send(coordinator_.Offer("job", 1));
  coordinator_.WaitFor(v1::WorkerMessage::kUpdateReady);
  Kill();
  coordinator_.SetKnobs({});
  Start();
  AwaitUpdate(1);
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
}

TEST_F(ControlSettlementTest, KilledAfterThePush_HearsOfItInTheNextSession) {
  Train(1);
  KillAndRestart();
  AwaitHellos(2);
  EXPECT_EQ(coordinator_.heard().hellos[1].held_updates_size(), 1);
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
}

TEST_F(ControlSettlementTest, KilledAfterThePushAndNotIncluded_KeepsTheOld) {
  Train(1);
  KillAndRestart();
  AwaitHellos(2);
  Settle(1, v1::UpdateSettled::NOT_INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
}

// The new control variate is on disk and the update still there: the process
// that comes next holds the update, hears INCLUDED once more, and must not add
// it again.
TEST_F(ControlSettlementTest, KilledBetweenIncludingAndForgetting_CountsOnce) {
  Train(1);
  disk_.FailAlways(FaultInjectingEnv::Operation::kRemove,
                   absl::DataLossError("broken disk"));
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
  KillAndRestart();
  AwaitHellos(2);
  ASSERT_EQ(coordinator_.heard().hellos[1].held_updates_size(), 1);
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
  EXPECT_THAT(memory_.List("/state/updates"), IsOkAndHolds(ElementsAre()));
}

// What cannot be written is not forgotten, and nothing is trained on the old
// control variate meanwhile.
TEST_F(ControlSettlementTest, DiskFullWhileIncluding_HoldsTheJobUp) {
  Train(1);
  disk_.FillDisk();
  Settle(1, v1::UpdateSettled::INCLUDED);
  coordinator_.Send(coordinator_.Offer("job", 2));
  EXPECT_THAT(coordinator_.WaitFor(v1::WorkerMessage::kTaskFailed)
                  .task_failed()
                  .reason(),
              HasSubstr("RESOURCE_EXHAUSTED"));
  disk_.StopFailing();
  Train(3);
  EXPECT_THAT(trainer_->seen(), ElementsAre(1, 10));
}

TEST_F(ControlSettlementTest, KilledWithTheDiskFull_CountsOnceItIsIncluded) {
  Train(1);
  disk_.FillDisk();
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(0, 0));
  KillAndRestart();
  AwaitHellos(2);
  Settle(1, v1::UpdateSettled::INCLUDED);
  EXPECT_THAT(SeenNow(), ElementsAre(1, 10));
}

}  // namespace
}  // namespace koinon::worker
