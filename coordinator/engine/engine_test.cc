#include "coordinator/engine/engine.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/engine/testing_engine.h"
#include "coordinator/journal/testing_journal.h"

namespace koinon::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- Crashes ----

struct Outcome {
  std::string digest;
  int64_t commits = 0;  // of the last process
  int processes = 0;
};

// Two sites, two rounds, evaluation. The first process dies at its commit
// number `fault`; then others go on until the job has ended.
Outcome RunJob(int64_t fault, FaultInjectingJournal::When when) {
  Disk disk;
  Site a, b;
  a.name = "a";
  b.name = "b";
  v1::JobSpec spec = SmallJob("job", 2, 2);
  spec.mutable_evaluation()->set_every_rounds(1);
  Outcome outcome;
  for (uint64_t session = 1;; session += 2) {
    Process process(&disk);
    if (++outcome.processes > 3) {
      ADD_FAILURE() << "the job does not end";
      return outcome;
    }
    if (outcome.processes == 1 && fault > 0) {
      process.journal.FailCommit(fault, when, absl::DataLossError("killed"));
    }
    process.Start();
    const auto first = FakeSession::Open(&process, &a, session);
    const auto second = FakeSession::Open(&process, &b, session + 1);
    // Submitted again after a lost reply.
    process.engine->SubmitJob(spec, [](const auto&) {});
    AwaitEnd(&process, "job");
    if (process.failed.IsSet()) {
      process.engine.reset();
      disk.memory.CrashAndLoseUnsynced();
      continue;
    }
    const auto status = Get(&process, "job");
    EXPECT_OK(status);
    EXPECT_EQ(status->state(), v1::SUCCEEDED) << status->reason();
    for (const v1::RoundReport& report : Rounds(&process, "job")) {
      for (Site* site : {&a, &b}) {
        MutexLock lock(&site->mutex);
        if (site->acknowledged.contains({"job", report.round()})) {
          EXPECT_THAT(report.included(), Contains(site->name));
        }
      }
      outcome.digest = report.model_digest();
    }
    process.engine.reset();
    outcome.commits = process.journal.commits();
    EXPECT_EQ(process.spool->allocated_bytes(), 0);
    return outcome;
  }
}

TEST(EngineCrashTest, KilledAtAnyCommit_EndsWithTheSameModel) {
  using When = FaultInjectingJournal::When;
  const Outcome clean = RunJob(0, When::kBefore);
  ASSERT_EQ(clean.processes, 1);
  ASSERT_GT(clean.commits, 5);
  ASSERT_FALSE(clean.digest.empty());
  for (int64_t k = 1; k <= clean.commits; ++k) {
    for (const When when : {When::kBefore, When::kAfter}) {
      SCOPED_TRACE(absl::StrCat("commit ", k,
                                when == When::kBefore ? " lost" : " written"));
      EXPECT_EQ(RunJob(k, when).digest, clean.digest);
    }
  }
}

TEST(EngineCrashTest, CancelledWhileAggregating_RestartFreesTheSpool) {
  Disk disk;
  const auto extent = [&] {
    auto spool = Spool::Open(&disk.env, absl::StrCat(kData, "/spool"),
                             {.max_bytes = 1 << 20}, {});
    return *(*spool)->Allocate(24);
  };
  // As such a process leaves it: the job has ended, its updates are kept.
  v1::JobSpec spec = SmallJob("job", 1, 1);
  JobRow job;
  job.spec = spec;
  job.state = v1::CANCELLED;
  RoundRow round;
  round.job = "job";
  round.round = 1;
  round.phase = RoundPhase::kClosed;
  round.cohort = round.included = {"a"};
  AcceptedRow row;
  row.job = "job";
  row.round = 1;
  row.task_round = 1;
  row.worker = "a";
  row.extent = extent();
  v1::ModelManifest manifest;
  manifest.set_job("job");
  manifest.set_digest(std::string(32, 'm'));
  ASSERT_OK(disk.journal->Commit({job, round, row, VersionRow{manifest}}));
  Process process(&disk);
  ASSERT_GT(process.spool->allocated_bytes(), 0);
  process.Start();
  ASSERT_OK(Get(&process, "job"));
  process.engine->Stop(absl::ZeroDuration());
  EXPECT_EQ(process.spool->allocated_bytes(), 0);
  EXPECT_TRUE(disk.journal->Load()->accepted.empty());
}

