#include "worker/server.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/version.h"
#include "worker/client/cancellation.h"
#include "worker/local_paths.h"
#include "worker/serial_thread.h"
#include "worker/session/session_machine.h"
#include "worker/session_words.h"
#include "worker/settlement.h"

namespace koinon::worker {
namespace {

// Events not yet handled; a coordinator that says more has to wait.
constexpr size_t kMaxEvents = 1024;
// The loop looks around this often even if nothing is due.
constexpr absl::Duration kLongestWait = absl::Minutes(1);
// Trainers may report each step; the machine hears of it this often.
constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);

SessionMachine::Config MachineConfig(const Worker::Options& options) {
  SessionMachine::Config config;
  config.worker = options.spec.name;
  config.capabilities = options.capabilities;
  config.backoff = options.spec.backoff;
  config.max_held_updates = options.spec.max_held_updates;
  config.max_chunk_bytes = options.spec.max_chunk_bytes;
  config.peer = options.models->contact();
  config.seed = options.seed;
  config.check_offer = options.check_offer;
  return config;
}

}  // namespace

// Performs what the machine decides. Everything without a lock belongs to the
// loop's thread.
class Worker::Driver {
 public:
  Driver(Options options, std::unique_ptr<UpdateStore> updates)
      : options_(std::move(options)),
        local_paths_(options_.local_paths),
        updates_(std::move(updates)),
        machine_(MachineConfig(options_), updates_->held()),
        settlement_(options_.controls, updates_.get()) {
    status_.held_updates = machine_.held_updates();
    loop_ = std::thread([this] { Loop(); });
  }
  ~Driver() { Stop("shutting down"); }

  void Stop(const std::string& reason) {
    {
      MutexLock lock(&mutex_);
      if (!stop_reason_.has_value()) stop_reason_ = reason;
      changed_.SignalAll();
    }
    MutexLock lock(&join_mutex_);
    if (loop_.joinable()) loop_.join();
  }

  Status status() const {
    Status status;
    {
      MutexLock lock(&mutex_);
      status = status_;
    }
    status.traffic = options_.models->traffic();
    return status;
  }

 private:
  using Event = std::function<Actions(absl::Time)>;

  // Any thread.
  void Post(Event event) {
    MutexLock lock(&mutex_);
    events_.push_back(std::move(event));
    changed_.SignalAll();
  }
  // As Post, but waits while too much is unhandled, unless the session has been
  // given up.
  void PostMessage(uint64_t session, const v1::CoordinatorMessage& message);
  template <typename Change>
  void Count(Change change) {
    MutexLock lock(&mutex_);
    change(status_);
  }

  // The loop's thread.
  void Loop();
  std::deque<Event> WaitForEvents();
  bool Ended() const;
  void DropSession();
  void Perform(const Actions& actions) {
    for (const Action& action : actions) {
      std::visit([this](const auto& a) { Do(a); }, action);
    }
  }
  void Do(const OpenSession& action);
  void Do(const SendMessage& action);
  void Do(const CloseSession& action);
  void Do(const UseWelcome& action) {
    options_.models->OnWelcome(action.welcome);
  }
  void Do(const FetchModel& action);
  void Do(const CancelFetch&) { fetch_cancellation_->Cancel(); }
  void Do(const RunTask& action);
  void Do(const StopTask&) { *stop_run_ = true; }
  void Do(const EndTask& action);
  void Do(const StartPush& action);
  void Do(const CancelPush&) { push_cancellation_->Cancel(); }
  void Do(const ForgetUpdate& action);
  void Do(const Warn& action) { LogWarning(action.message); }
  Actions OnSessionClosed(absl::Time now, uint64_t session,
                          const absl::Status& status);
  Actions OnFetched(absl::Time now, uint64_t run,
                    const absl::StatusOr<ModelSource::Fetched>& fetched);

  // The training thread.
  void Train(uint64_t run, const v1::OfferTask& offer, const std::string& base,
             const std::atomic<bool>& stop);
  void Evaluate(uint64_t run, const v1::OfferTask& offer,
                const std::string& model, const std::atomic<bool>& stop);

  // Constant after construction, or synchronising themselves.
  const Options options_;
  const LocalPaths local_paths_;
  const std::unique_ptr<UpdateStore> updates_;

