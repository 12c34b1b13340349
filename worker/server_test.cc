#include "worker/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/tls.h"
#include "base/version.h"
#include "worker/client/grpc_client.h"
#include "worker/testing/fake_coordinator.h"
#include "worker/testing/fake_models.h"

// A whole worker in this process, over real gRPC on loopback, against a fake
// coordinator, with a fake trainer and a disk in memory.

namespace koinon::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Heard = FakeCoordinator::Heard;

const std::string kModel(5000, 'm');
const std::string kUpdate(4000, 'u');

// Leaves kUpdate, at once or when it is let go.
class FakeTrainer final : public Trainer {
 public:
  explicit FakeTrainer(Env* env) : env_(env) {}

  absl::StatusOr<v1::Metrics> Train(const v1::OfferTask&,
                                    const std::string& base_path,
                                    const std::string& update_path,
                                    const ProgressCallback& progress,
                                    const std::atomic<bool>& stop) override {
    ++trainings_;
    EXPECT_THAT(ReadFile(env_, base_path, 1 << 20), IsOkAndHolds(kModel));
    progress(0.5, 1.25);
    {
      MutexLock lock(&mutex_);
      while (held_ && !stop) {
        changed_.WaitWithTimeout(&mutex_, absl::Milliseconds(5));
      }
    }
    if (stop) return absl::CancelledError("stopped");
    if (!failure_.ok()) return failure_;
    EXPECT_OK(WriteFileAtomically(env_, update_path, kUpdate));
    v1::Metrics metrics;
    metrics.set_examples(10);
    return metrics;
  }
  absl::StatusOr<v1::Metrics> Evaluate(const v1::OfferTask&,
                                       const std::string& model_path,
                                       const std::atomic<bool>&) override {
    EXPECT_THAT(ReadFile(env_, model_path, 1 << 20), IsOkAndHolds(kModel));
    v1::Metrics metrics;
    metrics.set_examples(3);
    metrics.set_accuracy(0.5);
    return metrics;
  }

  void Hold(bool held) {
    MutexLock lock(&mutex_);
    held_ = held;
    changed_.SignalAll();
  }
  void FailWith(absl::Status status) { failure_ = std::move(status); }
  int trainings() const { return trainings_; }

 private:
  Env* const env_;
  std::atomic<int> trainings_ = 0;
  absl::Status failure_;  // set before the worker starts
  Mutex mutex_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
};

class WorkerTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Worker>> TryStart(const std::string& target,
                                                   Env* env) {
    GrpcClient::Options client;
    client.target = target;
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
    options.env = env;
    options.clock = &clock_;
    options.trainer = &trainer_;
    options.client = *GrpcClient::Create(std::move(client));
    models_ = std::make_unique<FakeModels>(env, kModel);
    options.models = models_.get();
    options.seed = 1;
    options.local_paths = {"/data/ward b/scans.bin"};
    return Worker::Start(std::move(options));
  }
  std::unique_ptr<Worker> Start(const std::string& target) {
    auto worker = TryStart(target, &env_);
    EXPECT_OK(worker);
    return *std::move(worker);
  }

  RealClock clock_;
  MemoryEnv env_;
  FakeTrainer trainer_{&env_};
  std::unique_ptr<FakeModels> models_;
};

// The trainer's own first progress has come.
bool IsTraining(const Heard& heard) {
  return std::any_of(
      heard.messages.begin(), heard.messages.end(),
      [](const auto& m) { return m.task_progress().loss() == 1.25; });
}
bool HasUpdate(const Heard& heard) { return heard.updates.contains("job/1"); }

v1::CoordinatorMessage Settled(v1::UpdateSettled::Outcome outcome) {
  v1::CoordinatorMessage message;
  auto* task = message.mutable_update_settled()->mutable_task();
  task->set_job("job");
  task->set_round(1);
  task->set_kind(v1::TaskRef::TRAIN);
  message.mutable_update_settled()->set_outcome(outcome);
  return message;
}

