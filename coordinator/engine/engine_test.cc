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
#include "coordinator/journal/testing_journal.h"

namespace koinon::coordinator {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kData[] = "/data";
constexpr size_t kParameters = 6;
// Far beyond what any of these tests takes: a wait that reaches it has failed.
constexpr absl::Duration kPatience = absl::Seconds(60);

// What a thread waits for that others make true.
class Signal {
 public:
  void Set() {
    MutexLock lock(&mutex_);
    set_ = true;
    changed_.SignalAll();
  }
  bool IsSet() {
    MutexLock lock(&mutex_);
    return set_;
  }
  bool Wait() {
    MutexLock lock(&mutex_);
    while (!set_) {
      if (changed_.WaitWithTimeout(&mutex_, kPatience)) return set_;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

// Everything below one coordinator that outlives its process: the disk and the
// journal.
struct Disk {
  Disk() {
    EXPECT_OK(memory.MakeDirs(kData));
    EXPECT_OK(memory.SyncDir("/"));
  }
  MemoryEnv memory;
  FaultInjectingEnv env{&memory};
  std::unique_ptr<Journal> journal = NewMemoryJournal();
};

// A process: what a kill ends.
class Process {
 public:
  explicit Process(Disk* disk, uint64_t spool_bytes = 1 << 20)
      : journal(disk->journal.get()) {
    auto contents = disk->journal->Load();
    EXPECT_OK(contents);
    std::vector<SpoolExtent> taken;
    for (const auto& [job, rounds] : contents->accepted) {
      for (const auto& [round, workers] : rounds) {
        for (const auto& [worker, row] : workers) taken.push_back(row.extent);
      }
    }
    auto opened = Spool::Open(&disk->env, absl::StrCat(kData, "/spool"),
                              {.max_bytes = spool_bytes}, taken);
    EXPECT_OK(opened);
    spool = *std::move(opened);
    store = std::make_unique<ModelStore>(&disk->env,
                                         absl::StrCat(kData, "/models"), 4096);
    desk = std::make_unique<UploadDesk>(
        spool.get(), UploadDesk::Options{.window_bytes = 1 << 20,
                                         .stream_charge_bytes = 1 << 16,
                                         .patience = absl::Minutes(5)});
    Engine::Options options;
    options.federation = "test";
    options.lease = absl::Minutes(5);
    options.hello_timeout = absl::Minutes(5);
    options.max_chunk_bytes = 4096;
    options.max_jobs = 10;
    options.max_watchers = 10;
    options.max_model_bytes = 1 << 20;
    options.max_spool_bytes = spool_bytes;
    options.keep_versions = 0;
    options.registry = {.lease = absl::Minutes(5), .max_workers = 10};
    options.threads = 1;
    options.draw_seed = [] { return 7; };
    options.on_fatal = [this](absl::Status) {
      failed.Set();
      over.Set();
    };
    engine = std::make_unique<Engine>(std::move(options), &clock, &journal,
                                      spool.get(), store.get(), &catalog,
                                      desk.get());
    contents_ = *std::move(contents);
  }
  void Start() { ASSERT_OK(engine->Start(contents_)); }

  const RealClock clock;
  FaultInjectingJournal journal;
  std::unique_ptr<Spool> spool;
  std::unique_ptr<ModelStore> store;
  ModelCatalog catalog;
  std::unique_ptr<UploadDesk> desk;
  Signal failed;
  Signal over;  // failed, or whatever a test waits for
  std::unique_ptr<Engine> engine;

 private:
  JournalContents contents_;
};

// A worker's machine: what it keeps while coordinators come and go.
struct Site {
  std::string name;
  bool evaluates = true;
  Mutex mutex;
  std::map<std::pair<std::string, int64_t>, v1::UpdateHeader> held
      ABSL_GUARDED_BY(mutex);
  // (job, round) that the coordinator acknowledged.
  std::set<std::pair<std::string, int64_t>> acknowledged ABSL_GUARDED_BY(mutex);
};

std::string BytesOf(const std::string& worker, int64_t round) {
  std::vector<float> values(kParameters);
  for (size_t i = 0; i < kParameters; ++i) {
    values[i] = static_cast<float>(round * 10 + i) / (worker[0] - 'a' + 3);
  }
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(float));
}

v1::UpdateHeader HeaderFor(const std::string& worker,
                           const v1::OfferTask& offer) {
  const std::string bytes = BytesOf(worker, offer.task().round());
  v1::UpdateHeader header;
  *header.mutable_task() = offer.task();
  header.set_base_version(offer.base_version());
  header.set_base_digest(offer.base_digest());
  header.set_layout_hash(offer.layout_hash());
  header.set_size_bytes(static_cast<int64_t>(bytes.size()));
  header.set_digest(Sha256Of(bytes).ToBytes());
  header.mutable_metrics()->set_examples(10 + worker[0]);
  header.mutable_metrics()->set_loss(0.5);
  header.set_worker(worker);
  return header;
}

// A worker's stream. An automatic one trains and uploads as soon as it is
// asked, on the engine's thread; the other only collects what it is sent.
class FakeSession final : public SessionPort {
 public:
  FakeSession(Process* process, Site* site, uint64_t number, bool automatic)
      : process_(process),
        site_(site),
        number_(number),
        automatic_(automatic) {}

  static std::shared_ptr<FakeSession> Open(Process* process, Site* site,
                                           uint64_t number,
                                           bool automatic = true,
                                           bool tell_held = true) {
    auto session =
        std::make_shared<FakeSession>(process, site, number, automatic);
    v1::Hello hello;
    hello.set_worker(site->name);
    auto* dataset = hello.mutable_capabilities()->add_datasets();
    dataset->set_name("data");
    dataset->set_examples(10);
    if (tell_held) {
      MutexLock lock(&site->mutex);
      for (const auto& [task, header] : site->held) {
        *hello.add_held_updates() = header;
      }
    }
    process->engine->OnSessionOpened(number, session);
    process->engine->OnHello(number, hello, "test");
    return session;
  }

  void Send(v1::CoordinatorMessage message) override {
    if (automatic_) React(message);
    MutexLock lock(&mutex_);
    inbox_.push_back(std::move(message));
    changed_.SignalAll();
  }
  void Close(absl::Status status) override {
    MutexLock lock(&mutex_);
    closed_ = std::move(status);
    is_closed_ = true;
    changed_.SignalAll();
  }

  // The next message of the kind; others before it are dropped.
  absl::StatusOr<v1::CoordinatorMessage> Await(
      v1::CoordinatorMessage::MessageCase kind) {
    MutexLock lock(&mutex_);
    while (true) {
      while (!inbox_.empty()) {
        v1::CoordinatorMessage message = std::move(inbox_.front());
        inbox_.pop_front();
        if (message.message_case() == kind) return message;
      }
      if (is_closed_) return closed_;
      if (changed_.WaitWithTimeout(&mutex_, kPatience)) {
        return absl::DeadlineExceededError("no such message came");
      }
    }
  }
  void Say(v1::WorkerMessage message) {
    process_->engine->OnMessage(number_, std::move(message), [] {});
  }
  void Announce(const v1::UpdateHeader& header) {
    v1::WorkerMessage message;
    *message.mutable_update_ready()->mutable_header() = header;
    Say(message);
  }
  // As PushUpdate does it. `reply` may run later, or never.
  absl::Status Push(const v1::TaskRef& task, const std::string& bytes,
                    Engine::UploadReply reply) {
    const UploadKey key = {task.job(), task.round(), site_->name};
    const auto found = process_->desk->Find(key);
    if (!found.ok()) return found.status();
    const std::shared_ptr<Upload> upload = found->upload;
    const uint64_t stream = upload->Attach(nullptr);
    const uint64_t from = upload->received();
    const absl::Status written = upload->Append(
        stream, from, absl::string_view(bytes).substr(from), absl::Now());
    upload->Detach(stream);
    if (written.ok()) {
      const absl::Status verified = upload->Verify();
      if (verified.ok()) {
        process_->engine->OnUploadWhole(upload, std::move(reply));
      } else {
        process_->engine->OnUploadUnusable(key, verified, std::move(reply));
      }
    }
    process_->engine->OnUploadStreamEnded(key, found->grant);
    return written;
  }

 private:
  void React(const v1::CoordinatorMessage& message) {
    if (message.has_offer_task()) {
      const v1::OfferTask& offer = message.offer_task();
      v1::WorkerMessage answer;
      if (offer.task().kind() == v1::TaskRef::EVALUATE) {
        auto* done = answer.mutable_evaluation_done();
        *done->mutable_task() = offer.task();
        done->set_version(offer.base_version());
        done->mutable_metrics()->set_examples(5);
        done->mutable_metrics()->set_loss(0.5);
        if (site_->evaluates) Say(answer);
        return;
      }
      const v1::UpdateHeader header = HeaderFor(site_->name, offer);
      {
        MutexLock lock(&site_->mutex);
        site_->held[{offer.task().job(), offer.task().round()}] = header;
      }
      *answer.mutable_accept_task()->mutable_task() = offer.task();
      Say(answer);
      Announce(header);
    } else if (message.has_grant_upload()) {
      const v1::TaskRef task = message.grant_upload().task();
      Push(task, BytesOf(site_->name, task.round()),
           [site = site_, task](const v1::PushUpdateReply& reply) {
             if (!reply.accepted()) return;
             MutexLock lock(&site->mutex);
             site->acknowledged.insert({task.job(), task.round()});
           })
          .IgnoreError();
    } else if (message.has_update_settled() &&
               message.update_settled().outcome() !=
                   v1::UpdateSettled::ACCEPTED) {
      const v1::TaskRef& task = message.update_settled().task();
      MutexLock lock(&site_->mutex);
      site_->held.erase({task.job(), task.round()});
    }
  }

  Process* const process_;
  Site* const site_;
  const uint64_t number_;
  const bool automatic_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<v1::CoordinatorMessage> inbox_ ABSL_GUARDED_BY(mutex_);
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// Sets a signal when the job ends.
class EndWatch final : public WatchPort {
 public:
  explicit EndWatch(Signal* over) : over_(over) {}
  void Send(const v1::JobEvent&) override {}
  void Close(absl::Status status) override {
    if (status.ok()) over_->Set();
  }

 private:
  Signal* const over_;
};

v1::JobSpec SmallJob(const std::string& name, int64_t rounds, int64_t workers) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_model()->add_input_shape(3);
  auto* dense = spec.mutable_model()->mutable_layers()->add_layers();
  dense->mutable_dense()->set_units(2);
  dense->mutable_dense()->set_no_bias(true);
  spec.set_dataset("data");
  spec.set_rounds(rounds);
  spec.set_seed(1);
  spec.mutable_cohort()->set_target(workers);
  spec.mutable_cohort()->set_minimum(workers);
  spec.mutable_evaluation()->set_every_rounds(-1);
  return spec;
}

// Waits for one of the engine's replies.
template <typename T, typename Ask>
absl::StatusOr<T> Call(Ask ask) {
  struct State {
    Signal done;
    absl::StatusOr<T> result = absl::UnknownError("no reply");
  };
  auto state = std::make_shared<State>();
  ask(Engine::Reply<T>([state](absl::StatusOr<T> result) {
    state->result = std::move(result);
    state->done.Set();
  }));
  if (!state->done.Wait()) return absl::DeadlineExceededError("no reply");
  return state->result;
}

absl::StatusOr<v1::SubmitJobReply> Submit(Process* process,
                                          const v1::JobSpec& spec) {
  return Call<v1::SubmitJobReply>(
      [&](auto reply) { process->engine->SubmitJob(spec, reply); });
}

absl::StatusOr<v1::JobStatus> Get(Process* process, const std::string& job) {
  return Call<v1::JobStatus>(
      [&](auto reply) { process->engine->GetJob(job, reply); });
}

std::vector<v1::RoundReport> Rounds(Process* process, const std::string& job) {
  v1::ListRoundsRequest request;
  request.set_job(job);
  const auto reply = Call<v1::ListRoundsReply>(
      [&](auto done) { process->engine->ListRounds(request, done); });
  EXPECT_OK(reply);
  return {reply->rounds().begin(), reply->rounds().end()};
}

void AwaitEnd(Process* process, const std::string& job) {
  v1::WatchJobRequest watch;
  watch.set_name(job);
  process->engine->Watch(watch, std::make_shared<EndWatch>(&process->over));
  EXPECT_TRUE(process->over.Wait());
}

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
