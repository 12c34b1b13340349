// Jobs whose updates are added to a running sum as they arrive.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/aggregator.h"
#include "aggregation/core/update_set.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "base/thread_pool.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/testing_engine.h"
#include "coordinator/folds/fold.h"
#include "coordinator/journal/testing_journal.h"

namespace koinon::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Operation = FaultInjectingEnv::Operation;

v1::JobSpec FoldingJob(int64_t rounds, int64_t workers) {
  v1::JobSpec spec = SmallJob("job", rounds, workers);
  spec.mutable_aggregation()->mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  return spec;
}

std::vector<float> ValuesOf(const std::string& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<float> ValuesOfVersion(Process* process, int64_t version) {
  const auto manifest = process->catalog.Find("job", version);
  EXPECT_OK(manifest);
  const auto opened = process->store->Open(**manifest);
  EXPECT_OK(opened);
  std::vector<float> values(kParameters);
  EXPECT_OK(opened->file->ReadAt(opened->data_offset_bytes,
                                 values.size() * sizeof(float), values.data()));
  return values;
}

// Sites "a", "b", ... in some order.
std::vector<std::unique_ptr<Site>> MakeSites(size_t n, Random* random) {
  std::vector<std::unique_ptr<Site>> sites;
  for (size_t i = 0; i < n; ++i) {
    sites.push_back(std::make_unique<Site>());
    sites.back()->name = std::string(1, static_cast<char>('a' + i));
  }
  random->Shuffle(&sites);
  return sites;
}

// ---- The sum ----

// One round of n workers that come in an order that follows from the seed.
// Returns the new version's digest.
std::string DigestOfRound(size_t n, uint64_t seed, uint64_t spool_bytes,
                          std::vector<float>* base = nullptr,
                          std::vector<float>* values = nullptr) {
  Disk disk;
  Random random(seed);
  const auto sites = MakeSites(n, &random);
  Process process(&disk, spool_bytes);
  process.Start();
  EXPECT_OK(Submit(&process, FoldingJob(1, static_cast<int64_t>(n))));
  std::vector<std::shared_ptr<FakeSession>> sessions;
  for (size_t i = 0; i < n; ++i) {
    sessions.push_back(FakeSession::Open(&process, sites[i].get(), i + 1));
  }
  AwaitEnd(&process, "job");
  const auto rounds = Rounds(&process, "job");
  EXPECT_EQ(rounds.size(), 1u);
  if (rounds.empty()) return "";
  EXPECT_EQ(rounds[0].included_size(), static_cast<int>(n));
  EXPECT_EQ(rounds[0].aggregation().updates_size(), static_cast<int>(n));
  double coefficients = 0;
  for (const auto& update : rounds[0].aggregation().updates()) {
    coefficients += update.coefficient();
  }
  EXPECT_NEAR(coefficients, 1, 1e-9);
  EXPECT_EQ(rounds[0].bytes_received(),
            static_cast<int64_t>(n * kParameters * sizeof(float)));
  if (base != nullptr) *base = ValuesOfVersion(&process, 0);
  if (values != nullptr) *values = ValuesOfVersion(&process, 1);
  process.engine.reset();
  EXPECT_EQ(process.spool->allocated_bytes(), 0);
  return rounds[0].model_digest();
}

TEST(EngineFoldsTest, UpdatesInAnyOrder_GiveTheSameVersion) {
  for (size_t n : {1, 2, 5, 17}) {
    const std::string expected = DigestOfRound(n, 1, 1 << 20);
    for (uint64_t seed = 2; seed <= 6; ++seed) {
      EXPECT_EQ(DigestOfRound(n, seed, 1 << 20), expected)
          << "n=" << n << " seed=" << seed;
    }
  }
}

TEST(EngineFoldsTest, RoundAddedUpOnArrival_EqualsTheRuleOverAllUpdates) {
  constexpr size_t kWorkers = 9;
  std::vector<float> base, got;
  DigestOfRound(kWorkers, 3, 1 << 20, &base, &got);
  const v1::JobSpec spec = FoldingJob(1, kWorkers);
  aggregation::UpdateSet::Expected expected;
  expected.layout = *ModelLayout::Create({{"w", DType::kF32, {kParameters}}});
  std::vector<aggregation::Update> updates;
  std::vector<std::vector<float>> values;
  for (size_t i = 0; i < kWorkers; ++i) {
    const std::string worker(1, static_cast<char>('a' + i));
    values.push_back(ValuesOf(BytesOf(worker, 1)));
    aggregation::Update update;
    update.worker = worker;
    update.weight = 10 + worker[0];  // as HeaderFor says
    update.layout_hash = expected.layout.hash();
    update.elements = kParameters;
    updates.push_back(std::move(update));
  }
  for (size_t i = 0; i < kWorkers; ++i) {
    updates[i].values = std::make_unique<aggregation::MemorySource>(values[i]);
  }
  std::vector<aggregation::Refusal> refusals;
  const auto set =
      aggregation::UpdateSet::Create(expected, std::move(updates), &refusals);
  ASSERT_EQ(set.size(), kWorkers);
  ASSERT_OK_AND_ASSIGN(const auto rule,
                       aggregation::MakeFixedPointMean(spec.aggregation()));
  ThreadPool pool(1);
  std::vector<float> mean(kParameters);
  aggregation::MemorySink sink(absl::MakeSpan(mean));
  ASSERT_OK(rule->Aggregate(set, {.pool = &pool}, &sink));
  for (size_t j = 0; j < kParameters; ++j) {
    EXPECT_EQ(got[j], base[j] + mean[j]) << "element " << j;
  }
}

// Two sums and one update are a block each: room for no second update.
TEST(EngineFoldsTest, SpoolOfTwoSumsAndOneUpdate_IsEnoughForAnyNumber) {
  const std::string expected = DigestOfRound(12, 1, 1 << 20);
  EXPECT_EQ(DigestOfRound(12, 2, 3 * Spool::kBlockBytes), expected);
}

// A sum's extent is needed until the next one is committed, and no third is
// taken meanwhile.
TEST(EngineFoldsTest, OpenRoundOfManyUpdates_HoldsTwoSums) {
  constexpr int64_t kWorkers = 24;
  Disk disk;
  Random random(1);
  const auto sites = MakeSites(kWorkers, &random);
  Site last;
  last.name = "z";
  Process process(&disk);
  process.Start();
  ASSERT_OK(Submit(&process, FoldingJob(1, kWorkers + 1)));
  std::vector<std::shared_ptr<FakeSession>> sessions;
  for (size_t i = 0; i < sites.size(); ++i) {
    sessions.push_back(FakeSession::Open(&process, sites[i].get(), i + 1));
  }
  // The round opens with all and stays open: the last one does not deliver.
  const auto silent = FakeSession::Open(&process, &last, kWorkers + 1, false);
  absl::StatusOr<v1::JobStatus> status;
  do {
    status = Get(&process, "job");
    ASSERT_OK(status);
  } while (status->updates_accepted() < kWorkers);
  EXPECT_EQ(process.spool->allocated_bytes(), 2 * Spool::kBlockBytes);
}

TEST(EngineFoldsTest, SpoolTooSmallForTwoSums_IsRefusedAtSubmission) {
  Disk disk;
  Process process(&disk, 4 * kParameters * sizeof(float));
  process.Start();
  EXPECT_THAT(Submit(&process, FoldingJob(1, 1)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("two running sums of 48 bytes")));
}

// ---- Crashes ----

struct Outcome {
  std::string digest;
  std::string failure;  // why the job failed; then nothing else counts
  int64_t commits = 0;  // of the last process
  int64_t syncs = 0;
  int processes = 0;
};

// Three sites, two rounds. `break_first` is done to the first process, which
// may die of it; then others go on, without what was not synced, until the job
// has ended.
Outcome RunJob(const std::function<void(Disk*, Process*)>& break_first) {
  Disk disk;
  Random random(1);
  const auto sites = MakeSites(3, &random);
  const v1::JobSpec spec = FoldingJob(2, 3);
  Outcome outcome;
  uint64_t session = 0;
  while (true) {
    Process process(&disk);
    if (++outcome.processes > 3) {
      ADD_FAILURE() << "the job does not end";
      return outcome;
    }
    if (outcome.processes == 1) break_first(&disk, &process);
    process.Start();
    std::vector<std::shared_ptr<FakeSession>> sessions;
    for (const auto& site : sites) {
      sessions.push_back(FakeSession::Open(&process, site.get(), ++session));
    }
    process.engine->SubmitJob(spec, [](const auto&) {});
    AwaitEnd(&process, "job");
    if (process.failed.IsSet()) {
      process.engine.reset();
      disk.env.StopFailing();
      disk.memory.CrashAndLoseUnsynced();
      continue;
    }
    const auto status = Get(&process, "job");
    EXPECT_OK(status);
    if (status->state() != v1::SUCCEEDED) {
      outcome.failure = status->reason();
      return outcome;
    }
    for (const v1::RoundReport& report : Rounds(&process, "job")) {
      EXPECT_EQ(report.included_size(), 3);
      for (const auto& site : sites) {
        MutexLock lock(&site->mutex);
        if (site->acknowledged.contains({"job", report.round()})) {
          EXPECT_THAT(report.included(), Contains(site->name));
        }
      }
      outcome.digest = report.model_digest();
    }
    process.engine.reset();
    outcome.commits = process.journal.commits();
    outcome.syncs = disk.env.count(Operation::kSync);
    EXPECT_EQ(process.spool->allocated_bytes(), 0);
    EXPECT_THAT(disk.journal->Load()->accepted, IsEmpty());
    EXPECT_THAT(disk.journal->Load()->folds, IsEmpty());
    return outcome;
  }
}

TEST(EngineFoldsCrashTest, KilledAtAnyCommit_EndsWithTheSameModel) {
  using When = FaultInjectingJournal::When;
  const Outcome clean = RunJob([](Disk*, Process*) {});
  ASSERT_EQ(clean.processes, 1);
  ASSERT_GT(clean.commits, 5);
  ASSERT_FALSE(clean.digest.empty());
  for (int64_t k = 1; k <= clean.commits + 4; ++k) {
    for (const When when : {When::kBefore, When::kAfter}) {
      SCOPED_TRACE(absl::StrCat("commit ", k,
                                when == When::kBefore ? " lost" : " written"));
      const Outcome outcome = RunJob([&](Disk*, Process* process) {
        process->journal.FailCommit(k, when, absl::DataLossError("killed"));
      });
      EXPECT_EQ(outcome.failure, "");
      EXPECT_EQ(outcome.digest, clean.digest);
    }
  }
}

TEST(EngineFoldsCrashTest, AnySyncOfTheSpoolFails_EndsWithTheSameModel) {
  const Outcome clean = RunJob([](Disk*, Process*) {});
  ASSERT_GT(clean.syncs, 4);
  int died = 0;
  for (int64_t k = 1; k <= clean.syncs; ++k) {
    SCOPED_TRACE(absl::StrCat("sync ", k));
    const Outcome outcome = RunJob([&](Disk* disk, Process*) {
      disk->env.FailAt(Operation::kSync, k, absl::DataLossError("broken disk"));
    });
    if (!outcome.failure.empty()) {
      // Not the spool's: a version that cannot be written.
      EXPECT_THAT(outcome.failure, HasSubstr("/data/models/"));
      continue;
    }
    EXPECT_EQ(outcome.digest, clean.digest);
    died += outcome.processes > 1;
  }
  EXPECT_GE(died, 2);  // at least one sync of the spool in each round
}

// ---- One bad update among good ones ----

class FoldingTest : public ::testing::Test {
 protected:
  FoldingTest() {
    a_.name = "a";
    b_.name = "b";
    c_.name = "c";
  }
  std::shared_ptr<FakeSession> Join(Site* site, bool automatic = false) {
    return FakeSession::Open(process_.get(), site, ++sessions_, automatic);
  }
  // Takes the next task and pushes `bytes` for it; the reply is in `reply`.
  void PushTask(FakeSession* session, const std::string& worker,
                const std::string& bytes, v1::PushUpdateReply* reply,
                Signal* replied) {
    ASSERT_OK_AND_ASSIGN(const auto offer,
                         session->Await(v1::CoordinatorMessage::kOfferTask));
    v1::UpdateHeader header = HeaderFor(worker, offer.offer_task());
    header.set_digest(Sha256Of(bytes).ToBytes());
    session->Announce(header);
    ASSERT_OK(session->Await(v1::CoordinatorMessage::kGrantUpload));
    ASSERT_OK(session->Push(offer.offer_task().task(), bytes,
                            [=](const v1::PushUpdateReply& answer) {
                              *reply = answer;
                              replied->Set();
                            }));
  }
  void ExpectAccepted(FakeSession* session, const std::string& worker) {
    v1::PushUpdateReply reply;
    Signal replied;
    PushTask(session, worker, BytesOf(worker, 1), &reply, &replied);
    ASSERT_TRUE(replied.Wait());
    EXPECT_TRUE(reply.accepted()) << reply.reason();
  }
  std::string ExpectRefused(FakeSession* session, const std::string& worker,
                            const std::string& bytes) {
    v1::PushUpdateReply reply;
    Signal replied;
    PushTask(session, worker, bytes, &reply, &replied);
    EXPECT_TRUE(replied.Wait());
    EXPECT_FALSE(reply.accepted());
    return reply.reason();
  }
  // The process ends, and all that was not synced is lost; another begins.
  void Restart() {
    process_->engine.reset();
    disk_.memory.CrashAndLoseUnsynced();
    process_ = std::make_unique<Process>(&disk_);
    process_->Start();
  }
  // Changes a byte of the job's running sum on the disk.
  void CorruptSum() {
    const auto folds = disk_.journal->Load()->folds;
    ASSERT_EQ(folds.at("job").size(), 1u);
    const SpoolExtent extent = folds.at("job").at(1).extent;
    const int64_t other = 99;
    ASSERT_OK(process_->spool->Write(extent, 0, &other, sizeof(other)));
    ASSERT_OK(process_->spool->Sync());
  }

  Site a_, b_, c_;  // outlive the engine, which calls their sessions
  Disk disk_;
  std::unique_ptr<Process> process_ = std::make_unique<Process>(&disk_);
  uint64_t sessions_ = 0;
};

TEST_F(FoldingTest, ValueBeyondTheRange_IsRefusedAndTheOthersGoOn) {
  process_->Start();
  v1::JobSpec spec = FoldingJob(1, 3);
  spec.mutable_cohort()->set_minimum(2);
  const auto a = Join(&a_), b = Join(&b_), c = Join(&c_);
  ASSERT_OK(Submit(process_.get(), spec));
  std::vector<float> poison(kParameters, 1.0f);
  poison[4] = -16.5f;
  ExpectAccepted(a.get(), "a");
  const std::string reason =
      ExpectRefused(b.get(), "b",
                    std::string(reinterpret_cast<const char*>(poison.data()),
                                poison.size() * sizeof(float)));
  EXPECT_THAT(reason, HasSubstr("is -16.5, expected at most 16"));
  EXPECT_THAT(reason, HasSubstr("aggregation.fedavg.fixed_point.range"));
  ExpectAccepted(c.get(), "c");
  AwaitEnd(process_.get(), "job");
  const auto rounds = Rounds(process_.get(), "job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("a", "c"));
}

TEST_F(FoldingTest, WeightBeyondTheBound_IsRefusedAlone) {
  process_->Start();
  v1::JobSpec spec = FoldingJob(1, 2);
  spec.mutable_cohort()->set_minimum(1);
  // One update weighs 107 or 108.
  spec.mutable_aggregation()
      ->mutable_fedavg()
      ->mutable_fixed_point()
      ->set_total_weight(200);
  const auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), spec));
  ExpectAccepted(a.get(), "a");
  EXPECT_THAT(ExpectRefused(b.get(), "b", BytesOf("b", 1)),
              HasSubstr("add up to 215, expected at most 200"));
  AwaitEnd(process_.get(), "job");
  const auto rounds = Rounds(process_.get(), "job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("a"));
}

