#ifndef KOINON_COORDINATOR_ENGINE_JOB_H_
#define KOINON_COORDINATOR_ENGINE_JOB_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/ids.h"
#include "base/model_layout.h"
#include "coordinator/engine/running_sum.h"
#include "coordinator/journal/journal.h"
#include "coordinator/round/round_machine.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// One job as the engine's thread holds it: what the journal says, and the
// machine that decides what is next. Owned by the engine; not thread-safe.
struct Job {
  Job(JobRow job_row, RoundMachine round_machine);

  JobRow row;
  RoundMachine machine;
  ModelLayout layout;
  // Of the round being run (or the last one).
  RoundRow round;
  std::map<WorkerId, AcceptedRow> accepted;
  std::map<WorkerId, std::string> excluded;
  int64_t bytes_received = 0;
  // What members said of how versions came to them in this round, and who has
  // said it: once for each task.
  v1::SwarmTraffic distribution;
  std::set<std::pair<WorkerId, TaskId::Kind>> told_of_fetching;
  // Of a job whose updates are added on arrival; null for others.
  std::unique_ptr<RunningSum> sum;
  // Newest published version; -1 while the initial model is being written.
  int64_t version = -1;
  v1::ModelManifest head;
  std::vector<StateFile> state;  // that goes with the head
  // All that are kept, and those of them that are whatever the policy says.
  std::set<int64_t> versions;
  std::set<int64_t> pinned;
  v1::RoundReport last_report;
  // Of a job with control variates: all that were in the cohort of a published
  // round.
  std::set<WorkerId> asked;
  // The compute thread works on this job; its spool extents must stay.
  bool computing = false;
  bool needs_tick = true;

  bool finished() const { return machine.snapshot().phase == Phase::kFinished; }
};

// Takes note of the published round's cohort.
void CountAsked(const v1::RoundReport& report, Job* job);

// The round that offered the task which `worker` has, or had, as a member of
// `round`: earlier than it only in buffered rounds.
int64_t TaskRoundOf(const RoundRow& round, const WorkerId& worker);

// The machine's state after a restart, from what the journal holds.
RoundMachine::Snapshot RestoreSnapshot(
    const JobRow& row, const std::map<int64_t, RoundRow>& rounds,
    const std::map<WorkerId, AcceptedRow>& accepted);

v1::JobStatus StatusOf(const Job& job);
// Without what the last report says of each worker, for where there are many of
// it.
v1::JobStatus BriefStatusOf(const Job& job);

// Example-weighted means and spreads over workers. Losses and accuracies that
// the inputs lack stay absent.
v1::MetricsSummary Summarize(const std::map<WorkerId, v1::Metrics>& metrics);

// What a worker measured is only believed within its range: INVALID_ARGUMENT
// unless examples are in [1, 2^53], loss is finite, accuracy is in [0, 1], and
// what a site's ranks exchanged took no negative time.
absl::Status CheckMetrics(const v1::Metrics& metrics);

// Whether an announced update fits the version that its task starts from and
// the model. INVALID_ARGUMENT says what was expected and what was found.
absl::Status CheckUpdateHeader(const Job& job, const v1::ModelManifest& base,
                               const WorkerId& worker,
                               const v1::UpdateHeader& header);

// `round`: that of the task; `base`: the version that it starts from.
v1::OfferTask MakeOffer(const Job& job, const v1::ModelManifest& base,
                        const WorkerId& worker, TaskId::Kind kind,
                        int64_t round, absl::Time now);
v1::TaskRef MakeTaskRef(const JobId& job, TaskId::Kind kind, int64_t round);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_JOB_H_
