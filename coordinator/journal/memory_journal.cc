#include <memory>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "coordinator/journal/journal.h"
#include "coordinator/journal/rows.h"

namespace koinon::coordinator {
namespace {

// One mutation, applied to contents that are thrown away if it fails.
class Apply {
 public:
  explicit Apply(JournalContents* contents) : contents_(*contents) {}

  absl::Status operator()(const JobRow& row) {
    JobRow& kept = contents_.jobs[row.spec.name()];
    kept = row;
    kept.submitted = RoundTripTime(row.submitted);
    kept.finished = RoundTripTime(row.finished);
    return absl::OkStatus();
  }
  absl::Status operator()(const RoundRow& row) {
    ABSL_RETURN_IF_ERROR(NeedJob(row.job));
    RoundRow& kept = contents_.rounds[row.job][row.round];
    kept = row;
    kept.opened = RoundTripTime(row.opened);
    kept.deadline = RoundTripTime(row.deadline);
    return absl::OkStatus();
  }
  absl::Status operator()(const AcceptedRow& row) {
    auto rounds = contents_.rounds.find(row.job);
    if (rounds == contents_.rounds.end() ||
        rounds->second.count(row.round) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(DescribeKey(row), ": there is no such round"));
    }
    auto [it, inserted] =
        contents_.accepted[row.job][row.round].emplace(row.worker, row);
    if (inserted || it->second.digest == row.digest) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat(
        DescribeKey(row), " has digest ", it->second.digest.ToShortHex(),
        "; another with ", row.digest.ToShortHex(), " is refused"));
  }
  absl::Status operator()(const FoldRow& row) {
    auto rounds = contents_.rounds.find(row.job);
    if (rounds == contents_.rounds.end() ||
        rounds->second.count(row.round) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "running sum ", row.job, "/", row.round, ": there is no such round"));
    }
    contents_.folds[row.job][row.round] = row;
    return absl::OkStatus();
  }
  absl::Status operator()(const ForgetAccepted& forget) {
    if (forget.worker.empty()) ForgetFold(forget);
    auto job = contents_.accepted.find(forget.job);
    if (job == contents_.accepted.end()) return absl::OkStatus();
    auto round = job->second.find(forget.round);
    if (round == job->second.end()) return absl::OkStatus();
    if (!forget.worker.empty()) round->second.erase(forget.worker);
    if (forget.worker.empty() || round->second.empty()) {
      job->second.erase(round);
    }
    if (job->second.empty()) contents_.accepted.erase(job);
    return absl::OkStatus();
  }
  absl::Status operator()(const VersionRow& row) {
    ABSL_RETURN_IF_ERROR(NeedJob(row.manifest.job()));
    contents_.versions[row.manifest.job()][row.manifest.version()] = row;
    return absl::OkStatus();
  }
  absl::Status operator()(const ForgetVersion& forget) {
    auto job = contents_.versions.find(forget.job);
    if (job == contents_.versions.end()) return absl::OkStatus();
    job->second.erase(forget.version);
    if (job->second.empty()) contents_.versions.erase(job);
    return absl::OkStatus();
  }

 private:
  absl::Status NeedJob(const JobId& job) const {
    if (contents_.jobs.count(job) > 0) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("a row of job ", job, ": there is no such job"));
  }

  void ForgetFold(const ForgetAccepted& forget) {
    auto job = contents_.folds.find(forget.job);
    if (job == contents_.folds.end()) return;
    job->second.erase(forget.round);
    if (job->second.empty()) contents_.folds.erase(job);
  }

  JournalContents& contents_;
};

class MemoryJournal final : public Journal {
 public:
  absl::Status Commit(absl::Span<const Mutation> mutations) override {
    JournalContents next = contents_;
    for (const Mutation& mutation : mutations) {
      ABSL_RETURN_IF_ERROR(CheckMutation(mutation));
      ABSL_RETURN_IF_ERROR(std::visit(Apply(&next), mutation));
    }
    contents_ = std::move(next);
    return absl::OkStatus();
  }

  absl::StatusOr<JournalContents> Load() override { return contents_; }
  int64_t epoch() const override { return 1; }

 private:
  JournalContents contents_;
};

}  // namespace

std::unique_ptr<Journal> NewMemoryJournal() {
  return std::make_unique<MemoryJournal>();
}

}  // namespace koinon::coordinator