TEST_F(FoldingTest, TwoStreamsFindTheUploadWhole_BothHearThatItIsIn) {
  process_->Start();
  const auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  a->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  ASSERT_OK_AND_ASSIGN(const auto granted,
                       process_->desk->Find({"job", 1, "a"}));
  const std::shared_ptr<Upload> upload = granted.upload;
  ASSERT_OK(
      upload->Append(upload->Attach(nullptr), 0, BytesOf("a", 1), absl::Now()));
  ASSERT_OK(upload->Verify());
  Signal replied[3];
  for (Signal& signal : replied) {
    process_->engine->OnUploadWhole(upload, [&](const auto& reply) {
      EXPECT_TRUE(reply.accepted()) << reply.reason();
      signal.Set();
    });
  }
  for (Signal& signal : replied) EXPECT_TRUE(signal.Wait());
  EXPECT_EQ(disk_.journal->Load()->accepted.at("job").at(1).size(), 1u);
  process_->engine.reset();
}

TEST_F(FoldingTest, DiskFullDuringAFold_WaitsAndLosesNothing) {
  process_->Start();
  const auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ExpectAccepted(a.get(), "a");
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       b->Await(v1::CoordinatorMessage::kOfferTask));
  b->Announce(HeaderFor("b", offer.offer_task()));
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kGrantUpload));
  // The first write is the upload's own, the second the sum's.
  disk_.env.FailAt(Operation::kWrite, 2,
                   absl::ResourceExhaustedError("disk full"));
  Signal accepted;
  ASSERT_OK(b->Push(offer.offer_task().task(), BytesOf("b", 1),
                    [&](const v1::PushUpdateReply& reply) {
                      EXPECT_TRUE(reply.accepted()) << reply.reason();
                      accepted.Set();
                    }));
  EXPECT_TRUE(accepted.Wait());
  AwaitEnd(process_.get(), "job");
  const auto rounds = Rounds(process_.get(), "job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_THAT(rounds[0].included(), ElementsAre("a", "b"));
}

