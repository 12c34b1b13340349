#include "coordinator/engine/job.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/random.h"
#include "coordinator/folds/fold.h"

namespace koinon::coordinator {
namespace {

// Doubles hold every whole number up to here: weights stay exact.
constexpr int64_t kMaxExamples = int64_t{1} << 53;
// More than any fp32 loss; its square, weighted and summed, stays finite.
constexpr double kMaxLoss = 1e100;
// Of one site.
constexpr int64_t kMaxRanks = 1 << 24;
// Of an announced header: names and digests, which are short.
constexpr size_t kMaxHeaderBytes = 4096;

// Weighted mean, range and spread of one metric.
class SpreadBuilder {
 public:
  void Add(double value, double weight) {
    weighted_ += value * weight;
    weight_ += weight;
    sum_ += value;
    squares_ += value * value;
    ++count_;
    min_ = std::min(min_, value);
    max_ = std::max(max_, value);
  }
  bool empty() const { return count_ == 0; }
  v1::MetricsSummary::Spread Build() const {
    v1::MetricsSummary::Spread spread;
    spread.set_mean(weighted_ / weight_);
    spread.set_min(min_);
    spread.set_max(max_);
    const double mean = sum_ / count_;
    spread.set_stddev(
        std::sqrt(std::max(0.0, squares_ / count_ - mean * mean)));
    return spread;
  }

 private:
  double weighted_ = 0, weight_ = 0, sum_ = 0, squares_ = 0;
  int64_t count_ = 0;
  double min_ = std::numeric_limits<double>::infinity();
  double max_ = -std::numeric_limits<double>::infinity();
};

bool IsTerminal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED ||
         state == v1::CANCELLED;
}

void RestoreOpenRound(const RoundRow& round,
                      const std::map<WorkerId, AcceptedRow>& accepted,
                      RoundMachine::Snapshot* snapshot) {
  snapshot->attempt = round.attempt;
  snapshot->cohort_seed = round.cohort_seed;
  snapshot->opened = round.opened;
  snapshot->deadline = round.deadline;
  for (const WorkerId& worker : round.cohort) {
    snapshot->members[worker].task_round = TaskRoundOf(round, worker);
  }
  // Once published, only this is left of those whose updates are in.
  for (const WorkerId& worker : round.included) {
    snapshot->members[worker].state = MemberState::kReceived;
  }
  for (const auto& [worker, row] : accepted) {
    RoundMachine::Member& member = snapshot->members[worker];
    member.state = MemberState::kReceived;
    member.metrics = row.metrics;
    member.task_round = row.task_round;
  }
}

// Between two rounds of a buffered job: who has not delivered keeps its task.
void RestoreMembersAtWork(const RoundRow& round,
                          RoundMachine::Snapshot* snapshot) {
  for (const WorkerId& worker : round.cohort) {
    if (std::binary_search(round.included.begin(), round.included.end(),
                           worker)) {
      continue;
    }
    snapshot->members[worker].task_round = TaskRoundOf(round, worker);
  }
}

std::map<int64_t, double> MetricHistory(
    const v1::JobSpec& spec, const std::map<int64_t, RoundRow>& rounds) {
  std::map<int64_t, double> history;
  for (const auto& [number, round] : rounds) {
    if (!round.report.has_evaluation()) continue;
    const v1::MetricsSummary& evaluation = round.report.evaluation();
    if (spec.stop().metric() == "loss") {
      history[number] = evaluation.loss().mean();
    } else if (evaluation.has_accuracy()) {
      history[number] = evaluation.accuracy().mean();
    }
  }
  return history;
}

// Until an update for the task of `round` cannot be in time any more. A
// buffered job's may enter any of the rounds that its staleness allows.
double SecondsToTrain(const Job& job, int64_t round, absl::Time now) {
  const RoundMachine::Snapshot& state = job.machine.snapshot();
  const v1::JobSpec& spec = job.row.spec;
  const absl::Duration of_round =
      absl::Seconds(spec.cohort().deadline_seconds());
  const bool open = state.phase == Phase::kTraining;
  absl::Duration left =
      open || !spec.has_buffer() ? state.deadline - now : absl::ZeroDuration();
  if (spec.has_buffer()) {
    // Between two rounds the machine counts the one to come.
    const int64_t rounds_after =
        std::min(round + spec.buffer().max_staleness(), spec.rounds()) -
        state.round + (state.phase == Phase::kWaiting ? 1 : 0);
    left = std::max(left, absl::ZeroDuration()) + rounds_after * of_round;
  }
  return std::max(0.0, absl::ToDoubleSeconds(left));
}

}  // namespace

void CountAsked(const v1::RoundReport& report, Job* job) {
  if (!job->row.spec.training().has_scaffold()) return;
  job->asked.insert(report.cohort().begin(), report.cohort().end());
}