  // The loop's.
  SessionMachine machine_;
  std::unique_ptr<CoordinatorClient::Session> session_;
  uint64_t session_number_ = 0;
  // Shared with the thread that fetches, trains or pushes.
  std::shared_ptr<Cancellation> fetch_cancellation_;
  std::shared_ptr<Cancellation> push_cancellation_;
  std::shared_ptr<std::atomic<bool>> stop_run_;
  // Models of tasks that have fetched and not ended; shared with their runs.
  std::map<uint64_t, std::shared_ptr<LocalModel>> models_;
  std::optional<uint64_t> fetch_run_;  // not ended, its fetch under way
  absl::Time stop_deadline_ = absl::InfiniteFuture();

  Settlement settlement_;  // the training thread's

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
  std::optional<std::string> stop_reason_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_dead_session_ ABSL_GUARDED_BY(mutex_) = 0;
  Status status_ ABSL_GUARDED_BY(mutex_);

  Mutex join_mutex_;
  // Use everything above.
  SerialThread fetch_thread_;
  SerialThread train_thread_;
  SerialThread push_thread_;
  std::thread loop_;
};

void Worker::Driver::Loop() {
  Perform(machine_.Tick(options_.clock->Now()));
  while (!Ended()) {
    for (const Event& event : WaitForEvents()) {
      Perform(event(options_.clock->Now()));
    }
    Perform(machine_.Tick(options_.clock->Now()));
    Count([this](Status& status) {
      status.held_updates = machine_.held_updates();
      status.connected =
          machine_.connection_state() == Connection::State::kOpen;
    });
  }
  DropSession();
}

std::deque<Worker::Driver::Event> Worker::Driver::WaitForEvents() {
  const absl::Time until = std::min(machine_.next_deadline(), stop_deadline_);
  const absl::Duration wait = std::clamp(until - options_.clock->Now(),
                                         absl::ZeroDuration(), kLongestWait);
  const bool stopping = stop_deadline_ != absl::InfiniteFuture();
  std::deque<Event> events;
  MutexLock lock(&mutex_);
  bool timed_out = wait == absl::ZeroDuration();
  while (events_.empty() && !timed_out &&
         (stopping || !stop_reason_.has_value())) {
    timed_out = changed_.WaitWithTimeout(&mutex_, wait);
  }
  std::swap(events, events_);
  changed_.SignalAll();  // there is room
  if (stop_reason_.has_value() && !stopping) {
    events.push_back([this, reason = *stop_reason_](absl::Time now) {
      stop_deadline_ = now + options_.spec.stop_patience;
      return machine_.Stop(now, reason);
    });
  }
  return events;
}

bool Worker::Driver::Ended() const {
  if (stop_deadline_ == absl::InfiniteFuture()) return false;
  return (!machine_.busy() && session_ == nullptr) ||
         options_.clock->Now() >= stop_deadline_;
}

void Worker::Driver::DropSession() {
  {
    MutexLock lock(&mutex_);
    last_dead_session_ = session_number_;
    changed_.SignalAll();  // its thread may wait for room
  }
  session_.reset();
}

void Worker::Driver::PostMessage(uint64_t session,
                                 const v1::CoordinatorMessage& message) {
  MutexLock lock(&mutex_);
  while (events_.size() >= kMaxEvents && session > last_dead_session_) {
    changed_.Wait(&mutex_);
  }
  if (session <= last_dead_session_) return;
  events_.push_back([this, session, message](absl::Time now) {
    LogHeard(message);
    return machine_.OnMessage(now, session, message);
  });
  changed_.SignalAll();
}

void Worker::Driver::Do(const OpenSession& action) {
  DropSession();
  session_number_ = action.session;
  Count([](Status& status) { ++status.sessions; });
  CoordinatorClient::SessionCallbacks callbacks;
  callbacks.on_message =
      [this, session = action.session](const v1::CoordinatorMessage& message) {
        PostMessage(session, message);
      };
  callbacks.on_closed = [this,
                         session = action.session](const absl::Status& status) {
    Post([this, session, status](absl::Time now) {
      return OnSessionClosed(now, session, status);
    });
  };
  session_ = options_.client->OpenSession(action.hello, std::move(callbacks));
}