TEST_F(FoldingTest, CancelledWhileAFoldWaitsForRoom_RefusesItsUpdates) {
  process_->Start();
  const auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ASSERT_OK_AND_ASSIGN(const auto offer,
                       a->Await(v1::CoordinatorMessage::kOfferTask));
  a->Announce(HeaderFor("a", offer.offer_task()));
  ASSERT_OK(a->Await(v1::CoordinatorMessage::kGrantUpload));
  Signal replied;
  ASSERT_OK_AND_ASSIGN(const auto granted,
                       process_->desk->Find({"job", 1, "a"}));
  const std::shared_ptr<Upload> upload = granted.upload;
  ASSERT_OK(
      upload->Append(upload->Attach(nullptr), 0, BytesOf("a", 1), absl::Now()));
  ASSERT_OK(upload->Verify());
  disk_.env.FailAlways(Operation::kWrite,
                       absl::ResourceExhaustedError("disk full"));
  process_->engine->OnUploadWhole(upload, [&](const auto& reply) {
    EXPECT_FALSE(reply.accepted());
    EXPECT_THAT(reply.reason(), HasSubstr("the job has ended"));
    replied.Set();
  });
  ASSERT_OK(Call<v1::JobStatus>(
      [&](auto reply) { process_->engine->CancelJob("job", reply); }));
  EXPECT_TRUE(replied.Wait());
  process_->engine.reset();
  EXPECT_THAT(disk_.journal->Load()->accepted, IsEmpty());
}

