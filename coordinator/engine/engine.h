#ifndef KOINON_COORDINATOR_ENGINE_ENGINE_H_
#define KOINON_COORDINATOR_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/thread_pool.h"
#include "coordinator/engine/event_loop.h"
#include "coordinator/engine/job.h"
#include "coordinator/engine/running_sum.h"
#include "coordinator/engine/version_outlet.h"
#include "coordinator/journal/journal.h"
#include "coordinator/models/catalog.h"
#include "coordinator/models/model_store.h"
#include "coordinator/publish/publish.h"
#include "coordinator/registry/fetch_peers.h"
#include "coordinator/registry/registry.h"
#include "coordinator/spool/spool.h"
#include "coordinator/uploads/upload_desk.h"
#include "dht/swarm/retention.h"
#include "proto/client.pb.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// A worker's stream, as the engine sees it. Thread-safe.
class SessionPort {
 public:
  virtual ~SessionPort() = default;
  virtual void Send(v1::CoordinatorMessage message) = 0;
  // Ends the stream with `status` after what was sent before.
  virtual void Close(absl::Status status) = 0;
};

// A client's stream of one job's events. Thread-safe.
class WatchPort {
 public:
  virtual ~WatchPort() = default;
  virtual void Send(const v1::JobEvent& event) = 0;
  virtual void Close(absl::Status status) = 0;
};

// The coordinator's driver: one thread on which every decision is taken. It
// feeds the pure machines (registry, rounds), journals what they decide, and
// only after the commit lets the world know: offers, acknowledgements, events.
// Events that come in while a commit runs share the next one.
//
// Methods named On... and the client's calls may be called from any thread;
// they post to the engine's. Everything given by pointer must outlive the
// engine.
class Engine {
 public:
  struct Options {
    std::string federation;
    absl::Duration lease;
    absl::Duration hello_timeout;
    int64_t max_chunk_bytes;
    size_t max_jobs;  // unfinished at once
    size_t max_watchers;
    int64_t max_model_bytes;
    uint64_t max_spool_bytes;   // the spool's own bound
    dht::RetentionPolicy keep;  // versions of each job
    // Whom a worker is told to fetch a version from: so many others.
    size_t fetch_peers = 10;
    Registry::Options registry;
    int threads;  // for aggregation
    PublishOptions publish;
    // Null: versions go nowhere but to those who pull them.
    VersionOutlet* outlet = nullptr;
    // Draws seeds for jobs that name none.
    std::function<uint64_t()> draw_seed;
    // The state is not to be trusted any more (the journal or spool failed):
    // the process must end and start again from the journal.
    std::function<void(absl::Status)> on_fatal;
  };

  // Rounds of each job whose reports say what was decided about each update.
  static constexpr int64_t kDetailedReports = 100;

  Engine(Options options, const Clock* clock, Journal* journal, Spool* spool,
         ModelStore* store, ModelCatalog* catalog, UploadDesk* desk);
  ~Engine();

  // The spool's extents that the journal names: a spool is opened with them.
  static std::vector<SpoolExtent> TakenExtents(const JournalContents& contents);

  // Takes up the journal's contents and starts the threads. DATA_LOSS if the
  // contents contradict each other.
  absl::Status Start(const JournalContents& contents);

  // Ends in order: no new grants or offers; waits until uploads and aggregation
  // that run are through, at most `patience`; closes all streams.
  void Stop(absl::Duration patience);

  // --- Workers ---
  // A stream was opened; it must say Hello in time.
  void OnSessionOpened(uint64_t session, std::shared_ptr<SessionPort> port);
  void OnHello(uint64_t session, v1::Hello hello, std::string address);
  // `done` runs when the message has been dealt with.
  void OnMessage(uint64_t session, v1::WorkerMessage message,
                 std::function<void()> done);
  void OnSessionClosed(uint64_t session);

  // All bytes of a granted upload are in the spool, and verified. `reply` runs
  // once the update is durable and in the round, or refused for good.
  using UploadReply = std::function<void(v1::PushUpdateReply)>;
  void OnUploadWhole(std::shared_ptr<Upload> upload, UploadReply reply);
  // An upload that can never be taken.
  void OnUploadUnusable(UploadKey key, absl::Status reason, UploadReply reply);
  // A stream ended, whole or not, that came in with this grant.
  void OnUploadStreamEnded(const UploadKey& key, uint64_t grant);

  // --- Clients --- (`reply` runs on the engine's thread)
  template <typename T>
  using Reply = std::function<void(absl::StatusOr<T>)>;
  void SubmitJob(v1::JobSpec spec, Reply<v1::SubmitJobReply> reply);
  void GetJob(JobId name, Reply<v1::JobStatus> reply);
  void ListJobs(Reply<v1::ListJobsReply> reply);
  void CancelJob(JobId name, Reply<v1::JobStatus> reply);
  void PauseJob(JobId name, Reply<v1::JobStatus> reply);
  void ResumeJob(JobId name, Reply<v1::JobStatus> reply);
  void ListRounds(v1::ListRoundsRequest request,
                  Reply<v1::ListRoundsReply> reply);
  void ListNodes(Reply<v1::ListNodesReply> reply);
  void PinModel(v1::PinModelRequest request, Reply<v1::ModelManifest> reply);
  // The port gets the job's state at once, and is closed when the job ends.
  void Watch(v1::WatchJobRequest request, std::shared_ptr<WatchPort> port);
  void Unwatch(const WatchPort* port);

