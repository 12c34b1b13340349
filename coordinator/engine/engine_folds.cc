// The engine's side that adds updates to a round's running sum as they arrive.
//
// Whole uploads of such a job wait until no fold of the job runs; then all that
// wait are added in one pass, on the fold loop, into the extent in which the
// journalled sum does not lie. Only when that is durable do the sum and its
// updates enter the journal, in one commit. Whatever happened meanwhile is
// looked at on the engine's thread just before: if one of the updates is not
// wanted any more, the whole pass is void, and the others are added again.

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/engine/engine.h"
#include "coordinator/folds/fold.h"

namespace koinon::coordinator {
namespace {

using Waiting = RunningSum::Waiting;

// A full disk may have room again.
constexpr absl::Duration kFoldRetry = absl::Seconds(1);

// While so many whole updates wait, none is let in: the spool needs room for
// them and for those that the upload window holds, and not for a whole cohort.
// As many as one pass reads together.
constexpr size_t kMaxWhole = aggregation::kFixedPointRows;

double WeightOf(const Job& job, const v1::Metrics& metrics) {
  return aggregation::FixedPointWeightOf(
      job.row.spec.aggregation(), static_cast<double>(metrics.examples()));
}

double TotalWeight(const Job& job) {
  double total = 0;
  for (const auto& [worker, row] : job.accepted) {
    total += WeightOf(job, row.metrics);
  }
  return total;
}

Engine::UploadReply ReplyToAll(const Waiting& waiting) {
  return [replies = waiting.replies](const v1::PushUpdateReply& answer) {
    for (const auto& reply : replies) reply(answer);
  };
}

// Tries out whether updates may enter a round one after the other: the machine
// may close the round with any of them.
class Trial {
 public:
  explicit Trial(const Job& job) : machine_(job.machine) {}
  bool Enter(absl::Time now, const Upload& upload) {
    const UploadKey& key = upload.key();
    if (!machine_.CheckUpdate(key.round, key.worker).ok()) return false;
    machine_.OnUpdateAccepted(now, key.round, key.worker,
                              upload.header().metrics());
    return true;
  }

