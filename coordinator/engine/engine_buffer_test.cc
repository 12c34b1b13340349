// Buffered jobs: tasks that outlive their rounds, through crashes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/testing_engine.h"
#include "coordinator/journal/testing_journal.h"

namespace koinon::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using When = FaultInjectingJournal::When;

v1::JobSpec BufferedJob(int64_t rounds, int64_t size, int64_t max_staleness) {
  v1::JobSpec spec = SmallJob("job", rounds, 0);
  spec.mutable_cohort()->set_minimum(size);
  spec.mutable_buffer()->set_size(size);
  spec.mutable_buffer()->set_max_staleness(max_staleness);
  return spec;
}

// ---- Whole jobs ----

// Digests of the versions that two sites make.
std::vector<std::string> RunTwoSites(const v1::JobSpec& spec) {
  Disk disk;
  Site a, b;
  a.name = "a";
  b.name = "b";
  Process process(&disk);
  process.Start();
  const auto first = FakeSession::Open(&process, &a, 1);
  const auto second = FakeSession::Open(&process, &b, 2);
  process.engine->SubmitJob(spec, [](const auto&) {});
  AwaitEnd(&process, "job");
  std::vector<std::string> digests;
  for (const v1::RoundReport& report : Rounds(&process, "job")) {
    EXPECT_THAT(report.included(), ElementsAre("a", "b"));
    digests.push_back(report.model_digest());
  }
  return digests;
}

TEST(EngineBufferTest, BufferOfEverybody_IsTheSynchronousRoundBitForBit) {
  v1::JobSpec spec = SmallJob("job", 3, 2);
  spec.mutable_evaluation()->set_every_rounds(2);
  const std::vector<std::string> synchronous = RunTwoSites(spec);
  ASSERT_EQ(synchronous.size(), 3u);
  EXPECT_NE(synchronous[0], synchronous[1]);
  spec.mutable_buffer()->set_size(2);
  for (const auto normalise :
       {v1::BufferSpec::BY_COUNT, v1::BufferSpec::BY_DISCOUNT}) {
    spec.mutable_buffer()->set_normalise(normalise);
    EXPECT_EQ(RunTwoSites(spec), synchronous);
  }
}

// A task: who, and the round that offered it.
using Task = std::pair<std::string, int64_t>;

struct Outcome {
  int64_t commits = 0;  // of the last process
  int64_t stale = 0;    // updates in a later round than their task's
};

constexpr int64_t kRounds = 5;
constexpr int64_t kSize = 2;
constexpr int64_t kMaxStaleness = 2;

// Each round took `kSize` updates, each was taken once and no staler than
// allowed, and what was acknowledged was taken.
void CheckRounds(const std::vector<v1::RoundReport>& rounds,
                 const std::vector<Site*>& sites, Outcome* outcome) {
  EXPECT_EQ(rounds.size(), static_cast<size_t>(kRounds));
  std::set<Task> taken;
  for (const v1::RoundReport& report : rounds) {
    EXPECT_EQ(report.included_size(), kSize) << report.round();
    EXPECT_EQ(report.aggregation().updates_size(), kSize) << report.round();
    for (const auto& update : report.aggregation().updates()) {
      EXPECT_THAT(report.included(), Contains(update.worker()));
      EXPECT_GE(update.staleness(), 0);
      EXPECT_LE(update.staleness(), kMaxStaleness);
      if (update.staleness() > 0) ++outcome->stale;
      const Task task = {update.worker(), report.round() - update.staleness()};
      EXPECT_TRUE(taken.insert(task).second)
          << task.first << "/" << task.second << " is taken twice";
    }
  }
  for (Site* site : sites) {
    MutexLock lock(&site->mutex);
    for (const auto& [job, round] : site->acknowledged) {
      EXPECT_TRUE(taken.contains({site->name, round}))
          << site->name << "/" << round << " was acknowledged";
    }
  }
}