 private:
  struct Session {
    std::shared_ptr<SessionPort> port;  // second owner: the stream's reactor
    WorkerId worker;                    // empty before its Hello
    absl::Time hello_deadline;
  };

  // engine.cc: the loop, durability, time.
  absl::Time AfterBatch();
  bool CommitPending();
  void Mutate(Mutation mutation) { pending_.push_back(std::move(mutation)); }
  void AfterCommit(std::function<void()> effect) {
    effects_.push_back(std::move(effect));
  }
  void PassTime(absl::Time now);
  bool TickJobs(absl::Time now);
  absl::Time NextWake(absl::Time now) const;
  void Fatal(absl::Status status);
  void SyncWholeUploads();
  bool IsIdle() const;
  absl::Status RestoreJob(const JobRow& row, const JournalContents& contents);
  void RemoveStrayState(const Job& job);

  // engine_workers.cc: sessions, tasks, updates.
  void HandleHello(uint64_t session, const v1::Hello& hello,
                   const std::string& address);
  void HandleMessage(uint64_t session, const v1::WorkerMessage& message);
  void HandleClosed(uint64_t session);
  void ForgetUnheldUploads(const v1::Hello& hello);
  void HandleProgress(const WorkerId& worker, const v1::TaskProgress& progress);
  void HandleRefusal(const WorkerId& worker, const v1::TaskRef& task,
                     const std::string& reason, v1::WorkerEvent::Kind kind);
  bool IsIncluded(const WorkerId& worker, const v1::TaskRef& task) const;
  std::shared_ptr<const v1::ModelManifest> BaseOf(const Job& job,
                                                  TaskId::Kind kind,
                                                  int64_t round) const;
  void HandleTaskMessage(const WorkerId& worker,
                         const v1::WorkerMessage& message);
  void HandleUpdateReady(const WorkerId& worker,
                         const v1::UpdateHeader& header);
  void HandleEvaluation(const WorkerId& worker, const v1::EvaluationDone& done);
  void AcceptUpload(const std::shared_ptr<Upload>& upload, UploadReply reply);
  bool AnswerIfUnwanted(Job* job, const Upload& upload,
                        const UploadReply& reply);
  void EnterUpdate(Job* job, const Upload& upload, const SpoolExtent& extent,
                   UploadReply reply);
  void RefuseUpload(const UploadKey& key, const std::string& reason,
                    const UploadReply& reply);
  void LoseWorker(const WorkerId& worker, const std::string& reason);
  void AdmitUploads();
  void SendTo(const WorkerId& worker, v1::CoordinatorMessage message);
  void Settle(const WorkerId& worker, const v1::TaskRef& task,
              v1::UpdateSettled::Outcome outcome, std::string reason);
  void SendOffer(const JobId& job, const WorkerId& worker, TaskId::Kind kind,
                 int64_t round);

  // engine_rounds.cc: what machines decide.
  void Perform(Job* job, const Actions& actions);
  void PerformOne(Job* job, const OpenRound& action);
  void PerformOne(Job* job, const ExtendRound& action);
  void PerformOne(Job* job, const OfferTask& action);
  void PerformOne(Job* job, const WithdrawTask& action);
  void PerformOne(Job* job, const CloseRound& action);
  void PerformOne(Job* job, const StartEvaluation& action);
  void PerformOne(Job* job, const FinishEvaluation& action);
  void PerformOne(Job* job, const FinishJob& action);
  void ComputeInitialModel(Job* job);
  void FinishInitialModel(const JobId& name,
                          absl::StatusOr<v1::ModelManifest> manifest);
  void ComputeRound(Job* job);
  void FinishRound(const JobId& name, int64_t round,
                   const PublishedRound& published);
  void PublishVersion(Job* job, const PublishedRound& published);
  void ForgetUpdates(Job* job);
  void ForgetUpload(const UploadKey& key, const std::string& reason);
  void ForgetLeftUploads(const Job& job, const RoundRow& before);
  void SettleStale(const Job& job);
  void TakeUpWaiting(const JobId& name);
  void KeepReport(const Job& job, const v1::RoundReport& report);
  v1::RoundReport MakeReport(const Job& job, const PublishedRound& published);
  void LeaveOut(Job* job, const std::vector<aggregation::Refusal>& refusals);
  absl::Status CheckModelSize(const v1::JobSpec& spec, int64_t bytes) const;

