#include "coordinator/engine/engine.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {
namespace {

// How often stuck uploads are looked for while there are any.
constexpr absl::Duration kExpiryCheck = absl::Seconds(1);
// A full disk may have room again: how soon the same commit is tried again.
constexpr absl::Duration kCommitRetry = absl::Seconds(1);
// A machine whose deadline has passed is not asked more often than this.
constexpr absl::Duration kMinWait = absl::Milliseconds(10);
constexpr int kMaxTicks = 4;
constexpr absl::Duration kDrainPoll = absl::Milliseconds(20);

}  // namespace

Engine::Engine(Options options, const Clock* clock, Journal* journal,
               Spool* spool, ModelStore* store, ModelCatalog* catalog,
               UploadDesk* desk)
    : options_(std::move(options)),
      clock_(clock),
      journal_(journal),
      spool_(spool),
      store_(store),
      catalog_(catalog),
      desk_(desk),
      registry_(options_.registry),
      pool_(options_.threads),
      compute_(clock, [] { return absl::InfiniteFuture(); }),
      sync_(clock,
            [this] {
              SyncWholeUploads();
              return absl::InfiniteFuture();
            }),
      folds_(clock, [] { return absl::InfiniteFuture(); }),
      loop_(clock, [this] { return AfterBatch(); }) {}

Engine::~Engine() { Stop(absl::ZeroDuration()); }

std::vector<SpoolExtent> Engine::TakenExtents(const JournalContents& contents) {
  std::vector<SpoolExtent> taken;
  for (const auto& [job, rounds] : contents.accepted) {
    for (const auto& [round, workers] : rounds) {
      for (const auto& [worker, row] : workers) {
        if (row.extent.size > 0) taken.push_back(row.extent);
      }
    }
  }
  for (const auto& [job, rounds] : contents.folds) {
    for (const auto& [round, row] : rounds) taken.push_back(row.extent);
  }
  return taken;
}

absl::Status Engine::Start(const JournalContents& contents) {
  for (const auto& [job, versions] : contents.versions) {
    for (const auto& [number, version] : versions) {
      catalog_->Put(version.manifest);
    }
  }
  for (const auto& [name, row] : contents.jobs) {
    ABSL_RETURN_IF_ERROR(RestoreJob(row, contents));
  }
  AnnounceAll(contents);
  compute_.Start();
  sync_.Start();
  folds_.Start();
  loop_.Start();
  return absl::OkStatus();
}

absl::Status Engine::RestoreJob(const JobRow& row,
                                const JournalContents& contents) {
  const JobId& name = row.spec.name();
  const auto graph = kernels::ModelGraph::Build(row.spec.model());
  if (!graph.ok()) {
    return absl::DataLossError(
        absl::StrCat("journal: job ", name, ": ", graph.status().message()));
  }
  static const std::map<int64_t, RoundRow> kNoRounds;
  const auto rounds_it = contents.rounds.find(name);
  const auto& rounds =
      rounds_it == contents.rounds.end() ? kNoRounds : rounds_it->second;
  std::map<WorkerId, AcceptedRow> accepted;
  if (!rounds.empty()) {
    const auto job_it = contents.accepted.find(name);
    if (job_it != contents.accepted.end()) {
      const auto it = job_it->second.find(rounds.rbegin()->first);
      if (it != job_it->second.end()) accepted = it->second;
    }
  }
  auto job = std::make_unique<Job>(
      row, RoundMachine(row.spec, RestoreSnapshot(row, rounds, accepted)));
  ABSL_ASSIGN_OR_RETURN(job->layout, kernels::VersionLayout(
                                         graph->layout(), row.spec.training()));
  if (!rounds.empty()) {
    job->round = rounds.rbegin()->second;
    job->distribution = job->round.report.distribution();
  }
  for (const auto& [number, round] : rounds) {
    if (round.report.round() == 0) continue;
    KeepReport(*job, round.report);
    job->last_report = round.report;
    CountAsked(round.report, job.get());
  }
  job->accepted = std::move(accepted);
  job->bytes_received =
      static_cast<int64_t>(job->layout.total_bytes() * job->accepted.size());
  ABSL_RETURN_IF_ERROR(RestoreSum(contents, job.get()));
  for (const auto& manifest : catalog_->List(name)) {
    job->versions.insert(manifest->version());
    if (manifest->pinned()) job->pinned.insert(manifest->version());
  }
  const auto head = catalog_->Find(name, ModelCatalog::kNewest);
  if (head.ok()) {
    job->head = **head;
    job->version = job->head.version();
    job->state = contents.versions.at(name).at(job->version).state;
  } else if (!rounds.empty()) {
    return absl::DataLossError(absl::StrCat(
        "journal: job ", name, " has rounds but no published version"));
  }
  RemoveStrayState(*job);
  Job* const added = job.get();
  jobs_[name] = std::move(job);
  if (added->finished()) {
    // It was cancelled while its round was aggregated, and the process ended.
    ForgetUpdates(added);
    return absl::OkStatus();
  }
  // Members that the last process waited for have a lease to come back within.
  for (const WorkerId& worker : added->round.cohort) {
    if (registry_.Find(worker) != nullptr) continue;
    Registry::Worker expected;
    expected.id = worker;
    // With a lower bound on workers than before, the rest have to come back.
    if (!registry_.Join(clock_->Now(), expected).ok()) break;
    registry_.Disconnect(worker, expected.session);
  }
  if (added->version < 0) ComputeInitialModel(added);
  LogInfo("job taken up again", {{"job", name},
                                 {"round", added->round.round},
                                 {"version", added->version},
                                 {"accepted", added->accepted.size()}});
  return absl::OkStatus();
}