TEST_F(WorkerTest, OfferedTask_IsTrainedAndPushedAndLetGo) {
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil(HasUpdate));
  EXPECT_EQ(coordinator.heard().updates.at("job/1"), kUpdate);
  ASSERT_TRUE(coordinator.WaitUntil(IsTraining));
  const auto progress = coordinator.WaitFor(v1::WorkerMessage::kTaskProgress);
  EXPECT_EQ(progress.task_progress().fetched().from_origin(), 5000);
  EXPECT_EQ(worker->status().traffic.from_origin(), 5000);
  EXPECT_EQ(models_->welcome()->federation(), "test");
  const v1::Hello hello = coordinator.heard().hellos.at(0);
  EXPECT_EQ(hello.peer().address(), "10.0.0.5:7171");
  EXPECT_EQ(hello.worker(), "site-a");
  EXPECT_EQ(hello.software_version(), std::string(kSoftwareVersion));
  EXPECT_EQ(worker->status().held_updates, 1u);
  coordinator.Send(Settled(v1::UpdateSettled::INCLUDED));
  // The answer to the next offer shows that the settlement has been handled.
  coordinator.Send(coordinator.Offer("job", 1, v1::TaskRef::EVALUATE));
  EXPECT_EQ(coordinator.WaitFor(v1::WorkerMessage::kEvaluationDone)
                .evaluation_done()
                .metrics()
                .accuracy(),
            0.5);
  worker->Stop("test ends");
  EXPECT_THAT(env_.List("/state/updates"), IsOkAndHolds(::testing::IsEmpty()));
  EXPECT_EQ(coordinator.WaitFor(v1::WorkerMessage::kGoodbye).goodbye().reason(),
            "test ends");
}

TEST_F(WorkerTest, BrokenFetchesAndPushes_AreGoneOnWith) {
  FakeCoordinator::Knobs knobs;
  knobs.break_pushes = 1;
  FakeCoordinator coordinator(knobs);
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  models_->Fail(2, absl::UnavailableError("nobody has it"));
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil(HasUpdate));
  EXPECT_EQ(trainer_.trainings(), 1);
  const Heard heard = coordinator.heard();
  ASSERT_EQ(heard.push_offsets.size(), 2u);
  EXPECT_GT(heard.push_offsets.back(), 0);
}

TEST_F(WorkerTest, CoordinatorRestarted_UpdateIsPushedNotTrainedAgain) {
  FakeCoordinator::Knobs patient;
  patient.grant_uploads = false;
  auto coordinator = std::make_unique<FakeCoordinator>(patient);
  coordinator->SetBase(Sha256Of(kModel));
  const int port = coordinator->port();
  const auto worker = Start(coordinator->target());
  coordinator->Send(coordinator->Offer("job", 1));
  coordinator->WaitFor(v1::WorkerMessage::kUpdateReady);
  coordinator.reset();
  coordinator =
      std::make_unique<FakeCoordinator>(FakeCoordinator::Knobs(), port);
  ASSERT_TRUE(coordinator->WaitUntil(HasUpdate));
  EXPECT_EQ(coordinator->heard().hellos.at(0).held_updates_size(), 1);
  EXPECT_EQ(trainer_.trainings(), 1);
}

TEST_F(WorkerTest, WorkerRestarted_UpdateIsPushedNotTrainedAgain) {
  FakeCoordinator::Knobs patient;
  patient.grant_uploads = false;
  FakeCoordinator coordinator(patient);
  coordinator.SetBase(Sha256Of(kModel));
  auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  EXPECT_EQ(coordinator.WaitFor(v1::WorkerMessage::kUpdateReady)
                .update_ready()
                .header()
                .worker(),
            "site-a");
  worker.reset();
  env_.CrashAndLoseUnsynced();
  coordinator.SetKnobs({});
  worker = Start(coordinator.target());
  ASSERT_TRUE(coordinator.WaitUntil(HasUpdate));
  EXPECT_EQ(coordinator.heard().updates.at("job/1"), kUpdate);
  EXPECT_EQ(trainer_.trainings(), 1);
}

TEST_F(WorkerTest, SessionBrokenWhileTraining_TrainingGoesOn) {
  trainer_.Hold(true);
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil(IsTraining));
  coordinator.BreakSession();
  ASSERT_TRUE(coordinator.WaitUntil(
      [](const Heard& heard) { return heard.hellos.size() == 2; }));
  trainer_.Hold(false);
  ASSERT_TRUE(coordinator.WaitUntil(HasUpdate));
  EXPECT_EQ(trainer_.trainings(), 1);
}

TEST_F(WorkerTest, Withdrawn_StopsTrainingAndTakesTheNextTask) {
  trainer_.Hold(true);
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("other", 1));
  ASSERT_TRUE(coordinator.WaitUntil(IsTraining));
  v1::CoordinatorMessage withdraw;
  *withdraw.mutable_withdraw_task()->mutable_task() =
      coordinator.Offer("other", 1).offer_task().task();
  coordinator.Send(withdraw);
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil([](const Heard& heard) {
    int accepted = 0;
    for (const auto& m : heard.messages) accepted += m.has_accept_task();
    return accepted == 2;
  }));
  trainer_.Hold(false);
  ASSERT_TRUE(coordinator.WaitUntil(HasUpdate));
  EXPECT_FALSE(coordinator.heard().updates.contains("other/1"));
}

