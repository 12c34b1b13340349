// The engine's side that faces clients: calls and events.

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/engine/engine.h"
#include "coordinator/folds/fold.h"
#include "coordinator/jobs/job_spec.h"
#include "google/protobuf/util/message_differencer.h"
#include "kernels/graph/control_variates.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {

Job* Engine::FindJob(const JobId& name) {
  const auto it = jobs_.find(name);
  return it == jobs_.end() ? nullptr : it->second.get();
}

absl::StatusOr<Job*> Engine::KnownJob(const JobId& name) {
  Job* job = FindJob(name);
  if (job != nullptr) return job;
  return absl::NotFoundError(absl::StrCat("there is no job '", name, "'"));
}

void Engine::SubmitJob(v1::JobSpec spec, Reply<v1::SubmitJobReply> reply) {
  loop_.Post([this, spec = std::move(spec), reply = std::move(reply)] {
    auto result = Submit(spec);
    AfterCommit([reply, result = std::move(result)] { reply(result); });
  });
}

JobId Engine::MakeJobName() const {
  size_t number = jobs_.size() + 1;
  while (jobs_.contains(absl::StrCat("job-", number))) ++number;
  return absl::StrCat("job-", number);
}

absl::StatusOr<v1::SubmitJobReply> Engine::Submit(v1::JobSpec spec) {
  if (draining_) return absl::UnavailableError("coordinator is stopping");
  if (spec.name().empty()) spec.set_name(MakeJobName());
  if (const Job* job = FindJob(spec.name()); job != nullptr) {
    return Resubmit(*job, std::move(spec));
  }
  if (spec.seed() == 0) spec.set_seed(options_.draw_seed());
  ABSL_ASSIGN_OR_RETURN(spec, ValidateJobSpec(std::move(spec)));
  const auto unfinished = static_cast<size_t>(
      std::count_if(jobs_.begin(), jobs_.end(),
                    [](const auto& job) { return !job.second->finished(); }));
  if (unfinished >= options_.max_jobs) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_jobs: ", unfinished, " jobs are unfinished, ",
                     options_.max_jobs, " are allowed"));
  }
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(spec.model()));
  ABSL_ASSIGN_OR_RETURN(
      const ModelLayout layout,
      kernels::VersionLayout(graph.layout(), spec.training()));
  ABSL_RETURN_IF_ERROR(
      CheckModelSize(spec, static_cast<int64_t>(layout.total_bytes())));
  if (!spec.initial_model().empty()) {
    const size_t at = spec.initial_model().rfind('@');
    int64_t version = 0;
    if (at == std::string::npos ||
        !absl::SimpleAtoi(spec.initial_model().substr(at + 1), &version) ||
        version < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("initial_model: '", spec.initial_model(),
                       "' is not JOB@VERSION, such as digits@30"));
    }
    ABSL_RETURN_IF_ERROR(
        catalog_->Find(spec.initial_model().substr(0, at), version).status());
  }

  JobRow row;
  row.spec = spec;
  row.submitted = clock_->Now();
  auto job =
      std::make_unique<Job>(row, RoundMachine(spec, RoundMachine::Snapshot()));
  job->layout = layout;
  Mutate(row);
  LogInfo("job submitted", {{"job", spec.name()},
                            {"parameters", graph.layout().total_elements()}});
  v1::SubmitJobReply reply;
  *reply.mutable_status() = StatusOf(*job);
  for (std::string& warning : SubmissionWarnings(spec)) {
    reply.add_warnings(std::move(warning));
  }
  Job* const added = job.get();
  jobs_[spec.name()] = std::move(job);
  ComputeInitialModel(added);
  return reply;
}

absl::Status Engine::CheckModelSize(const v1::JobSpec& spec,
                                    int64_t bytes) const {
  if (bytes == 0) {
    return absl::InvalidArgumentError("model: has no parameters to train");
  }
  if (bytes > options_.max_model_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_model_bytes: the model has ", bytes, " bytes, ",
                     options_.max_model_bytes, " are allowed"));
  }
  // Such a round could never close, and would hold up all others' uploads.
  if (FoldsOnArrival(spec)) {
    // Two sums of 8 bytes a parameter, where an update has 4.
    if (static_cast<uint64_t>(bytes) <= options_.max_spool_bytes / 5) {
      return absl::OkStatus();
    }
    return absl::ResourceExhaustedError(absl::StrCat(
        "max_spool_bytes: a round keeps two running sums of ", 2 * bytes,
        " bytes each and at least one update of ", bytes,
        " on its way, the spool takes ", options_.max_spool_bytes));
  }
  const auto minimum = static_cast<uint64_t>(spec.cohort().minimum());
  if (static_cast<uint64_t>(bytes) > options_.max_spool_bytes / minimum) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "max_spool_bytes: a round keeps at least cohort.minimum = ", minimum,
        " updates of ", bytes, " bytes each, the spool takes ",
        options_.max_spool_bytes));
  }
  return absl::OkStatus();
}