Actions Worker::Driver::OnSessionClosed(absl::Time now, uint64_t session,
                                        const absl::Status& status) {
  if (session != session_number_ || session_ == nullptr) return {};
  DropSession();
  Actions actions = machine_.OnSessionClosed(now, session, status);
  if (machine_.connection_state() == Connection::State::kStopped) {
    return actions;
  }
  const absl::Duration retry = machine_.next_deadline() - now;
  if (NeedsOperator(status)) {
    LogError(
        "the coordinator refuses this worker; it will be asked again",
        {{"worker", options_.spec.name},
         {"reason", status},
         {"worker_version", std::string(kSoftwareVersion)},
         {"worker_protocol", absl::StrCat(kProtocolMajor, ".", kProtocolMinor)},
         {"retry",
          absl::FormatDuration(absl::Trunc(retry, absl::Milliseconds(1)))}});
  } else {
    LogWarning("connection lost",
               {{"reason", status},
                {"retry", absl::FormatDuration(
                              absl::Trunc(retry, absl::Milliseconds(1)))}});
  }
  return actions;
}

void Worker::Driver::Do(const SendMessage& action) {
  if (session_ == nullptr || action.session != session_number_) return;
  LogSaid(action.message);
  session_->Send(ForOthers(action.message, local_paths_));
}

void Worker::Driver::Do(const CloseSession& action) {
  if (session_ == nullptr || action.session != session_number_) return;
  LogInfo("leaving the session", {{"reason", action.reason}});
  if (action.graceful) {
    session_->FinishSending();  // its end comes as an event
  } else {
    DropSession();
  }
}

void Worker::Driver::Do(const FetchModel& action) {
  fetch_run_ = action.run;
  fetch_cancellation_ = std::make_shared<Cancellation>();
  fetch_thread_.Post([this, run = action.run, offer = action.offer,
                      cancellation = fetch_cancellation_] {
    absl::StatusOr<ModelSource::Fetched> fetched = options_.models->Fetch(
        offer, [&cancellation] { return cancellation->cancelled(); });
    Post([this, run, fetched = std::move(fetched)](absl::Time now) {
      return OnFetched(now, run, fetched);
    });
  });
}

Actions Worker::Driver::OnFetched(
    absl::Time now, uint64_t run,
    const absl::StatusOr<ModelSource::Fetched>& fetched) {
  const bool wanted = fetch_run_ == run;
  fetch_run_.reset();
  if (!fetched.ok()) {
    if (!absl::IsCancelled(fetched.status())) {
      LogWarning("model not fetched", {{"reason", fetched.status()}});
    }
    return machine_.OnFetched(now, run, fetched.status());
  }
  if (wanted) models_[run] = fetched->model;
  return machine_.OnFetched(now, run, fetched->traffic);
}

void Worker::Driver::Do(const EndTask& action) {
  models_.erase(action.run);
  if (fetch_run_ == action.run) fetch_run_.reset();
}

void Worker::Driver::Do(const RunTask& action) {
  stop_run_ = std::make_shared<std::atomic<bool>>(false);
  train_thread_.Post([this, run = action.run, offer = action.offer,
                      model = models_.at(action.run), stop = stop_run_] {
    if (offer.task().kind() == v1::TaskRef::TRAIN) {
      Train(run, offer, model->path(), *stop);
    } else {
      Evaluate(run, offer, model->path(), *stop);
    }
  });
}

void Worker::Driver::Train(uint64_t run, const v1::OfferTask& offer,
                           const std::string& base,
                           const std::atomic<bool>& stop) {
  const TaskId task = *TaskIdFromRef(offer.task());  // the machine's own
  absl::Time next_report = absl::InfinitePast();
  const ProgressCallback progress = [&](double fraction, double loss) {
    const absl::Time now = options_.clock->Now();
    if (now < next_report) return;
    next_report = now + kProgressInterval;
    Post([this, run, fraction, loss](absl::Time at) {
      return machine_.OnProgress(at, run, fraction, loss);
    });
  };
  updates_->DiscardStaged(task);
  absl::StatusOr<v1::UpdateHeader> header;
  const absl::Status current = settlement_.Include(task.job);
  const absl::StatusOr<v1::Metrics> metrics =
      current.ok()
          ? options_.trainer->Train(offer, base, updates_->StagingPath(task),
                                    progress, stop)
          : current;
  if (metrics.ok()) {
    header = updates_->Keep(offer, *metrics);
  } else {
    header = metrics.status();
    updates_->DiscardStaged(task);
  }
  if (header.ok()) {
    LogInfo("update finished", {{"task", task.ToString()},
                                {"examples", metrics->examples()},
                                {"loss", metrics->loss()},
                                {"seconds", metrics->seconds()},
                                {"bytes", header->size_bytes()}});
    Count([](Status& status) { ++status.trained; });
  }
  Post([this, run, header = std::move(header)](absl::Time now) {
    return machine_.OnTrained(now, run, header);
  });
}