// Three sites, of which one is slow; buffers of two. The first process dies at
// its commit number `fault`; then others go on until the job has ended.
void RunBuffered(int64_t fault, When when, Outcome* outcome) {
  Disk disk;
  Site a, b, c;
  a.name = "a";
  b.name = "b";
  c.name = "c";
  c.slow = true;
  v1::JobSpec spec = BufferedJob(kRounds, kSize, kMaxStaleness);
  spec.mutable_evaluation()->set_every_rounds(2);
  for (uint64_t run = 1;; ++run) {
    ASSERT_LE(run, 3u) << "the job does not end";
    Process process(&disk, 1 << 20, /*keep_versions=*/1);
    if (run == 1 && fault > 0) {
      process.journal.FailCommit(fault, when, absl::DataLossError("killed"));
    }
    process.Start();
    const auto slow = FakeSession::Open(&process, &c, 3 * run);
    const auto first = std::make_shared<FakeSession>(&process, &a, 3 * run + 1,
                                                     /*automatic=*/true);
    // The slow site is done with round r when the first begins with r + 1.
    first->OnOffer([slow](const v1::OfferTask& offer) {
      if (offer.task().round() > 1) slow->Release();
    });
    first->Join();
    const auto second = FakeSession::Open(&process, &b, 3 * run + 2);
    process.engine->SubmitJob(spec, [](const auto&) {});
    AwaitEnd(&process, "job");
    if (process.failed.IsSet()) {
      process.engine.reset();
      disk.memory.CrashAndLoseUnsynced();
      continue;
    }
    const auto status = Get(&process, "job");
    ASSERT_OK(status);
    EXPECT_EQ(status->state(), v1::SUCCEEDED) << status->reason();
    CheckRounds(Rounds(&process, "job"), {&a, &b, &c}, outcome);
    process.engine.reset();
    EXPECT_EQ(process.spool->allocated_bytes(), 0);
    ASSERT_OK_AND_ASSIGN(const JournalContents left, disk.journal->Load());
    EXPECT_TRUE(left.accepted.empty());
    // Once nobody is at work, only as many are kept as was asked for.
    EXPECT_EQ(left.versions.at("job").size(), 1u);
    outcome->commits = process.journal.commits();
    return;
  }
}

TEST(EngineBufferTest, KilledAtAnyCommit_EveryUpdateIsTakenOnce) {
  Outcome clean;
  RunBuffered(0, When::kBefore, &clean);
  ASSERT_GT(clean.commits, 10);
  EXPECT_GT(clean.stale, 0);
  Outcome crashed;
  for (int64_t k = 1; k <= clean.commits; ++k) {
    for (const When when : {When::kBefore, When::kAfter}) {
      SCOPED_TRACE(absl::StrCat("commit ", k,
                                when == When::kBefore ? " lost" : " written"));
      ASSERT_NO_FATAL_FAILURE(RunBuffered(k, when, &crashed));
    }
  }
  EXPECT_GT(crashed.stale, clean.commits / 2);
}

// ---- Step by step ----

// Two sites that the test plays, both with a task of round 1.
class EngineBufferedRoundTest : public ::testing::Test {
 protected:
  EngineBufferedRoundTest() {
    a_.name = "a";
    b_.name = "b";
  }
  void Begin(const v1::JobSpec& spec) {
    process_.Start();
    a = Join(&a_);
    b = Join(&b_);
    ASSERT_OK(Submit(&process_, spec));
    offer_a = AwaitOffer(a.get());
    offer_b = AwaitOffer(b.get());
  }
  std::shared_ptr<FakeSession> Join(Site* site) {
    return FakeSession::Open(&process_, site, ++sessions_,
                             /*automatic=*/false);
  }
  static v1::OfferTask AwaitOffer(FakeSession* session) {
    const auto message = session->Await(v1::CoordinatorMessage::kOfferTask);
    EXPECT_OK(message);
    return message.ok() ? message->offer_task() : v1::OfferTask();
  }
  // Announces and pushes; does not wait for the reply.
  static void Send(
      FakeSession* session, const std::string& worker,
      const v1::OfferTask& offer,
      Engine::UploadReply reply = [](const auto&) {}) {
    session->Announce(HeaderFor(worker, offer));
    ASSERT_OK(session->Await(v1::CoordinatorMessage::kGrantUpload));
    ASSERT_OK(session->Push(offer.task(), BytesOf(worker, offer.task().round()),
                            std::move(reply)));
  }
  static void ExpectSettled(FakeSession* session, int64_t task_round,
                            v1::UpdateSettled::Outcome outcome) {
    ASSERT_OK_AND_ASSIGN(
        const auto message,
        session->Await(v1::CoordinatorMessage::kUpdateSettled));
    EXPECT_EQ(message.update_settled().task().round(), task_round);
    EXPECT_EQ(message.update_settled().outcome(), outcome)
        << message.update_settled().reason();
  }
  v1::WithdrawTask AwaitWithdrawal(FakeSession* session) {
    const auto message = session->Await(v1::CoordinatorMessage::kWithdrawTask);
    EXPECT_OK(message);
    return message.ok() ? message->withdraw_task() : v1::WithdrawTask();
  }