TEST_F(FoldingTest, RestartedBetweenTwoUpdates_BothAreInOnce) {
  process_->Start();
  auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ExpectAccepted(a.get(), "a");
  Restart();
  a = Join(&a_, /*automatic=*/true);
  b = Join(&b_, /*automatic=*/true);
  AwaitEnd(process_.get(), "job");
  const auto rounds = Rounds(process_.get(), "job");
  ASSERT_EQ(rounds.size(), 1u);
  EXPECT_EQ(rounds[0].attempts(), 1);
  EXPECT_EQ(rounds[0].model_digest(), DigestOfRound(2, 1, 1 << 20));
}

// ---- A sum that is lost ----

TEST_F(FoldingTest, SumLostWhileStopped_FailsTheJobWithTheReason) {
  process_->Start();
  auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ExpectAccepted(a.get(), "a");
  CorruptSum();
  Restart();
  b = Join(&b_, /*automatic=*/true);
  AwaitEnd(process_.get(), "job");
  ASSERT_OK_AND_ASSIGN(const auto status, Get(process_.get(), "job"));
  EXPECT_EQ(status.state(), v1::FAILED);
  EXPECT_THAT(status.reason(), HasSubstr("the running sum of job job"));
  process_->engine.reset();
  EXPECT_EQ(process_->spool->allocated_bytes(), 0);
}

