#ifndef KOINON_COORDINATOR_ENGINE_TESTING_ENGINE_H_
#define KOINON_COORDINATOR_ENGINE_TESTING_ENGINE_H_

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "coordinator/engine/engine.h"
#include "coordinator/journal/testing_journal.h"
#include "coordinator/models/testing_signer.h"

// What the engine's tests share: a disk and a journal that outlive processes,
// processes that can be killed, and workers' sites with their sessions.

namespace koinon::coordinator {

inline constexpr char kData[] = "/data";
inline constexpr size_t kParameters = 6;
// Far beyond what any of these tests takes: a wait that reaches it has failed.
inline constexpr absl::Duration kPatience = absl::Seconds(20);

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
  const TestSigner signer;
};

// A process: what a kill ends.
class Process {
 public:
  explicit Process(Disk* disk, uint64_t spool_bytes = 1 << 20,
                   int64_t keep_versions = 0, VersionOutlet* outlet = nullptr)
      : journal(disk->journal.get()) {
    auto contents = disk->journal->Load();
    EXPECT_OK(contents);
    auto opened = Spool::Open(&disk->env, absl::StrCat(kData, "/spool"),
                              {.max_bytes = spool_bytes},
                              Engine::TakenExtents(*contents));
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
    options.keep = {.newest = keep_versions, .every = 0};
    options.publish.signer = disk->signer.get();
    options.outlet = outlet;
    options.registry = {.lease = absl::Minutes(5), .max_workers = 100};
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
  // Its updates are announced only when its session is told to Release them.
  bool slow = false;
  Mutex mutex;
  std::map<std::pair<std::string, int64_t>, v1::UpdateHeader> held
      ABSL_GUARDED_BY(mutex);
  // (job, round) that the coordinator acknowledged.
  std::set<std::pair<std::string, int64_t>> acknowledged ABSL_GUARDED_BY(mutex);
};

inline std::string BytesOf(const std::string& worker, int64_t round) {
  std::vector<float> values(kParameters);
  for (size_t i = 0; i < kParameters; ++i) {
    values[i] = static_cast<float>(round * 10 + i) / (worker[0] - 'a' + 3);
  }
  return std::string(reinterpret_cast<const char*>(values.data()),
                     values.size() * sizeof(float));
}

inline v1::UpdateHeader HeaderFor(const std::string& worker,
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
  v1::SiteCommunication& site =
      *header.mutable_metrics()->mutable_communication();
  site.set_ranks(2);
  site.set_nodes(1);
  site.set_bytes(1000 + worker[0]);
  site.set_seconds(0.5);
  site.set_waited_seconds(0.25);
  site.set_step_seconds(2);
  site.set_step_waited_seconds(0.125);
  header.set_worker(worker);
  return header;
}

// A worker's stream. An automatic one trains and uploads as soon as it is
// asked, on the engine's thread; the other only collects what it is sent.
class FakeSession final : public SessionPort,
                          public std::enable_shared_from_this<FakeSession> {
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
    session->Join(tell_held);
    return session;
  }

  void Join(bool tell_held = true) {
    v1::Hello hello;
    hello.set_worker(site_->name);
    auto* dataset = hello.mutable_capabilities()->add_datasets();
    dataset->set_name("data");
    dataset->set_examples(10);
    if (tell_held) {
      MutexLock lock(&site_->mutex);
      for (const auto& [task, header] : site_->held) {
        *hello.add_held_updates() = header;
      }
    }
    process_->engine->OnSessionOpened(number_, shared_from_this());
    process_->engine->OnHello(number_, hello, "test");
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
  // Announces what a slow site has trained. On the engine's thread.
  void Release() {
    if (trained_.has_value()) Announce(*trained_);
    trained_.reset();
  }
  // Runs after each offer to train that an automatic session has answered, on
  // the engine's thread. Before Join.
  void OnOffer(std::function<void(const v1::OfferTask&)> then) {
    on_offer_ = std::move(then);
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
      if (site_->slow) {
        trained_ = header;
      } else {
        Announce(header);
      }
      if (on_offer_) on_offer_(offer);
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
  // The engine's thread's own, once joined.
  std::function<void(const v1::OfferTask&)> on_offer_;
  std::optional<v1::UpdateHeader> trained_;
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

inline v1::JobSpec SmallJob(const std::string& name, int64_t rounds,
                            int64_t workers) {
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

inline absl::StatusOr<v1::SubmitJobReply> Submit(Process* process,
                                                 const v1::JobSpec& spec) {
  return Call<v1::SubmitJobReply>(
      [&](auto reply) { process->engine->SubmitJob(spec, reply); });
}

inline absl::StatusOr<v1::JobStatus> Get(Process* process,
                                         const std::string& job) {
  return Call<v1::JobStatus>(
      [&](auto reply) { process->engine->GetJob(job, reply); });
}

inline std::vector<v1::RoundReport> Rounds(Process* process,
                                           const std::string& job) {
  v1::ListRoundsRequest request;
  request.set_job(job);
  const auto reply = Call<v1::ListRoundsReply>(
      [&](auto done) { process->engine->ListRounds(request, done); });
  EXPECT_OK(reply);
  return {reply->rounds().begin(), reply->rounds().end()};
}

inline void AwaitEnd(Process* process, const std::string& job) {
  v1::WatchJobRequest watch;
  watch.set_name(job);
  process->engine->Watch(watch, std::make_shared<EndWatch>(&process->over));
  EXPECT_TRUE(process->over.Wait());
}

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_TESTING_ENGINE_H_