  Site a_, b_;  // outlive the engine, which calls their sessions
  Disk disk_;
  Process process_{&disk_};
  uint64_t sessions_ = 0;
  std::shared_ptr<FakeSession> a, b;
  v1::OfferTask offer_a, offer_b;
};

TEST_F(EngineBufferedRoundTest, StaleUpdate_IsDiscountedAndSettledAsItsTask) {
  Begin(BufferedJob(2, 1, 5));
  Send(a.get(), "a", offer_a);
  ExpectSettled(a.get(), 1, v1::UpdateSettled::INCLUDED);
  const v1::OfferTask next = AwaitOffer(a.get());
  EXPECT_EQ(next.task().round(), 2);
  EXPECT_EQ(next.base_version(), 1);
  Send(b.get(), "b", offer_b);
  ExpectSettled(b.get(), 1, v1::UpdateSettled::INCLUDED);
  AwaitEnd(&process_, "job");
  EXPECT_EQ(AwaitWithdrawal(a.get()).task().round(), 2);
  const auto rounds = Rounds(&process_, "job");
  ASSERT_EQ(rounds.size(), 2u);
  EXPECT_THAT(rounds[1].included(), ElementsAre("b"));
  ASSERT_EQ(rounds[1].aggregation().updates_size(), 1);
  EXPECT_EQ(rounds[1].aggregation().updates(0).staleness(), 1);
  EXPECT_EQ(rounds[1].aggregation().updates(0).discount(), 1 / std::sqrt(2.0));
  // Announced again, as after a lost settlement.
  b->Announce(HeaderFor("b", offer_b));
  ExpectSettled(b.get(), 1, v1::UpdateSettled::INCLUDED);
  v1::UpdateHeader other = HeaderFor("b", offer_b);
  for (const int64_t round :
       {int64_t{2}, int64_t{0}, int64_t{-1}, int64_t{1} << 40,
        std::numeric_limits<int64_t>::max(),
        std::numeric_limits<int64_t>::min()}) {
    other.mutable_task()->set_round(round);
    b->Announce(other);
    ExpectSettled(b.get(), round, v1::UpdateSettled::NOT_INCLUDED);
  }
}

TEST_F(EngineBufferedRoundTest, UpdateWhileEvaluating_WaitsForTheNextRound) {
  v1::JobSpec spec = BufferedJob(2, 1, 5);
  spec.mutable_evaluation()->set_every_rounds(1);
  Begin(spec);
  Send(a.get(), "a", offer_a);
  const v1::OfferTask evaluate = AwaitOffer(a.get());
  ASSERT_EQ(evaluate.task().kind(), v1::TaskRef::EVALUATE);
  Signal replied;
  Send(b.get(), "b", offer_b, [&](const v1::PushUpdateReply& reply) {
    EXPECT_TRUE(reply.accepted()) << reply.reason();
    replied.Set();
  });
  // A second stream finds it whole; the first is gone.
  b->Announce(HeaderFor("b", offer_b));
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kGrantUpload));
  Signal second;
  ASSERT_OK(b->Push(offer_b.task(), BytesOf("b", 1),
                    [&](const v1::PushUpdateReply& reply) {
                      EXPECT_TRUE(reply.accepted()) << reply.reason();
                      second.Set();
                    }));
  ASSERT_OK_AND_ASSIGN(const v1::JobStatus status, Get(&process_, "job"));
  EXPECT_EQ(status.round(), 1);
  EXPECT_FALSE(replied.IsSet());
  EXPECT_FALSE(second.IsSet());
  v1::WorkerMessage done;
  *done.mutable_evaluation_done()->mutable_task() = evaluate.task();
  done.mutable_evaluation_done()->mutable_metrics()->set_examples(5);
  a->Say(done);
  EXPECT_TRUE(second.Wait());
  ExpectSettled(b.get(), 1, v1::UpdateSettled::INCLUDED);
}

