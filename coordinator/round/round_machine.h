#ifndef KOINON_COORDINATOR_ROUND_ROUND_MACHINE_H_
#define KOINON_COORDINATOR_ROUND_ROUND_MACHINE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "coordinator/round/members.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

enum class Phase {
  kWaiting,      // for enough workers to open the next round (or try again)
  kTraining,     // the round is open
  kAggregating,  // closed; the driver computes the new version
  kEvaluating,   // published; workers evaluate
  kFinished,     // succeeded, failed or cancelled
};

// Actions: what the driver must do, in this order, after it has made durable
// what each says. Every action names its round; what is about one worker's task
// to train names the round that this task was offered in.
// Journal the cohort, then offer to each that is asked. With attempt > 1 the
// round starts from scratch: forget what it had accepted in the same commit.
struct OpenRound {
  int64_t round;
  int64_t attempt;  // from 1
  uint64_t cohort_seed;
  std::vector<WorkerId> cohort;  // ascending
  absl::Time opened;
  absl::Time deadline;
  // Those of the cohort that are to be offered the round's task: all, but in
  // buffered rounds those that go on with a task that they have.
  std::vector<WorkerId> asked;
  // Those that go on with an earlier round's task, and that round.
  std::map<WorkerId, int64_t> carried = {};
};
// The same round goes on with more members (replacements, or a new attempt
// after a missed deadline). Updates that it already has stay in it. With
// `added` empty only the attempt or the deadline has changed (after a restart
// that a deadline fell into, the round gets a fresh one within the same
// attempt).
struct ExtendRound {
  int64_t round;
  int64_t attempt;
  std::vector<WorkerId> added;  // ascending; offer to each
  absl::Time deadline;
};
struct OfferTask {  // again, to a member that came back without its task
  int64_t round;
  TaskId::Kind kind;
  WorkerId worker;
};
struct WithdrawTask {  // tell the worker to stop; it may be gone
  int64_t round;
  TaskId::Kind kind;
  WorkerId worker;
  std::string reason;
};
// Journal that the round closed with exactly these updates, then aggregate them
// and call OnAggregated.
struct CloseRound {
  int64_t round;
  std::vector<WorkerId> included;            // ascending
  std::map<WorkerId, std::string> excluded;  // reason for each
};
struct StartEvaluation {  // of version `round`; offer to each
  int64_t round;
  std::vector<WorkerId> cohort;  // ascending
  absl::Time deadline;
};
struct FinishEvaluation {  // journal and report
  int64_t round;
  std::map<WorkerId, v1::Metrics> metrics;
};
struct FinishJob {     // journal and report
  v1::JobState state;  // SUCCEEDED, FAILED or CANCELLED
  std::string reason;
};
using Action =
    std::variant<OpenRound, ExtendRound, OfferTask, WithdrawTask, CloseRound,
                 StartEvaluation, FinishEvaluation, FinishJob>;
using Actions = std::vector<Action>;

// The rounds of one job: which workers are asked, when a round closes, when it
// is tried again, when the job ends. Pure: it owns no clock, thread, lock or
// socket; the driver passes events and `now` in and does what the returned
// actions say. Not thread-safe. After a crash it is made again from the last
// journalled snapshot and goes on with the same round.
//
//   RoundMachine machine(spec, RoundMachine::Snapshot());
//   Perform(machine.Tick(now, candidates));
//   Perform(machine.OnUpdateAccepted(now, 1, "site-a", metrics));
//
// A round closes as soon as `target` updates are in; or nobody is left who
// could still send one and at least `minimum` are in; or at the deadline with
// at least `minimum`. Missing the minimum starts another attempt of the same
// round with more members; after `retries` of them the job fails. A member that
// is lost before its update is replaced at once when another candidate exists
// and the target could not be met otherwise. target == 0 means every candidate
// at the round's opening (and closes when all that are not gone have sent).
//
// A round opens as soon as there are `minimum` candidates, with as many of them
// as there are up to target * over_selection; one that opened with fewer takes
// more in as they come. When everybody who could be asked has declined, the
// next attempt begins after kRetryPause, not only at the deadline.
//
// After a restart (a snapshot other than the initial one) the workers come back
// one by one: members are offered their task as they register, those who do not
// within kReconnectGrace count as lost, and before a new round or an evaluation
// starts, the workers of the last one are waited for as long.
//
// A job with a buffer (JobSpec.buffer; Nguyen et al. 2022) differs in this: a
// round closes when buffer.size updates are in; `target` is how many are at
// work at once, so that others are asked as soon as one has delivered; and who
// is at work when a round closes keeps its task over the round's end, whatever
// the phase. Its update may enter any later round that is less than or exactly
// max_staleness rounds after the one that offered the task; when none is left,
// the task is withdrawn. A lost worker keeps its task as long. A member that
// has delivered is asked again in the next round: a buffer holds one update of
// each worker at most. Evaluation is asked of workers that are not at work.
//
// Decisions that need candidates are made in Tick alone, so that no worker is
// taken that another job has taken meanwhile: an event that calls for one makes
// next_deadline() the infinite past.
//
// Events for another round, a stranger or a repeated one change nothing.
class RoundMachine {
 public:
  using Member = coordinator::Member;