// Submitting the same job again (after a lost reply) is not an error.
absl::StatusOr<v1::SubmitJobReply> Engine::Resubmit(const Job& job,
                                                    v1::JobSpec spec) const {
  if (spec.seed() == 0) spec.set_seed(job.row.spec.seed());
  const auto filled = ValidateJobSpec(std::move(spec));
  // An older Koinon may have filled in less.
  const auto stored = ValidateJobSpec(job.row.spec);
  if (!filled.ok() || !stored.ok() ||
      !google::protobuf::util::MessageDifferencer::Equals(*filled, *stored)) {
    return absl::AlreadyExistsError(
        absl::StrCat("there is another job '", job.row.spec.name(), "'"));
  }
  v1::SubmitJobReply reply;
  *reply.mutable_status() = StatusOf(job);
  return reply;
}

std::vector<std::string> Engine::SubmissionWarnings(
    const v1::JobSpec& spec) const {
  const size_t capable = registry_.Capable(spec).size();
  const int64_t wanted = std::max<int64_t>(1, spec.cohort().minimum());
  if (static_cast<int64_t>(capable) >= wanted) return {};
  constexpr size_t kMaxNamed = 20;
  std::set<std::string> datasets;
  for (const auto& [id, worker] : registry_.workers()) {
    for (const auto& dataset : worker.capabilities.datasets()) {
      if (datasets.size() < kMaxNamed) datasets.insert(dataset.name());
    }
  }
  return {
      absl::StrCat(capable, " connected workers can run this job, it needs ",
                   wanted, "; it waits. Datasets that workers have: ",
                   datasets.empty() ? "none" : absl::StrJoin(datasets, ", "))};
}

void Engine::GetJob(JobId name, Reply<v1::JobStatus> reply) {
  loop_.Post([this, name, reply] {
    const auto job = KnownJob(name);
    if (!job.ok()) return reply(job.status());
    // Nobody is told of what may still be lost.
    AfterCommit([reply, status = StatusOf(**job)] { reply(status); });
  });
}

void Engine::ListJobs(Reply<v1::ListJobsReply> reply) {
  loop_.Post([this, reply] {
    v1::ListJobsReply all;
    for (const auto& [name, job] : jobs_) *all.add_jobs() = BriefStatusOf(*job);
    AfterCommit([reply, all = std::move(all)] { reply(all); });
  });
}

void Engine::CancelJob(JobId name, Reply<v1::JobStatus> reply) {
  loop_.Post([this, name, reply] {
    const auto job = KnownJob(name);
    if (!job.ok()) return reply(job.status());
    Perform(*job,
            (*job)->machine.OnCancel(clock_->Now(), "cancelled by a client"));
    AfterCommit([reply, status = StatusOf(**job)] { reply(status); });
  });
}

void Engine::PauseJob(JobId name, Reply<v1::JobStatus> reply) {
  loop_.Post([this, name, reply] {
    const auto job = KnownJob(name);
    if (!job.ok()) return reply(job.status());
    if ((*job)->finished()) {
      return reply(absl::FailedPreconditionError(
          absl::StrCat("job '", name, "' has finished")));
    }
    Perform(*job, (*job)->machine.OnPause(clock_->Now()));
    (*job)->row.state = v1::PAUSED;
    Mutate((*job)->row);
    SendStatus(**job);
    AfterCommit([reply, status = StatusOf(**job)] { reply(status); });
  });
}

void Engine::ResumeJob(JobId name, Reply<v1::JobStatus> reply) {
  loop_.Post([this, name, reply] {
    const auto job = KnownJob(name);
    if (!job.ok()) return reply(job.status());
    if ((*job)->finished()) {
      return reply(absl::FailedPreconditionError(
          absl::StrCat("job '", name, "' has finished")));
    }
    Perform(*job, (*job)->machine.OnResume(clock_->Now()));
    (*job)->row.state = v1::RUNNING;
    (*job)->needs_tick = true;
    Mutate((*job)->row);
    SendStatus(**job);
    AfterCommit([reply, status = StatusOf(**job)] { reply(status); });
  });
}