TEST_F(WorkerTest, TrainingFails_TheCoordinatorHearsWhy) {
  trainer_.FailWith(absl::InternalError("the loss is not finite"));
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  EXPECT_THAT(coordinator.WaitFor(v1::WorkerMessage::kTaskFailed)
                  .task_failed()
                  .reason(),
              HasSubstr("the loss is not finite"));
}

TEST_F(WorkerTest, ErrorThatNamesAFile_LeavesWithoutItsPath) {
  trainer_.FailWith(absl::DataLossError(
      "/data/ward b/scans.bin: expected 4000 bytes, as there were, found 10"));
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  EXPECT_EQ(coordinator.WaitFor(v1::WorkerMessage::kTaskFailed)
                .task_failed()
                .reason(),
            "DATA_LOSS: (local path): expected 4000 bytes, as there were, "
            "found 10");
  worker->Stop("/data/ward b/scans.bin must be mended");
  EXPECT_EQ(coordinator.WaitFor(v1::WorkerMessage::kGoodbye).goodbye().reason(),
            "(local path) must be mended");
}

TEST_F(WorkerTest, ManifestRefused_TheCoordinatorHearsWhy) {
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  models_->Fail(1, absl::DataLossError("forged"));
  coordinator.Send(coordinator.Offer("job", 1));
  EXPECT_THAT(coordinator.WaitFor(v1::WorkerMessage::kTaskFailed)
                  .task_failed()
                  .reason(),
              HasSubstr("DATA_LOSS: forged"));
  EXPECT_EQ(trainer_.trainings(), 0);
}

TEST_F(WorkerTest, DiskFull_FailsTheTaskAndTheWorkerLivesOn) {
  FaultInjectingEnv disk(&env_);
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  ASSERT_OK_AND_ASSIGN(const auto worker,
                       TryStart(coordinator.target(), &disk));
  disk.FillDisk();
  coordinator.Send(coordinator.Offer("other", 1));
  EXPECT_THAT(coordinator.WaitFor(v1::WorkerMessage::kTaskFailed)
                  .task_failed()
                  .reason(),
              AllOf(HasSubstr("RESOURCE_EXHAUSTED"), Not(HasSubstr("/"))));
  disk.StopFailing();
  coordinator.Send(coordinator.Offer("job", 1));
  EXPECT_TRUE(coordinator.WaitUntil(HasUpdate));
}

TEST_F(WorkerTest, VersionRefused_IsAskedAgainLater) {
  FakeCoordinator::Knobs knobs;
  knobs.refuse_session = absl::FailedPreconditionError("worker 1.0, here 2.0");
  FakeCoordinator coordinator(knobs);
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  ASSERT_TRUE(coordinator.WaitUntil(
      [](const Heard& heard) { return heard.hellos.size() >= 2; }));
  coordinator.SetKnobs({});  // an operator has mended it
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil(
      [&](const Heard& heard) { return heard.hellos.size() >= 3; }));
}

TEST_F(WorkerTest, Lease_IsRenewed) {
  FakeCoordinator::Knobs knobs;
  knobs.lease_seconds = 0.3;
  FakeCoordinator coordinator(knobs);
  const auto worker = Start(coordinator.target());
  EXPECT_TRUE(coordinator.WaitUntil([](const Heard& heard) {
    int renewals = 0;
    for (const auto& m : heard.messages) renewals += m.has_renew_lease();
    return renewals >= 5;
  }));
}

TEST_F(WorkerTest, Stop_WhileTraining_EndsItAndSaysGoodbye) {
  trainer_.Hold(true);
  FakeCoordinator coordinator({});
  coordinator.SetBase(Sha256Of(kModel));
  const auto worker = Start(coordinator.target());
  coordinator.Send(coordinator.Offer("job", 1));
  ASSERT_TRUE(coordinator.WaitUntil(IsTraining));
  worker->Stop("SIGTERM");
  coordinator.WaitFor(v1::WorkerMessage::kGoodbye);
  EXPECT_EQ(coordinator.heard().updates.size(), 0u);
}

TEST_F(WorkerTest, Stop_WithNobodyThere_ReturnsSoon) {
  std::string target;
  {
    FakeCoordinator gone({});
    target = gone.target();
  }
  const auto worker = Start(target);
  const absl::Time before = clock_.Now();
  worker->Stop("SIGTERM");
  // Half of stop_patience: it did not wait for a goodbye that cannot leave.
  EXPECT_LT(clock_.Now() - before, absl::Seconds(5));
}

TEST_F(WorkerTest, Start_BadSpec_NamesTheField) {
  Worker::Options options;
  options.spec.name = "Not A Name";
  FakeModels models(&env_, kModel);
  options.models = &models;
  EXPECT_THAT(
      Worker::Start(std::move(options)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("worker name")));
}

}  // namespace
}  // namespace koinon::worker