int64_t TaskRoundOf(const RoundRow& round, const WorkerId& worker) {
  const auto carried = round.carried.find(worker);
  return carried == round.carried.end() ? round.round : carried->second;
}

Job::Job(JobRow job_row, RoundMachine round_machine)
    : row(std::move(job_row)), machine(std::move(round_machine)) {
  if (!FoldsOnArrival(row.spec)) return;
  const auto format =
      aggregation::FixedPoint::Of(row.spec.aggregation().fedavg());
  if (!format.ok()) return;  // no spec that was ever submitted
  sum = std::make_unique<RunningSum>();
  sum->format = *format;
}

RoundMachine::Snapshot RestoreSnapshot(
    const JobRow& row, const std::map<int64_t, RoundRow>& rounds,
    const std::map<WorkerId, AcceptedRow>& accepted) {
  RoundMachine::Snapshot snapshot;
  snapshot.paused = row.state == v1::PAUSED;
  snapshot.metric_history = MetricHistory(row.spec, rounds);
  if (!rounds.empty()) {
    const RoundRow& last = rounds.rbegin()->second;
    snapshot.round = last.round;
    switch (last.phase) {
      case RoundPhase::kOpen:
        snapshot.phase = Phase::kTraining;
        RestoreOpenRound(last, accepted, &snapshot);
        break;
      case RoundPhase::kClosed:
        snapshot.phase = Phase::kAggregating;
        RestoreOpenRound(last, accepted, &snapshot);
        snapshot.included = last.included;
        break;
      case RoundPhase::kPublished:
        snapshot.phase = Phase::kEvaluating;
        RestoreOpenRound(last, accepted, &snapshot);
        snapshot.included = last.included;
        break;
      case RoundPhase::kDone:
        snapshot.round = last.round + 1;
        snapshot.included = last.included;
        if (row.spec.has_buffer()) RestoreMembersAtWork(last, &snapshot);
        break;
    }
  }
  if (IsTerminal(row.state)) {
    snapshot.phase = Phase::kFinished;
    snapshot.final_state = row.state;
    snapshot.final_reason = row.reason;
  }
  return snapshot;
}

v1::JobStatus StatusOf(const Job& job) {
  const RoundMachine::Snapshot& state = job.machine.snapshot();
  v1::JobStatus status;
  status.set_name(job.row.spec.name());
  *status.mutable_spec() = job.row.spec;
  status.set_reason(job.row.reason);
  if (state.phase == Phase::kFinished) {
    status.set_state(state.final_state);
  } else if (state.paused) {
    status.set_state(v1::PAUSED);
  } else if (job.version < 0) {
    status.set_state(v1::PENDING);
    status.set_reason("the initial model is being written");
  } else if (state.phase == Phase::kWaiting) {
    status.set_state(v1::PENDING);
    status.set_reason(job.machine.WaitingFor());
  } else {
    status.set_state(v1::RUNNING);
  }
  status.set_round(std::min<int64_t>(state.round, job.row.spec.rounds()));
  status.set_version(std::max<int64_t>(job.version, 0));
  status.set_submitted_ms(absl::ToUnixMillis(job.row.submitted));
  if (job.row.finished != absl::InfiniteFuture()) {
    status.set_finished_ms(absl::ToUnixMillis(job.row.finished));
  }
  if (job.last_report.round() > 0) {
    *status.mutable_last_report() = job.last_report;
  }
  status.set_updates_accepted(static_cast<int64_t>(job.accepted.size()));
  status.set_cohort_size(static_cast<int64_t>(job.round.cohort.size()));
  return status;
}

v1::JobStatus BriefStatusOf(const Job& job) {
  v1::JobStatus status = StatusOf(job);
  if (!status.has_last_report()) return status;
  v1::RoundReport* report = status.mutable_last_report();
  report->clear_cohort();
  report->clear_included();
  report->clear_excluded();
  report->clear_communication();
  report->mutable_aggregation()->clear_updates();
  return status;
}

v1::MetricsSummary Summarize(const std::map<WorkerId, v1::Metrics>& metrics) {
  SpreadBuilder loss, accuracy;
  v1::MetricsSummary summary;
  for (const auto& [worker, m] : metrics) {
    const double weight = static_cast<double>(m.examples());
    summary.set_workers(summary.workers() + 1);
    const int64_t room =
        std::numeric_limits<int64_t>::max() - summary.examples();
    summary.set_examples(summary.examples() + std::min(room, m.examples()));
    loss.Add(m.loss(), weight);
    if (m.has_accuracy()) accuracy.Add(m.accuracy(), weight);
  }
  if (!loss.empty()) *summary.mutable_loss() = loss.Build();
  if (!accuracy.empty()) *summary.mutable_accuracy() = accuracy.Build();
  return summary;
}