TEST_F(EngineBufferedRoundTest, CancelledWhileAnUpdateWaits_RefusesIt) {
  v1::JobSpec spec = BufferedJob(2, 1, 5);
  spec.mutable_evaluation()->set_every_rounds(1);
  Begin(spec);
  Send(a.get(), "a", offer_a);
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kUpdateSettled));
  Signal refused;
  Send(b.get(), "b", offer_b, [&](const v1::PushUpdateReply& reply) {
    if (!reply.accepted()) refused.Set();
  });
  ASSERT_OK(Call<v1::JobStatus>(
      [&](auto reply) { process_.engine->CancelJob("job", reply); }));
  EXPECT_TRUE(refused.Wait());
  process_.engine.reset();
  EXPECT_EQ(process_.spool->allocated_bytes(), 0);
}

TEST_F(EngineBufferedRoundTest, TaskThatIsTooStale_IsWithdrawnAndRefused) {
  Begin(BufferedJob(3, 1, 0));
  Send(a.get(), "a", offer_a);
  const v1::WithdrawTask withdrawn = AwaitWithdrawal(b.get());
  EXPECT_EQ(withdrawn.task().round(), 1);
  EXPECT_THAT(withdrawn.reason(), HasSubstr("staler"));
  EXPECT_EQ(AwaitOffer(b.get()).base_version(), 1);
  b->Announce(HeaderFor("b", offer_b));
  ExpectSettled(b.get(), 1, v1::UpdateSettled::NOT_INCLUDED);
}

TEST_F(EngineBufferedRoundTest, StaleUpdateThatPretendsToBeFresh_IsRefused) {
  Begin(BufferedJob(3, 1, 5));
  Send(a.get(), "a", offer_a);
  const v1::OfferTask next = AwaitOffer(a.get());
  v1::UpdateHeader header = HeaderFor("b", offer_b);
  header.set_base_version(next.base_version());
  header.set_base_digest(next.base_digest());
  b->Announce(header);
  ExpectSettled(b.get(), 1, v1::UpdateSettled::NOT_INCLUDED);
  v1::UpdateHeader other = HeaderFor("b", next);
  b->Announce(other);
  ExpectSettled(b.get(), 2, v1::UpdateSettled::NOT_INCLUDED);
}

TEST_F(EngineBufferedRoundTest, WorkerThatComesBack_IsOfferedItsTaskAgain) {
  Begin(BufferedJob(3, 1, 5));
  Send(a.get(), "a", offer_a);
  EXPECT_EQ(AwaitOffer(a.get()).task().round(), 2);
  const auto back = Join(&b_);
  const v1::OfferTask again = AwaitOffer(back.get());
  EXPECT_EQ(again.task().round(), 1);
  EXPECT_EQ(again.base_version(), 0);
  EXPECT_EQ(again.base_digest(), offer_b.base_digest());
  EXPECT_EQ(again.seed(), offer_b.seed());
  Send(back.get(), "b", again);
  ExpectSettled(back.get(), 1, v1::UpdateSettled::INCLUDED);
}

TEST_F(EngineBufferedRoundTest, TaskThatFails_FreesTheWorkerForANewOne) {
  Begin(BufferedJob(3, 1, 5));
  Send(a.get(), "a", offer_a);
  const v1::OfferTask next = AwaitOffer(a.get());
  v1::WorkerMessage failed;
  *failed.mutable_task_failed()->mutable_task() = offer_b.task();
  failed.mutable_task_failed()->set_reason("out of memory");
  b->Say(failed);
  Send(a.get(), "a", next);
  EXPECT_EQ(AwaitOffer(b.get()).task().round(), 3);
  const auto rounds = Rounds(&process_, "job");
  ASSERT_EQ(rounds.size(), 2u);
  ASSERT_EQ(rounds[1].excluded_size(), 1);
  EXPECT_EQ(rounds[1].excluded(0).reason(), "out of memory");
}

}  // namespace
}  // namespace koinon::coordinator