// What a crash left between the writing of state and its commit, or between a
// commit and the removal of what it made needless.
void Engine::RemoveStrayState(const Job& job) {
  const JobId& name = job.row.spec.name();
  const auto removed =
      store_->RemoveStrayState(name, {{job.version, job.state}});
  if (!removed.ok()) {
    LogWarning("cannot remove files that no version needs",
               {{"job", name}, {"error", removed.status()}});
  } else if (!removed->empty()) {
    LogInfo("removed files that no version needs",
            {{"job", name}, {"files", absl::StrJoin(*removed, " ")}});
  }
}

void Engine::Stop(absl::Duration patience) {
  if (draining_.exchange(true)) return;
  const absl::Time until = clock_->Now() + patience;
  while (!failed_ && clock_->Now() < until) {
    // Shared with the event, which may run after this wait was given up.
    const auto idle = std::make_shared<std::atomic<bool>>(false);
    loop_.Post([this, idle] { *idle = IsIdle(); });
    absl::SleepFor(kDrainPoll);
    if (*idle) break;
  }
  compute_.Stop();
  sync_.Stop();
  folds_.Stop();
  loop_.Post([this] {
    const absl::Status bye = absl::UnavailableError("coordinator is stopping");
    for (auto& [id, session] : sessions_) session.port->Close(bye);
    for (auto& [job, port] : watchers_) port->Close(bye);
    sessions_.clear();
    watchers_.clear();
  });
  loop_.Stop();
}

bool Engine::IsIdle() const {
  return computing_ == 0 && folding_ == 0 && desk_->streaming() == 0;
}

absl::Time Engine::AfterBatch() {
  if (failed_) {
    // Nothing is decided any more, and nobody is told anything.
    pending_.clear();
    effects_.clear();
    return absl::InfiniteFuture();
  }
  const absl::Time now = clock_->Now();
  PassTime(now);
  TellOfGone();
  StartFolds();
  // A tick may free workers that another job waits for.
  for (int i = 0; i < kMaxTicks && !draining_ && TickJobs(now); ++i) {
  }
  if (!CommitPending()) return absl::InfiniteFuture();
  return NextWake(now);
}

// Commits what the batch decided, then lets the world know. False if the engine
// has failed.
bool Engine::CommitPending() {
  while (!pending_.empty()) {
    const absl::Status status = journal_->Commit(pending_);
    if (status.ok()) break;
    if (!absl::IsResourceExhausted(status) && !absl::IsUnavailable(status)) {
      Fatal(status);
      return false;
    }
    // Nothing may be acknowledged, but nothing is lost either: wait for room,
    // or until another process (a backup) lets go of the journal.
    LogError("the journal cannot be written; trying again",
             {{"error", status}});
    if (draining_) {
      Fatal(status);
      return false;
    }
    absl::SleepFor(kCommitRetry);
  }
  pending_.clear();
  // Effects may have effects (events for watchers), but decide nothing.
  while (!effects_.empty()) {
    std::vector<std::function<void()>> effects;
    effects.swap(effects_);
    for (const auto& effect : effects) effect();
  }
  return true;
}

void Engine::Fatal(absl::Status status) {
  failed_ = true;
  effects_.clear();
  LogError("the coordinator must stop", {{"error", status}});
  options_.on_fatal(std::move(status));
}