void Engine::ListRounds(v1::ListRoundsRequest request,
                        Reply<v1::ListRoundsReply> reply) {
  loop_.Post([this, request = std::move(request), reply] {
    const auto job = KnownJob(request.job());
    if (!job.ok()) return reply(job.status());
    constexpr int64_t kDefaultLimit = 1000;
    int64_t left = request.limit() > 0
                       ? std::min(request.limit(), kDefaultLimit)
                       : kDefaultLimit;
    v1::ListRoundsReply rounds;
    const auto& reports = reports_[request.job()];
    // A reply has to fit into one message; the rest is asked for again.
    constexpr size_t kEnoughBytes = 3 << 20;
    size_t bytes = 0;
    for (auto it = reports.upper_bound(request.after_round());
         it != reports.end() && left > 0 && bytes < kEnoughBytes;
         ++it, --left) {
      *rounds.add_rounds() = it->second;
      bytes += it->second.ByteSizeLong();
    }
    AfterCommit([reply, rounds = std::move(rounds)] { reply(rounds); });
  });
}

void Engine::ListNodes(Reply<v1::ListNodesReply> reply) {
  loop_.Post([this, reply] {
    v1::ListNodesReply nodes;
    const absl::Time now = clock_->Now();
    for (const auto& [id, worker] : registry_.workers()) {
      v1::Node* node = nodes.add_nodes();
      node->set_worker(id);
      node->set_state(worker.connected ? v1::Node::CONNECTED
                                       : v1::Node::DISCONNECTED);
      *node->mutable_capabilities() = worker.capabilities;
      node->set_software_version(worker.software_version);
      node->set_lease_seconds_left(
          absl::ToDoubleSeconds(worker.lease_ends - now));
      node->set_address(worker.address);
      for (const auto& [name, job] : jobs_) {
        if (!job->machine.IsBusy(id)) continue;
        const bool evaluating = job->machine.IsAtWork(
            job->round.round, TaskId::Kind::kEvaluate, id);
        *node->mutable_task() = MakeTaskRef(
            name, evaluating ? TaskId::Kind::kEvaluate : TaskId::Kind::kTrain,
            evaluating ? job->round.round : TaskRoundOf(job->round, id));
      }
    }
    reply(nodes);
  });
}

void Engine::Watch(v1::WatchJobRequest request,
                   std::shared_ptr<WatchPort> port) {
  loop_.Post([this, request = std::move(request), port = std::move(port)] {
    const auto job = KnownJob(request.name());
    if (!job.ok()) return port->Close(job.status());
    if (watchers_.size() >= options_.max_watchers) {
      return port->Close(absl::ResourceExhaustedError(absl::StrCat(
          "max_watchers: ", watchers_.size(), " clients are watching")));
    }
    v1::JobEvent event;
    event.set_time_ms(absl::ToUnixMillis(clock_->Now()));
    if (request.from_start()) {
      for (const auto& [round, report] : reports_[request.name()]) {
        *event.mutable_evaluated() = report;
        port->Send(event);
      }
    }
    *event.mutable_status() = BriefStatusOf(**job);
    port->Send(event);
    if ((*job)->finished()) return port->Close(absl::OkStatus());
    watchers_.emplace(request.name(), port);
  });
}

void Engine::Unwatch(const WatchPort* port) {
  loop_.Post([this, port] {
    std::erase_if(watchers_, [port](const auto& watcher) {
      return watcher.second.get() == port;
    });
  });
}

void Engine::SendEvent(const JobId& job, v1::JobEvent event) {
  const auto [begin, end] = watchers_.equal_range(job);
  if (begin == end) return;
  event.set_time_ms(absl::ToUnixMillis(clock_->Now()));
  for (auto it = begin; it != end; ++it) it->second->Send(event);
}

void Engine::SendStatus(const Job& job) {
  const JobId& name = job.row.spec.name();
  if (!watchers_.contains(name)) return;
  AfterCommit([this, name] {
    const Job* current = FindJob(name);
    v1::JobEvent event;
    *event.mutable_status() = BriefStatusOf(*current);
    SendEvent(name, std::move(event));
  });
}

void Engine::OfferToOthers(const Job& job) {
  for (const auto& [name, other] : jobs_) {
    if (other.get() != &job && !other->finished()) candidates_changed_ = true;
  }
}

void Engine::SendWorkerEvent(const JobId& job, const WorkerId& worker,
                             v1::WorkerEvent::Kind kind,
                             const std::string& detail) {
  if (!watchers_.contains(job)) return;
  v1::JobEvent event;
  event.mutable_worker()->set_worker(worker);
  event.mutable_worker()->set_kind(kind);
  event.mutable_worker()->set_detail(detail);
  AfterCommit([this, job, event] { SendEvent(job, event); });
}

}  // namespace koinon::coordinator