// ---- Faults ----

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    a_.name = "a";
    b_.name = "b";
  }
  std::shared_ptr<FakeSession> Join(Site* site, bool automatic,
                                    bool tell_held = true) {
    return FakeSession::Open(&process_, site, ++sessions_, automatic,
                             tell_held);
  }

  Site a_, b_;  // outlive the engine, which calls their sessions
  Disk disk_;
  Process process_{&disk_};
  uint64_t sessions_ = 0;
};

TEST_F(EngineTest, JournalFull_NothingIsAcknowledgedUntilThereIsRoom) {
  process_.journal.FailCommit(1, FaultInjectingJournal::When::kBefore,
                              absl::ResourceExhaustedError("disk full"));
  process_.Start();
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  process_.engine.reset();
  // The reply came after the commit that succeeded.
  EXPECT_GE(process_.journal.commits(), 2);
  EXPECT_TRUE(disk_.journal->Load()->jobs.contains("job"));
  EXPECT_FALSE(process_.failed.IsSet());
}

TEST_F(EngineTest, SpoolSyncFails_IsFatalAndNothingIsAcknowledged) {
  process_.Start();
  const auto session = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       session->Await(v1::CoordinatorMessage::kOfferTask));
  session->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(session->Await(v1::CoordinatorMessage::kGrantUpload));
  disk_.env.FailAlways(FaultInjectingEnv::Operation::kSync,
                       absl::DataLossError("broken disk"));
  Signal replied;
  ASSERT_OK(session->Push(offer.offer_task().task(), BytesOf("a", 1),
                          [&](const v1::PushUpdateReply&) { replied.Set(); }));
  EXPECT_TRUE(process_.failed.Wait());
  process_.engine.reset();
  EXPECT_FALSE(replied.IsSet());
  EXPECT_TRUE(disk_.journal->Load()->accepted.empty());
}

TEST_F(EngineTest, FailedAndStopped_CallsAreDroppedNotKept) {
  process_.journal.FailCommit(1, FaultInjectingJournal::When::kBefore,
                              absl::DataLossError("broken"));
  process_.Start();
  process_.engine->SubmitJob(SmallJob("job", 1, 1), [](const auto&) {});
  ASSERT_TRUE(process_.failed.Wait());
  // A reply that is never given is destroyed: its owner sees that.
  Signal destroyed;
  {
    const std::shared_ptr<void> owner(nullptr, [&](void*) { destroyed.Set(); });
    process_.engine->SubmitJob(SmallJob("other", 1, 1),
                               [owner](const auto&) {});
  }
  EXPECT_TRUE(destroyed.Wait());
}

// ---- Updates ----

TEST_F(EngineTest, WholeUpdate_PushedByASecondStream_IsStillGood) {
  process_.Start();
  const auto session = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       session->Await(v1::CoordinatorMessage::kOfferTask));
  const v1::UpdateHeader header = HeaderFor("a", offer.offer_task());
  session->Announce(header);
  ASSERT_OK(session->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK_AND_ASSIGN(const auto granted,
                       process_.desk->Find({"job", 1, "a"}));
  const std::shared_ptr<Upload> upload = granted.upload;
  const uint64_t stream = upload->Attach(nullptr);
  ASSERT_OK(upload->Append(stream, 0, BytesOf("a", 1), absl::Now()));
  EXPECT_OK(upload->Verify());
  // That stream broke before the engine heard of it; another finds it whole.
  EXPECT_OK(upload->Verify());
}