namespace {

absl::Status CheckCommunication(const v1::SiteCommunication& site) {
  if (site.ranks() < 1 || site.ranks() > kMaxRanks || site.nodes() < 1 ||
      site.nodes() > site.ranks()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics.communication: ", site.ranks(), " ranks on ", site.nodes(),
        " nodes, expected 1 to ", kMaxRanks, " on at most as many nodes"));
  }
  for (const double seconds :
       {site.seconds(), site.waited_seconds(), site.step_seconds(),
        site.step_waited_seconds()}) {
    if (!(seconds >= 0) || !std::isfinite(seconds)) {
      return absl::InvalidArgumentError(
          absl::StrCat("metrics.communication: ", seconds,
                       " seconds, expected a finite number >= 0"));
    }
  }
  if (site.bytes() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics.communication.bytes is ", site.bytes(), ", expected >= 0"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckMetrics(const v1::Metrics& metrics) {
  if (metrics.examples() < 1 || metrics.examples() > kMaxExamples) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics.examples is ", metrics.examples(), ", expected 1 to 2^53"));
  }
  if (!std::isfinite(metrics.loss())) {
    return absl::InvalidArgumentError("metrics.loss is not finite");
  }
  if (std::abs(metrics.loss()) > kMaxLoss) {
    return absl::InvalidArgumentError(
        absl::StrCat("metrics.loss is ", metrics.loss(), ", expected at most ",
                     kMaxLoss, " in magnitude"));
  }
  if (metrics.has_accuracy() &&
      !(metrics.accuracy() >= 0 && metrics.accuracy() <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "metrics.accuracy is ", metrics.accuracy(), ", expected 0 to 1"));
  }
  return metrics.has_communication()
             ? CheckCommunication(metrics.communication())
             : absl::OkStatus();
}

absl::Status CheckUpdateHeader(const Job& job, const v1::ModelManifest& base,
                               const WorkerId& worker,
                               const v1::UpdateHeader& header) {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat("update from worker ", worker, " for round ",
                     header.task().round(), ": ", what));
  };
  if (header.ByteSizeLong() > kMaxHeaderBytes) {
    return wrong(absl::StrCat("a header of ", header.ByteSizeLong(),
                              " bytes, expected at most ", kMaxHeaderBytes));
  }
  if (header.base_version() != base.version() ||
      header.base_digest() != base.digest()) {
    return wrong(absl::StrCat("trained from version ", header.base_version(),
                              ", the round's base is version ", base.version(),
                              " (or another model of that number)"));
  }
  if (header.layout_hash() != job.layout.hash().ToBytes()) {
    return wrong("its layout is not the model's");
  }
  if (header.size_bytes() != static_cast<int64_t>(job.layout.total_bytes())) {
    return wrong(absl::StrCat(header.size_bytes(), " bytes, the model has ",
                              job.layout.total_bytes()));
  }
  if (header.digest().size() != Digest::kSizeBytes) {
    return wrong(absl::StrCat("a digest of ", header.digest().size(),
                              " bytes, expected ", Digest::kSizeBytes));
  }
  const absl::Status metrics = CheckMetrics(header.metrics());
  return metrics.ok() ? metrics : wrong(metrics.message());
}

v1::TaskRef MakeTaskRef(const JobId& job, TaskId::Kind kind, int64_t round) {
  v1::TaskRef task;
  task.set_job(job);
  task.set_round(round);
  task.set_kind(kind == TaskId::Kind::kTrain ? v1::TaskRef::TRAIN
                                             : v1::TaskRef::EVALUATE);
  return task;
}

v1::OfferTask MakeOffer(const Job& job, const v1::ModelManifest& base,
                        const WorkerId& worker, TaskId::Kind kind,
                        int64_t round, absl::Time now) {
  const v1::JobSpec& spec = job.row.spec;
  v1::OfferTask offer;
  *offer.mutable_task() = MakeTaskRef(spec.name(), kind, round);
  offer.set_dataset(spec.dataset());
  *offer.mutable_model() = spec.model();
  *offer.mutable_training() = spec.training();
  offer.set_base_version(base.version());
  offer.set_base_digest(base.digest());
  offer.set_layout_hash(job.layout.hash().ToBytes());
  offer.set_signed_manifest(base.signed_manifest());
  const uint64_t round_seed =
      DeriveSeed(spec.seed(), absl::StrCat("task/", round));
  offer.set_seed(DeriveSeed(round_seed, worker));
  offer.set_job_submitted_ms(absl::ToUnixMillis(job.row.submitted));
  offer.set_deadline_seconds(kind == TaskId::Kind::kEvaluate
                                 ? spec.evaluation().deadline_seconds()
                                 : SecondsToTrain(job, round, now));
  return offer;
}

}  // namespace koinon::coordinator