void Worker::Driver::Evaluate(uint64_t run, const v1::OfferTask& offer,
                              const std::string& model,
                              const std::atomic<bool>& stop) {
  const absl::StatusOr<v1::Metrics> metrics =
      options_.trainer->Evaluate(offer, model, stop);
  if (metrics.ok()) {
    LogInfo("evaluation finished", {{"task", TaskName(offer.task())},
                                    {"examples", metrics->examples()},
                                    {"loss", metrics->loss()},
                                    {"accuracy", metrics->accuracy()}});
    Count([](Status& status) { ++status.evaluated; });
  }
  Post([this, run, metrics](absl::Time now) {
    return machine_.OnEvaluated(now, run, metrics);
  });
}

void Worker::Driver::Do(const StartPush& action) {
  push_cancellation_ = std::make_shared<Cancellation>();
  push_thread_.Post([this, push = action, cancellation = push_cancellation_] {
    PushOutcome outcome;
    const TaskId task = *TaskIdFromRef(push.header.task());
    const auto file = updates_->OpenUpdate(task);
    if (file.ok()) {
      outcome = options_.client->PushUpdate(push, **file, cancellation.get());
    } else {
      outcome.file_status = file.status();
    }
    if (outcome.accepted) {
      LogInfo("update accepted", {{"task", task.ToString()}});
      Count([](Status& status) { ++status.pushed; });
    } else if (!outcome.status.ok() && !cancellation->cancelled()) {
      LogWarning("push broke off",
                 {{"task", task.ToString()}, {"reason", outcome.status}});
    }
    Post([this, number = push.push, outcome](absl::Time now) {
      return machine_.OnPushed(now, number, outcome);
    });
  });
}

void Worker::Driver::Do(const ForgetUpdate& action) {
  LogInfo("update let go",
          {{"task", action.task.ToString()}, {"reason", action.reason}});
  if (!action.included || options_.controls == nullptr ||
      !options_.controls->Holds(action.task.job)) {
    return RemoveUpdate(updates_.get(), action.task);
  }
  // Where control variates are read, so that the next training sees it. The
  // update stays on disk until then: after a crash, all this is done again.
  train_thread_.Post([this, task = action.task] {
    settlement_.Add(task);
    (void)settlement_.Include(task.job);  // logged; tried again before training
  });
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(Options options) {
  ABSL_RETURN_IF_ERROR(SessionMachine::Validate(MachineConfig(options)));
  if (options.spec.state_dir.empty()) {
    return absl::InvalidArgumentError("state_dir: must be given");
  }
  const std::string& dir = options.spec.state_dir;
  ABSL_RETURN_IF_ERROR(options.env->MakeDirs(dir));
  ABSL_RETURN_IF_ERROR(options.env->SyncDir(DirectoryOf(dir)));
  UpdateStore::Options bounds;
  bounds.worker = options.spec.name;
  // One more than the machine holds: it lets one go once the next is on disk.
  bounds.max_updates = options.spec.max_held_updates + 1;
  bounds.max_bytes = options.spec.max_held_bytes;
  ABSL_ASSIGN_OR_RETURN(
      auto updates,
      UpdateStore::Open(options.env, absl::StrCat(dir, "/updates"), bounds));
  return std::unique_ptr<Worker>(new Worker(
      std::make_unique<Driver>(std::move(options), std::move(updates))));
}

Worker::Worker(std::unique_ptr<Driver> driver) : driver_(std::move(driver)) {}
Worker::~Worker() = default;
void Worker::Stop(const std::string& reason) { driver_->Stop(reason); }
Worker::Status Worker::status() const { return driver_->status(); }

}  // namespace koinon::worker