TEST(EngineFoldsFaultTest, SumUnreadableWhilePublishing_TheRoundIsDoneAgain) {
  const std::string expected = DigestOfRound(1, 1, 1 << 20);
  int again = 0;
  // The fold's only read is the first: there was no sum before.
  for (int64_t k = 2; k <= 6; ++k) {
    SCOPED_TRACE(absl::StrCat("read ", k));
    Site a;
    a.name = "a";
    Disk disk;
    Process process(&disk);
    process.Start();
    const auto before = FakeSession::Open(&process, &a, 1, /*automatic=*/false);
    ASSERT_OK(Submit(&process, FoldingJob(1, 1)));
    ASSERT_OK(before->Await(v1::CoordinatorMessage::kOfferTask));
    disk.env.FailAt(Operation::kRead, k, absl::DataLossError("bad sector"));
    const auto after = FakeSession::Open(&process, &a, 2);
    AwaitEnd(&process, "job");
    ASSERT_OK_AND_ASSIGN(const auto status, Get(&process, "job"));
    if (status.state() == v1::FAILED) {
      // The base is lost: no update brings it back.
      EXPECT_THAT(status.reason(), HasSubstr("/data/models/"));
    } else {
      const auto rounds = Rounds(&process, "job");
      ASSERT_EQ(rounds.size(), 1u);
      EXPECT_EQ(rounds[0].model_digest(), expected);
      again += rounds[0].attempts() > 1;
    }
    process.engine.reset();
    EXPECT_EQ(process.spool->allocated_bytes(), 0);
  }
  EXPECT_EQ(again, 1);  // the sum is read once
}