TEST_F(EngineTest, UpdateThatIsIn_LateFailureReport_StaysIn) {
  process_.Start();
  const auto a = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 2)));
  const auto b = Join(&b_, /*automatic=*/false);
  ASSERT_OK_AND_ASSIGN(const auto offer_a,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK_AND_ASSIGN(const auto offer_b,
                       b->Await(v1::CoordinatorMessage::kOfferTask));
  Signal accepted;
  a->Announce(HeaderFor("a", offer_a.offer_task()));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(a->Push(offer_a.offer_task().task(), BytesOf("a", 1),
                    [&](const auto& reply) {
                      if (reply.accepted()) accepted.Set();
                    }));
  ASSERT_TRUE(accepted.Wait());
  v1::WorkerMessage failed;
  *failed.mutable_task_failed()->mutable_task() = offer_a.offer_task().task();
  failed.mutable_task_failed()->set_reason("no update is kept");
  a->Say(failed);
  b->Announce(HeaderFor("b", offer_b.offer_task()));
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(b->Push(offer_b.offer_task().task(), BytesOf("b", 1),
                    [](const auto&) {}));
  AwaitEnd(&process_, "job");
  ASSERT_OK_AND_ASSIGN(const auto settled,
                       a->Await(v1::CoordinatorMessage::kUpdateSettled));
  EXPECT_EQ(settled.update_settled().outcome(), v1::UpdateSettled::INCLUDED);
  const auto rounds = Rounds(&process_, "job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("a", "b"));
  // What the ranks of each site exchanged, as each measured it.
  ASSERT_EQ(rounds[0].communication_size(), 2);
  EXPECT_EQ(rounds[0].communication().at("a").bytes(), 1000 + 'a');
  EXPECT_EQ(rounds[0].communication().at("b").bytes(), 1000 + 'b');
  EXPECT_EQ(rounds[0].communication().at("b").waited_seconds(), 0.25);
  EXPECT_EQ(rounds[0].communication().at("b").step_seconds(), 2);
  EXPECT_EQ(rounds[0].communication().at("b").step_waited_seconds(), 0.125);
}

TEST_F(EngineTest, WorkerThatLostItsUpdate_IsOfferedTheTaskAnew) {
  process_.Start();
  const auto before = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       before->Await(v1::CoordinatorMessage::kOfferTask));
  before->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(before->Await(v1::CoordinatorMessage::kGrantUpload));
  // Its process and its disk are gone; the grant is not taken up.
  const auto after = Join(&a_, /*automatic=*/true, /*tell_held=*/false);
  EXPECT_OK(after->Await(v1::CoordinatorMessage::kOfferTask));
  AwaitEnd(&process_, "job");
  EXPECT_EQ(process_.spool->allocated_bytes(), 0);
}

TEST_F(EngineTest, LongReason_IsCutBetweenCharactersSoTheReportCanBeRead) {
  process_.Start();
  const auto a = Join(&a_, /*automatic=*/false);
  v1::JobSpec spec = SmallJob("job", 1, 1);
  spec.mutable_cohort()->set_over_selection(2);
  const auto b = Join(&b_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, spec));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kOfferTask));
  v1::WorkerMessage refusal;
  *refusal.mutable_refuse_task()->mutable_task() = offer.offer_task().task();
  std::string reason = "x";
  while (reason.size() < 1000) reason += "\xe2\x82\xac";  // the euro sign
  refusal.mutable_refuse_task()->set_reason(reason);
  b->Say(refusal);
  a->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(
      a->Push(offer.offer_task().task(), BytesOf("a", 1), [](const auto&) {}));
  AwaitEnd(&process_, "job");
  const auto rounds = Rounds(&process_, "job");
  ASSERT_EQ(rounds.size(), 1u);
  ASSERT_EQ(rounds[0].excluded_size(), 1);
  v1::RoundReport read;
  EXPECT_TRUE(read.ParseFromString(rounds[0].SerializeAsString()));
}

