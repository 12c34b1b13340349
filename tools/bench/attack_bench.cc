#include "tools/bench/attack_bench.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "aggregation/attacks/attacks.h"
#include "aggregation/core/aggregator.h"
#include "base/status_macros.h"
#include "base/thread_pool.h"

namespace koinon::tools {
namespace {

constexpr char kNone[] = "none";
constexpr char kLabelFlip[] = "label_flip";

struct Job {
  AttackFigure figure;
  v1::AggregationSpec rule;
  AttackPlan plan;
};

absl::StatusOr<AttackPlan> PlanOf(const std::string& attack, size_t f) {
  AttackPlan plan;
  plan.f = f;
  plan.label_flip = attack == kLabelFlip;
  if (plan.label_flip || attack == kNone) return plan;
  const auto kind = aggregation::AttackFromName(attack);
  if (!kind.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("attack \"", attack, "\", expected one of ",
                     absl::StrJoin(AllAttackNames(), ", ")));
  }
  plan.kind = *kind;
  return plan;
}

absl::StatusOr<std::vector<Job>> JobsOf(const AttackBenchOptions& options) {
  const std::vector<std::string> attacks =
      options.attacks.empty() ? AllAttackNames() : options.attacks;
  std::vector<Job> jobs;
  for (const size_t f : options.attackers) {
    if (f >= options.federation.workers) {
      return absl::InvalidArgumentError(
          absl::StrCat(f, " attackers of ", options.federation.workers,
                       " workers, expected fewer"));
    }
    for (const std::string& rule : options.rules) {
      Job job;
      job.figure.f = f;
      job.figure.rule = rule;
      ABSL_ASSIGN_OR_RETURN(job.rule,
                            AttackRule(rule, {.f = f,
                                              .clip_norm = options.clip_norm,
                                              .tau = options.tau}));
      ABSL_RETURN_IF_ERROR(aggregation::MakeAggregator(job.rule).status());
      for (const std::string& attack : attacks) {
        job.figure.attack = attack;
        ABSL_ASSIGN_OR_RETURN(job.plan, PlanOf(attack, f));
        jobs.push_back(job);
      }
    }
  }
  return jobs;
}

// FAILED_PRECONDITION is the rule's word that it needs more updates: a result.
absl::Status RunJob(const AttackFederation& federation, Job* job) {
  const auto outcome = federation.Run(job->rule, job->plan);
  if (absl::IsFailedPrecondition(outcome.status())) {
    job->figure.applicable = false;
    job->figure.note = std::string(outcome.status().message());
    return absl::OkStatus();
  }
  ABSL_RETURN_IF_ERROR(outcome.status());
  job->figure.accuracy = outcome->accuracy;
  job->figure.rounds = outcome->rounds;
  job->figure.note = outcome->stopped;
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> AllAttackNames() {
  std::vector<std::string> names = {kNone};
  for (const aggregation::AttackKind kind : aggregation::AllAttacks()) {
    names.emplace_back(aggregation::AttackName(kind));
  }
  names.emplace_back(kLabelFlip);
  return names;
}

absl::StatusOr<std::vector<AttackFigure>> MeasureAttacks(
    const worker::Dataset& train, const worker::Dataset& test,
    const AttackBenchOptions& options,
    const std::function<void(size_t done, size_t wanted)>& progress) {
  if (options.threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.threads, " threads, expected at least 1"));
  }
  ABSL_ASSIGN_OR_RETURN(std::vector<Job> jobs, JobsOf(options));
  ABSL_ASSIGN_OR_RETURN(
      const std::unique_ptr<AttackFederation> federation,
      AttackFederation::Create(train, test, options.federation));
  std::vector<absl::Status> statuses(jobs.size());
  std::atomic<size_t> done{0};
  ThreadPool pool(options.threads);
  pool.ParallelFor(jobs.size(), [&](size_t i) {
    statuses[i] = RunJob(*federation, &jobs[i]);
    if (progress) progress(++done, jobs.size());
  });
  std::vector<AttackFigure> figures;
  for (size_t i = 0; i < jobs.size(); ++i) {
    ABSL_RETURN_IF_ERROR(statuses[i]);
    figures.push_back(std::move(jobs[i].figure));
  }
  return figures;
}

}  // namespace koinon::tools