  static constexpr absl::Duration kReconnectGrace = absl::Seconds(30);
  static constexpr absl::Duration kRetryPause = absl::Seconds(5);

  // All that must survive a crash; the driver journals its parts as the actions
  // are performed.
  struct Snapshot {
    Phase phase = Phase::kWaiting;
    bool paused = false;
    int64_t round = 1;  // being run, or next to be opened
    int64_t attempt = 0;
    uint64_t cohort_seed = 0;
    absl::Time opened = absl::InfinitePast();
    absl::Time deadline = absl::InfiniteFuture();
    std::map<WorkerId, Member> members;  // of the round (kTraining on)
    // Ascending. In kAggregating those to aggregate; afterwards those of the
    // last published round, until the next one opens.
    std::vector<WorkerId> included;
    // Federated metric per evaluated round, for early stopping.
    std::map<int64_t, double> metric_history;
    v1::JobState final_state = v1::JOB_STATE_UNSPECIFIED;  // when kFinished
    std::string final_reason;
  };

  // `spec` is validated and has its defaults filled in (jobs/job_spec.h).
  RoundMachine(v1::JobSpec spec, Snapshot snapshot);

  // Time passes. `candidates`: live workers that can run this job and are not
  // busy with another, ascending. To be called at next_deadline(), and whenever
  // the candidates have changed.
  Actions Tick(absl::Time now, absl::Span<const WorkerId> candidates);

  Actions OnTaskAccepted(absl::Time now, int64_t round, TaskId::Kind kind,
                         const WorkerId& worker);
  // Refused or failed: the worker will not deliver this task.
  Actions OnTaskRefused(absl::Time now, int64_t round, TaskId::Kind kind,
                        const WorkerId& worker, const std::string& reason);
  // Its lease ran out or it said goodbye.
  Actions OnWorkerLost(absl::Time now, const WorkerId& worker,
                       const std::string& reason);
  // It registered (again): a member without its update is offered its task
  // again; one that was gone because it was lost is a member again.
  Actions OnWorkerJoined(absl::Time now, const WorkerId& worker);

  // Whether the update that answers `worker`'s task of `round` can still enter
  // the round being run: OK; ALREADY_EXISTS if it is in; FAILED_PRECONDITION
  // with the reason if not (round closed, not a member, job finished, too
  // stale); UNAVAILABLE if it can as soon as the next round is open (buffered
  // rounds only).
  absl::Status CheckUpdate(int64_t round, const WorkerId& worker) const;

  // The update is durable and journalled: it is in the round from now on.
  // Requires CheckUpdate to be OK at the time that it was journalled; the
  // driver's single thread makes the two one step.
  Actions OnUpdateAccepted(absl::Time now, int64_t round,
                           const WorkerId& worker, const v1::Metrics& metrics);
  // The version is published and journalled, or aggregation failed for good
  // (the round is then tried again from scratch as another attempt, with the
  // refused workers left out).
  Actions OnAggregated(absl::Time now, int64_t round, absl::Status status,
                       absl::Span<const WorkerId> refused);
  Actions OnEvaluated(absl::Time now, int64_t round, const WorkerId& worker,
                      const v1::Metrics& metrics);

  // Paused: nothing new is opened; an open round goes on to its end.
  Actions OnPause(absl::Time now);
  Actions OnResume(absl::Time now);
  Actions OnCancel(absl::Time now, const std::string& reason);
  // Something outside the rounds makes the job impossible.
  Actions OnFailure(const std::string& reason);

  // When Tick has to be called even if nothing happens; the infinite past means
  // at once.
  absl::Time next_deadline() const;

  // Why nothing goes on, for people: "2 of the 5 workers that this job needs
  // are connected and free". Empty while something does.
  std::string WaitingFor() const;