TEST_F(EngineTest, MessageWithAJobThatIsNoName_EndsTheSession) {
  process_.Start();
  const auto session = Join(&a_, /*automatic=*/false);
  v1::UpdateHeader header;
  header.mutable_task()->set_job(std::string(1 << 20, 'x'));
  session->Announce(header);
  EXPECT_THAT(session->Await(v1::CoordinatorMessage::kUpdateSettled),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// ---- Jobs side by side ----

TEST_F(EngineTest, WorkerFreedByOneJob_IsOfferedToTheOther) {
  process_.Start();
  v1::JobSpec first = SmallJob("first", 1, 2);
  first.set_priority(5);
  ASSERT_OK(Submit(&process_, first));
  const auto a = Join(&a_, /*automatic=*/false);
  const auto b = Join(&b_, /*automatic=*/false);
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_EQ(offer.offer_task().task().job(), "first");
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kOfferTask));
  ASSERT_OK(Submit(&process_, SmallJob("second", 1, 1)));
  // The first job's round stays open for b.
  a->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK(
      a->Push(offer.offer_task().task(), BytesOf("a", 1), [](const auto&) {}));
  ASSERT_OK_AND_ASSIGN(const auto next,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  EXPECT_EQ(next.offer_task().task().job(), "second");
}

TEST_F(EngineTest, Submit_RoundThatTheSpoolCannotHold_IsRefused) {
  process_.Start();
  v1::JobSpec spec = SmallJob("job", 1, 5);
  spec.mutable_model()->set_input_shape(0, 40'000);  // 320,000 bytes
  EXPECT_THAT(Submit(&process_, spec),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("max_spool_bytes")));
}

// It may have been stored before a field was known whose default is filled in
// now.
TEST(EngineUpgradeTest, JobStoredWithFewerDefaults_IsTheSameSubmittedAgain) {
  Disk disk;
  JobRow row;
  row.spec = SmallJob("job", 1, 1);
  ASSERT_FALSE(row.spec.aggregation().has_fedavg());
  ASSERT_OK(disk.journal->Commit({row}));
  Process process(&disk);
  process.Start();
  EXPECT_OK(Submit(&process, SmallJob("job", 1, 1)));
  EXPECT_THAT(Submit(&process, SmallJob("job", 2, 1)),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("job")));
}

TEST_F(EngineTest, Submit_InitialModelBeyondAnyNumber_IsRefused) {
  process_.Start();
  v1::JobSpec spec = SmallJob("job", 1, 1);
  for (const char* model : {"x@999999999999999999999", "x@-1", "x@", "@1",
                            "x@1@2", "x", "../x@1"}) {
    spec.set_initial_model(model);
    EXPECT_THAT(Submit(&process_, spec),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("initial_model")))
        << model;
  }
}

// ---- Stopping ----

TEST_F(EngineTest, Stop_OpenRoundWithoutWorkers_IsAtOnce) {
  process_.Start();
  auto session = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  ASSERT_OK(session->Await(v1::CoordinatorMessage::kOfferTask));
  process_.engine->OnSessionClosed(1);
  const absl::Time begin = absl::Now();
  process_.engine->Stop(absl::Minutes(10));
  EXPECT_LT(absl::Now() - begin, kPatience);
}

TEST_F(EngineTest, Stop_GrantThatNobodyTakesUp_IsAtOnce) {
  process_.Start();
  auto session = Join(&a_, /*automatic=*/false);
  ASSERT_OK(Submit(&process_, SmallJob("job", 1, 1)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       session->Await(v1::CoordinatorMessage::kOfferTask));
  session->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(session->Await(v1::CoordinatorMessage::kGrantUpload));
  const absl::Time begin = absl::Now();
  process_.engine->Stop(absl::Minutes(10));
  EXPECT_LT(absl::Now() - begin, kPatience);
  EXPECT_THAT(session->Await(v1::CoordinatorMessage::kOfferTask),
              StatusIs(absl::StatusCode::kUnavailable));
}

}  // namespace
}  // namespace koinon::coordinator