void Engine::PassTime(absl::Time now) {
  for (const WorkerId& worker : registry_.Expire(now)) {
    LogInfo("lease ran out", {{"worker", worker}});
    LoseWorker(worker, "its lease ran out");
  }
  if (now >= next_expiry_check_) {
    next_expiry_check_ = now + kExpiryCheck;
    desk_->Expire(now);
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const Session& session = it->second;
      if (session.worker.empty() && now >= session.hello_deadline) {
        session.port->Close(
            absl::DeadlineExceededError("no Hello came in time"));
        it = sessions_.erase(it);
      } else {
        ++it;
      }
    }
    AdmitUploads();
  }
  if (now >= next_renewal_check_) RenewManifests(now);
}

// Ticks the jobs that are due, by priority; false if none was.
bool Engine::TickJobs(absl::Time now) {
  std::vector<Job*> due;
  for (auto& [name, job] : jobs_) {
    if (job->finished() || job->version < 0) continue;
    if (job->needs_tick || candidates_changed_ ||
        now >= job->machine.next_deadline()) {
      due.push_back(job.get());
    }
  }
  candidates_changed_ = false;
  std::stable_sort(due.begin(), due.end(), [](const Job* a, const Job* b) {
    if (a->row.spec.priority() != b->row.spec.priority()) {
      return a->row.spec.priority() > b->row.spec.priority();
    }
    return a->row.submitted < b->row.submitted;
  });
  for (Job* job : due) {
    job->needs_tick = false;
    std::vector<WorkerId> candidates = registry_.Capable(job->row.spec);
    std::erase_if(candidates, [&](const WorkerId& worker) {
      return std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& other) {
        return other.second.get() != job &&
               other.second->machine.IsBusy(worker);
      });
    });
    Perform(job, job->machine.Tick(now, candidates));
  }
  return !due.empty();
}

absl::Time Engine::NextWake(absl::Time now) const {
  absl::Time wake = std::min(registry_.next_expiry(), next_renewal_check_);
  for (const auto& [name, job] : jobs_) {
    if (job->finished() || job->version < 0) continue;
    wake = std::min(wake, job->machine.next_deadline());
    if (job->sum != nullptr && !job->sum->waiting.empty() &&
        !job->sum->running) {
      wake = std::min(wake, job->sum->retry_at);
    }
  }
  if (!sessions_.empty()) wake = std::min(wake, next_expiry_check_);
  return std::max(wake, now + kMinWait);
}

void Engine::SyncWholeUploads() {
  if (whole_.empty()) return;
  const absl::Status status = spool_->Sync();
  if (!status.ok()) {
    // After a failed sync nobody knows what the disk holds.
    whole_.clear();
    loop_.Post([this, status] { Fatal(status); });
    return;
  }
  for (WholeUpload& whole : whole_) {
    loop_.Post(
        [this, upload = std::move(whole.upload),
         reply = std::move(whole.reply)] { AcceptUpload(upload, reply); });
  }
  whole_.clear();
}

void Engine::OnUploadWhole(std::shared_ptr<Upload> upload, UploadReply reply) {
  if (upload->folds()) {
    return loop_.Post([this, upload = std::move(upload),
                       reply = std::move(reply)] { QueueFold(upload, reply); });
  }
  sync_.Post([this, upload = std::move(upload), reply = std::move(reply)] {
    whole_.push_back({upload, reply});
  });
}

void Engine::OnUploadUnusable(UploadKey key, absl::Status reason,
                              UploadReply reply) {
  loop_.Post([this, key = std::move(key), reason, reply] {
    RefuseUpload(key, std::string(reason.message()), reply);
  });
}

void Engine::OnUploadStreamEnded(const UploadKey& key, uint64_t grant) {
  desk_->Return(key, grant);
  loop_.Post([this] { AdmitUploads(); });
}

void Engine::OnSessionOpened(uint64_t session,
                             std::shared_ptr<SessionPort> port) {
  loop_.Post([this, session, port] {
    sessions_[session] = {port, "", clock_->Now() + options_.hello_timeout};
  });
}

void Engine::OnHello(uint64_t session, v1::Hello hello, std::string address) {
  loop_.Post(
      [this, session, hello = std::move(hello), address = std::move(address)] {
        HandleHello(session, hello, address);
      });
}

void Engine::OnMessage(uint64_t session, v1::WorkerMessage message,
                       std::function<void()> done) {
  loop_.Post(
      [this, session, message = std::move(message), done = std::move(done)] {
        HandleMessage(session, message);
        done();
      });
}

void Engine::OnSessionClosed(uint64_t session) {
  loop_.Post([this, session] { HandleClosed(session); });
}

}  // namespace koinon::coordinator