  const Snapshot& snapshot() const { return state_; }
  const v1::JobSpec& spec() const { return spec_; }
  // True if the worker has an unfinished task in this job.
  bool IsBusy(const WorkerId& worker) const;
  // True if it is at work on this very task.
  bool IsAtWork(int64_t round, TaskId::Kind kind, const WorkerId& worker) const;
  // The earliest round whose task a member may still answer; nullopt if nobody
  // has one.
  std::optional<int64_t> OldestTaskRound() const;

 private:
  static constexpr char kNotNeeded[] =
      "not needed: the target was reached before";

  // The only places that change state_.phase and a member.
  void MoveTo(Phase to);
  // Gives it the task of the current round.
  void Ask(TaskId::Kind kind, const WorkerId& worker);
  // Its task stays the one that it has.
  void Set(TaskId::Kind kind, const WorkerId& worker, Member member);
  void ClearEvaluators();
  void RetainMembers(absl::FunctionRef<bool(const Member&)> keep);

  // What buffered rounds do differently.
  bool buffered() const { return spec_.has_buffer(); }
  // Whether members may be at work on tasks of this kind now.
  bool TasksLive(TaskId::Kind kind) const;
  // Whether an update for the task of `task_round` may enter `round`.
  bool InTime(int64_t task_round, int64_t round) const;
  // Carried over to `round`.
  bool IsCarried(const Member& member, int64_t round) const;
  // Members that hold one of the places for workers at work.
  size_t InPlay() const;
  size_t PlacesToFill() const;
  void WithdrawLate(Actions* actions);

  size_t minimum() const;
  size_t CohortLimit() const;  // ceil(target * over_selection); no target: none
  bool AttemptsExhausted() const;
  absl::Time RoundDeadline(absl::Time now) const;

  // One per phase.
  Actions TickWaiting(absl::Time now, absl::Span<const WorkerId> candidates);
  Actions TickTraining(absl::Time now, bool just_restored,
                       absl::Span<const WorkerId> candidates);
  Actions TickEvaluating(absl::Time now, absl::Span<const WorkerId> candidates);

  Actions Open(absl::Time now, absl::Span<const WorkerId> eligible);
  bool TargetMet() const;
  void LoseTheUnheard(absl::Span<const WorkerId> candidates);
  void Replace(absl::Span<const WorkerId> candidates, Actions* actions);
  Actions NextAttempt(absl::Time now, absl::Span<const WorkerId> candidates);
  Actions Close(const std::string& why_without);
  CloseRound ClosingAction() const;
  Actions RetryFromScratch(absl::Time now, const absl::Status& status);

  bool EvaluationIsDue() const;
  Actions EndEvaluation(const std::string& why_without);
  Actions CompleteRound();
  // Why the job ends after `last_round`, or nothing.
  std::string ReasonToStop(int64_t last_round) const;
  Actions Finish(v1::JobState state, const std::string& reason);
  Actions FailRound(const std::string& what);
  void WithdrawPending(TaskId::Kind kind, const std::string& reason,
                       Actions* actions);
  // Whether a restarted machine should still wait for the last round's workers.
  bool AwaitsReturn(absl::Time now,
                    absl::Span<const WorkerId> candidates) const;
  // The worker's part in a task that is being worked on; null if it has none.
  const Member* FindLive(TaskId::Kind kind, const WorkerId& worker) const;
  // Likewise, if it is the task of `round`.
  const Member* AtWork(int64_t round, TaskId::Kind kind,
                       const WorkerId& worker) const;
  const Members& MembersOf(TaskId::Kind kind) const;
  // What follows from a pending member's departure.
  Actions AfterDeparture(TaskId::Kind kind);

  const v1::JobSpec spec_;
  Snapshot state_;

  // What need not survive: it is found again after a restart.
  bool restored_;  // from a snapshot that is not the initial one
  bool tick_wanted_ = true;
  bool first_tick_ = true;
  absl::Time reconnect_until_ = absl::InfinitePast();
  std::set<WorkerId> unheard_;  // members not seen since the restart
  absl::Time retry_at_ = absl::InfiniteFuture();
  size_t candidates_seen_ = 0;
  Members evaluators_;
  Tally training_;    // of state_.members
  Tally evaluating_;  // of evaluators_
  bool evaluation_started_ = false;
  absl::Time evaluation_deadline_ = absl::InfiniteFuture();
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ROUND_ROUND_MACHINE_H_