TEST_F(FoldingTest, JournalWithoutTheSum_IsDataLoss) {
  JobRow job;
  job.spec = FoldingJob(1, 1);
  job.state = v1::RUNNING;
  RoundRow round;
  round.job = "job";
  round.round = round.attempt = 1;
  round.cohort = {"a"};
  AcceptedRow row;
  row.job = "job";
  row.round = row.task_round = 1;
  row.worker = "a";
  v1::ModelManifest manifest;
  manifest.set_job("job");
  manifest.set_digest(std::string(32, 'm'));
  ASSERT_OK(disk_.journal->Commit({job, round, row, VersionRow{manifest}}));
  Process process(&disk_);
  const auto contents = disk_.journal->Load();
  EXPECT_THAT(process.engine->Start(*contents),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("the update of a is in the round's running "
                                 "sum, which is not")));
}

TEST_F(FoldingTest, CancelledWithASum_FreesTheSpool) {
  process_->Start();
  const auto a = Join(&a_), b = Join(&b_);
  ASSERT_OK(Submit(process_.get(), FoldingJob(1, 2)));
  ExpectAccepted(a.get(), "a");
  ASSERT_OK(b->Await(v1::CoordinatorMessage::kOfferTask));
  EXPECT_GT(process_->spool->allocated_bytes(), 0);
  ASSERT_OK(Call<v1::JobStatus>(
      [&](auto reply) { process_->engine->CancelJob("job", reply); }));
  process_->engine.reset();
  EXPECT_EQ(process_->spool->allocated_bytes(), 0);
  EXPECT_THAT(disk_.journal->Load()->folds, IsEmpty());
}

}  // namespace
}  // namespace koinon::coordinator