 private:
  RoundMachine machine_;
};

}  // namespace

void Engine::QueueFold(const std::shared_ptr<Upload>& upload,
                       UploadReply reply) {
  Job* job = FindJob(upload->key().job);
  if (job == nullptr || job->sum == nullptr) {
    return RefuseUpload(upload->key(), "the job is gone", reply);
  }
  const auto join = [&](auto& all) {
    for (Waiting& waiting : all) {
      if (waiting.upload != upload) continue;
      waiting.replies.push_back(std::move(reply));
      return true;
    }
    return false;
  };
  if (join(job->sum->folding) || join(job->sum->waiting)) return;
  job->sum->waiting.push_back({upload, {std::move(reply)}});
}

void Engine::StartFolds() {
  for (auto& [name, job] : jobs_) {
    if (job->sum != nullptr && !job->sum->running) StartFold(job.get());
  }
}

// Answers those who wait in vain. What is said to one may change what is wanted
// of the others.
void Engine::AnswerUnwanted(Job* job) {
  std::deque<Waiting>& all = job->sum->waiting;
  if (all.empty()) return;
  const double before = TotalWeight(*job);
  for (auto it = all.begin(); it != all.end();) {
    const Waiting waiting = *it;
    const double total =
        before + WeightOf(*job, waiting.upload->header().metrics());
    const bool unwanted =
        AnswerIfUnwanted(job, *waiting.upload, ReplyToAll(waiting));
    if (!unwanted && total <= job->sum->format.total_weight) {
      ++it;
      continue;
    }
    all.erase(it);
    if (!unwanted) {
      RefuseUpload(
          waiting.upload->key(),
          std::string(
              aggregation::TotalWeightError(job->sum->format, total).message()),
          ReplyToAll(waiting));
    }
    it = all.begin();
  }
}

void Engine::StartFold(Job* job) {
  RunningSum* const sum = job->sum.get();
  AnswerUnwanted(job);
  const absl::Time now = clock_->Now();
  if (sum->waiting.empty() || now < sum->retry_at) return;
  const absl::Status room = ReserveSums(job);
  if (!room.ok()) return RetryFoldLater(job, room);
  // The extent of the sum before is free as soon as this batch is committed.
  if (sum->spares.empty()) return;

  FoldInput input;
  input.format = sum->format;
  input.layout = job->layout;
  input.from = sum->row;
  input.check_digest = sum->check_digest;
  input.to = sum->spares.back();
  input.instruction_set = options_.publish.aggregator.instruction_set;
  Trial trial(*job);
  double total = TotalWeight(*job);
  std::deque<Waiting> later;
  for (Waiting& waiting : sum->waiting) {
    const Upload& upload = *waiting.upload;
    const double weight = WeightOf(*job, upload.header().metrics());
    if (total + weight > sum->format.total_weight ||
        !trial.Enter(now, upload)) {
      later.push_back(std::move(waiting));
      continue;
    }
    total += weight;
    input.updates.push_back({upload.key().worker, upload.extent(), weight});
    sum->folding.push_back(std::move(waiting));
  }
  sum->waiting = std::move(later);
  sum->spares.pop_back();
  sum->running = true;
  ++folding_;
  folds_.Post([this, name = job->row.spec.name(), input = std::move(input),
               generation = sum->generation] {
    Folded folded;
    folded.generation = generation;
    folded.to = input.to;
    folded.digest = AddToSum(spool_, input);
    if (folded.digest.ok()) folded.synced = spool_->Sync();
    loop_.Post([this, name, folded] { FinishFold(name, folded); });
  });
}

void Engine::RetryFoldLater(Job* job, const absl::Status& why) {
  LogError("updates cannot be added to the running sum; trying again",
           {{"job", job->row.spec.name()}, {"error", why}});
  job->sum->retry_at = clock_->Now() + kFoldRetry;
}

void Engine::FinishFold(const JobId& name, const Folded& folded) {
  --folding_;
  // After a failed sync nobody knows what the disk holds.
  if (!folded.synced.ok()) return Fatal(folded.synced);
  Job* const job = FindJob(name);
  RunningSum* const sum = job->sum.get();
  sum->running = false;
  std::vector<Waiting> batch = std::exchange(sum->folding, {});
  const bool is_void = folded.generation != sum->generation;
  if (!is_void && folded.digest.ok() && AllWanted(*job, batch)) {
    return CommitFold(job, std::move(batch), folded.to, *folded.digest);
  }
  if (is_void) {
    spool_->Release(folded.to);
  } else {
    sum->spares.push_back(folded.to);
  }
  sum->waiting.insert(sum->waiting.begin(),
                      std::make_move_iterator(batch.begin()),
                      std::make_move_iterator(batch.end()));
  if (!folded.digest.ok())
    HandleFoldError(job, is_void, folded.digest.status());
}

bool Engine::AllWanted(const Job& job,
                       const std::vector<RunningSum::Waiting>& batch) const {
  Trial trial(job);
  for (const Waiting& waiting : batch) {
    if (!trial.Enter(clock_->Now(), *waiting.upload)) return false;
  }
  return true;
}

void Engine::CommitFold(Job* job, std::vector<RunningSum::Waiting> batch,
                        const SpoolExtent& extent, const Digest& digest) {
  RunningSum* const sum = job->sum.get();
  const std::optional<FoldRow> before = sum->row;
  sum->row = FoldRow{job->row.spec.name(), job->round.round, extent, digest};
  sum->check_digest = false;
  Mutate(*sum->row);
  if (before.has_value()) ++sum->retiring;
  // The extents are needed until the journal says that they are not.
  const auto done = std::make_shared<std::vector<Waiting>>(std::move(batch));
  AfterCommit([this, job, done, before, generation = sum->generation] {
    done->clear();
    if (before.has_value()) {
      --job->sum->retiring;
      if (generation == job->sum->generation) {
        job->sum->spares.push_back(before->extent);
      } else {
        spool_->Release(before->extent);
      }
    }
    loop_.Post([] {});  // for the next fold, with the effects' batch over
    AdmitUploads();
  });
  for (const Waiting& waiting : std::vector<Waiting>(*done)) {
    EnterUpdate(job, *waiting.upload, SpoolExtent(), ReplyToAll(waiting));
  }
}

void Engine::HandleFoldError(Job* job, bool is_void,
                             const absl::Status& error) {
  const auto blamed = aggregation::BlamedWorker(error);
  if (blamed.has_value()) {
    std::deque<Waiting>& all = job->sum->waiting;
    const auto it = std::find_if(all.begin(), all.end(), [&](const auto& w) {
      return w.upload->key().worker == *blamed;
    });
    const Waiting waiting = *it;
    all.erase(it);
    return RefuseUpload(waiting.upload->key(), std::string(error.message()),
                        ReplyToAll(waiting));
  }
  if (absl::IsResourceExhausted(error)) return RetryFoldLater(job, error);
  // Its sum's extent may have become another's meanwhile.
  if (is_void) return;
  if (!absl::IsDataLoss(error)) return Fatal(error);
  // What was acknowledged is lost, and only the workers' own copies are left.
  LogError("a running sum is lost",
           {{"job", job->row.spec.name()}, {"error", error}});
  Perform(job, job->machine.OnFailure(std::string(error.message())));
}

absl::Status Engine::RestoreSum(const JournalContents& contents, Job* job) {
  const JobId& name = job->row.spec.name();
  const auto rounds = contents.folds.find(name);
  if (rounds != contents.folds.end()) {
    const auto row = rounds->second.find(job->round.round);
    if (job->sum != nullptr && row != rounds->second.end() &&
        row->second.extent.size == SumBytes(job->layout)) {
      job->sum->row = row->second;
      job->sum->check_digest = true;
    }
  }
  const bool has_sum = job->sum != nullptr && job->sum->row.has_value();
  for (const auto& [worker, row] : job->accepted) {
    if (has_sum == (row.extent.size == 0)) continue;
    return absl::DataLossError(absl::StrCat(
        "journal: job ", name, ", round ", job->round.round, ": the update of ",
        worker, has_sum ? " is not in" : " is in",
        " the round's running sum, which is ", has_sum ? "there" : "not"));
  }
  if (!has_sum || !job->accepted.empty()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("journal: job ", name, ", round ", job->round.round,
                   " has a running sum, but no update that is in it"));
}

// Room for the sum and the one that follows it.
absl::Status Engine::ReserveSums(Job* job) {
  RunningSum* const sum = job->sum.get();
  constexpr size_t kSums = 2;
  while (sum->spares.size() + sum->row.has_value() + sum->running +
             sum->retiring <
         kSums) {
    ABSL_ASSIGN_OR_RETURN(const SpoolExtent extent,
                          spool_->Allocate(SumBytes(job->layout)));
    sum->spares.push_back(extent);
  }
  return absl::OkStatus();
}

// The sum begins anew. Returns its extents, to be released once the journal has
// forgotten it.
std::vector<SpoolExtent> Engine::TakeSums(Job* job) {
  if (job->sum == nullptr) return {};
  RunningSum* const sum = job->sum.get();
  ++sum->generation;
  std::vector<SpoolExtent> extents = std::exchange(sum->spares, {});
  if (sum->row.has_value()) extents.push_back(sum->row->extent);
  sum->row.reset();
  sum->check_digest = false;
  return extents;
}

UploadTerms Engine::TermsFor(Job* job) {
  UploadTerms terms;
  if (job->sum == nullptr) return terms;
  terms.bound = {.magnitude = job->sum->format.LargestValue(),
                 .name = "aggregation.fedavg.fixed_point.range"};
  terms.folds = true;
  terms.make_room = [this, job] {
    const size_t whole = job->sum->waiting.size() + job->sum->folding.size();
    if (whole < kMaxWhole) return ReserveSums(job);
    return absl::UnavailableError(
        absl::StrCat(whole, " updates wait to be added to the running sum"));
  };
  return terms;
}

}  // namespace koinon::coordinator