  // engine_versions.cc: what is kept of versions, and how they get about.
  void Serve(const v1::ModelManifest& manifest);
  void Withdraw(const v1::ModelManifest& manifest);
  void AnnounceAll(const JournalContents& contents);
  void AddVersion(Job* job, const v1::ModelManifest& manifest,
                  std::vector<StateFile> state);
  void ReplaceManifest(Job* job, v1::ModelManifest manifest);
  void RenewManifests(absl::Time now);
  absl::StatusOr<v1::ModelManifest> Pin(const v1::PinModelRequest& request);
  void DropOldVersions(Job* job);
  void DropVersion(Job* job, int64_t version);
  void DropDelta(const Job& job);
  void DropState(Job* job);
  void CountFetched(const WorkerId& worker, TaskId::Kind kind,
                    const v1::SwarmTraffic& fetched, Job* job);
  const FetchPeers& PeersOf(const Job& job);
  // The outlet, of nodes that have gone.
  void TellOfGone();
  void AddFetchPeers(const Job& job, const WorkerId& worker,
                     v1::OfferTask* offer);

  // engine_folds.cc: updates added to a running sum as they arrive.
  struct Folded {
    int64_t generation = 0;
    SpoolExtent to;
    absl::StatusOr<Digest> digest = absl::UnknownError("");
    absl::Status synced;
  };
  void QueueFold(const std::shared_ptr<Upload>& upload, UploadReply reply);
  void StartFolds();
  void StartFold(Job* job);
  void AnswerUnwanted(Job* job);
  void RetryFoldLater(Job* job, const absl::Status& why);
  void FinishFold(const JobId& name, const Folded& folded);
  bool AllWanted(const Job& job,
                 const std::vector<RunningSum::Waiting>& batch) const;
  void CommitFold(Job* job, std::vector<RunningSum::Waiting> batch,
                  const SpoolExtent& extent, const Digest& digest);
  void HandleFoldError(Job* job, bool is_void, const absl::Status& error);
  static absl::Status RestoreSum(const JournalContents& contents, Job* job);
  absl::Status ReserveSums(Job* job);
  std::vector<SpoolExtent> TakeSums(Job* job);
  UploadTerms TermsFor(Job* job);

  // engine_clients.cc: calls and events.
  Job* FindJob(const JobId& name);
  absl::StatusOr<Job*> KnownJob(const JobId& name);
  absl::StatusOr<v1::SubmitJobReply> Submit(v1::JobSpec spec);
  absl::StatusOr<v1::SubmitJobReply> Resubmit(const Job& job,
                                              v1::JobSpec spec) const;
  std::vector<std::string> SubmissionWarnings(const v1::JobSpec& spec) const;
  JobId MakeJobName() const;
  void SendEvent(const JobId& job, v1::JobEvent event);
  void SendStatus(const Job& job);
  // A worker may have become free: other jobs may want it.
  void OfferToOthers(const Job& job);
  void SendWorkerEvent(const JobId& job, const WorkerId& worker,
                       v1::WorkerEvent::Kind kind, const std::string& detail);

  const Options options_;
  const Clock* const clock_;
  Journal* const journal_;
  Spool* const spool_;
  ModelStore* const store_;
  ModelCatalog* const catalog_;
  UploadDesk* const desk_;

  // Touched by the engine's thread only (and by Start, before it runs).
  Registry registry_;
  std::map<JobId, std::unique_ptr<Job>> jobs_;
  std::map<JobId, std::map<int64_t, v1::RoundReport>> reports_;
  std::map<uint64_t, Session> sessions_;
  std::multimap<JobId, std::shared_ptr<WatchPort>> watchers_;
  std::vector<Mutation> pending_;
  std::vector<std::function<void()>> effects_;
  absl::Time next_expiry_check_ = absl::InfinitePast();
  absl::Time next_renewal_check_ = absl::InfinitePast();
  // Who can be fetched from, by job: made anew when workers come and go, but
  // not for each of them.
  struct KnownPeers {
    int64_t round = 0;
    uint64_t generation = 0;
    absl::Time made;
    FetchPeers peers;
  };
  std::map<JobId, KnownPeers> peers_;
  bool candidates_changed_ = true;
  bool spool_full_ = false;
  // Whole updates of buffered jobs that came while no round was open, at most
  // one for each task; taken up when the next round is.
  struct WaitingUpload {
    std::shared_ptr<Upload> upload;
    UploadReply reply;
  };
  std::map<UploadKey, WaitingUpload> waiting_;
  size_t computing_ = 0;
  size_t folding_ = 0;

  std::atomic<bool> draining_{false};
  std::atomic<bool> failed_{false};

  // Uploads that wait for the sync that makes them durable; the sync loop's
  // own.
  struct WholeUpload {
    std::shared_ptr<Upload> upload;
    UploadReply reply;
  };
  std::vector<WholeUpload> whole_;

  ThreadPool pool_;  // the compute loop's own
  EventLoop compute_;
  EventLoop sync_;
  EventLoop folds_;
  EventLoop loop_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_ENGINE_H_
