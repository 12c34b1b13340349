#include "coordinator/journal/rows.h"

#include <algorithm>
#include <limits>
#include <variant>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

constexpr int64_t kSinceEver = std::numeric_limits<int64_t>::min();

constexpr struct {
  RoundPhase phase;
  absl::string_view name;
} kPhaseNames[] = {
    {RoundPhase::kOpen, "open"},
    {RoundPhase::kClosed, "closed"},
    {RoundPhase::kPublished, "published"},
    {RoundPhase::kDone, "done"},
};

absl::Status CheckWorkers(absl::string_view what,
                          const std::vector<WorkerId>& workers) {
  for (size_t i = 0; i < workers.size(); ++i) {
    ABSL_RETURN_IF_ERROR(ValidateId(what, workers[i]));
    if (i > 0 && workers[i - 1] >= workers[i]) {
      return absl::InvalidArgumentError(
          absl::StrCat(what, ": ", workers[i], " after ", workers[i - 1],
                       ", expected ascending order"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckRound(int64_t round) {
  if (round >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("round ", round, " in a journal row, expected at least 1"));
}

absl::Status CheckExtent(absl::string_view what, const SpoolExtent& extent) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  if (extent.size <= kMax && extent.offset <= kMax - extent.size) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(what, ": spool extent ", extent.offset, "+", extent.size,
                   " does not fit into 63 bits"));
}

absl::Status CheckCarried(const RoundRow& row) {
  for (const auto& [worker, round] : row.carried) {
    ABSL_RETURN_IF_ERROR(ValidateId("carried", worker));
    if (round < 1 || round >= row.round) {
      return absl::InvalidArgumentError(
          absl::StrCat("round ", row.round, " carries ", worker,
                       " on from round ", round, ", expected an earlier one"));
    }
    if (!std::binary_search(row.cohort.begin(), row.cohort.end(), worker)) {
      return absl::InvalidArgumentError(
          absl::StrCat("round ", row.round, " carries ", worker,
                       " on, who is not in its cohort"));
    }
  }
  return absl::OkStatus();
}

struct Checker {
  absl::Status operator()(const JobRow& row) const {
    if (!v1::JobState_IsValid(row.state) ||
        row.state == v1::JOB_STATE_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat(
          "job ", row.spec.name(), ": state ", row.state, " is none"));
    }
    if (row.records_epoch < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("job ", row.spec.name(), ": records_epoch ",
                       row.records_epoch, ", expected at least 0"));
    }
    return ValidateId("job", row.spec.name());
  }
  absl::Status operator()(const RoundRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    ABSL_RETURN_IF_ERROR(CheckRound(row.round));
    ABSL_RETURN_IF_ERROR(CheckWorkers("cohort", row.cohort));
    ABSL_RETURN_IF_ERROR(CheckCarried(row));
    return CheckWorkers("included", row.included);
  }
  absl::Status operator()(const AcceptedRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    ABSL_RETURN_IF_ERROR(CheckRound(row.round));
    ABSL_RETURN_IF_ERROR(ValidateId("worker", row.worker));
    if (row.task_round < 1 || row.task_round > row.round) {
      return absl::InvalidArgumentError(
          absl::StrCat(DescribeKey(row), ": answers the task of round ",
                       row.task_round, ", expected 1 to ", row.round));
    }
    return CheckExtent(DescribeKey(row), row.extent);
  }
  absl::Status operator()(const FoldRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    ABSL_RETURN_IF_ERROR(CheckRound(row.round));
    return CheckExtent(absl::StrCat("running sum ", row.job, "/", row.round),
                       row.extent);
  }
  absl::Status operator()(const ForgetAccepted& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    return CheckRound(row.round);
  }
  absl::Status operator()(const VersionRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.manifest.job()));
    if (row.manifest.version() < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("version ", row.manifest.version(), " of job ",
                       row.manifest.job(), ", expected at least 0"));
    }
    return Digest::FromBytes(row.manifest.digest()).status();
  }
  absl::Status operator()(const ForgetVersion& row) const {
    return ValidateId("job", row.job);
  }
};

}  // namespace

absl::Status CheckMutation(const Mutation& mutation) {
  return std::visit(Checker(), mutation);
}

std::string DescribeKey(const AcceptedRow& row) {
  return absl::StrCat("accepted update ", row.job, "/", row.round, "/",
                      row.worker);
}

StoredTime StoreTime(absl::Time time) {
  if (time == absl::InfiniteFuture()) return {.is_null = true, .micros = 0};
  if (time == absl::InfinitePast()) {
    return {.is_null = false, .micros = kSinceEver};
  }
  return {.is_null = false, .micros = absl::ToUnixMicros(time)};
}

absl::Time LoadTime(const StoredTime& stored) {
  if (stored.is_null) return absl::InfiniteFuture();
  if (stored.micros == kSinceEver) return absl::InfinitePast();
  return absl::FromUnixMicros(stored.micros);
}

absl::Time RoundTripTime(absl::Time time) { return LoadTime(StoreTime(time)); }

std::string JoinWorkers(const std::vector<WorkerId>& workers) {
  return absl::StrJoin(workers, " ");
}

std::vector<WorkerId> SplitWorkers(absl::string_view text) {
  return absl::StrSplit(text, ' ', absl::SkipEmpty());
}

std::string JoinCarried(const std::map<WorkerId, int64_t>& carried) {
  return absl::StrJoin(carried, " ", absl::PairFormatter(":"));
}

absl::StatusOr<std::map<WorkerId, int64_t>> SplitCarried(
    absl::string_view text) {
  std::map<WorkerId, int64_t> carried;
  for (absl::string_view entry : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(entry, ':');
    int64_t round = 0;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[1], &round)) {
      return absl::InvalidArgumentError(
          absl::StrCat("carried: \"", entry, "\", expected WORKER:ROUND"));
    }
    carried[WorkerId(parts[0])] = round;
  }
  return carried;
}

std::string JoinStateFiles(const std::vector<StateFile>& files) {
  return absl::StrJoin(files, " ", [](std::string* out, const StateFile& file) {
    absl::StrAppend(out, file.name, ":", file.size_bytes, ":",
                    file.digest.ToHex());
  });
}

absl::StatusOr<std::vector<StateFile>> SplitStateFiles(absl::string_view text) {
  std::vector<StateFile> files;
  for (absl::string_view entry : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(entry, ':');
    StateFile file;
    if (parts.size() != 3 || !absl::SimpleAtoi(parts[1], &file.size_bytes)) {
      return absl::InvalidArgumentError(
          absl::StrCat("state: \"", entry, "\", expected NAME:BYTES:DIGEST"));
    }
    file.name = std::string(parts[0]);
    ABSL_ASSIGN_OR_RETURN(file.digest, Digest::FromHex(std::string(parts[2])));
    files.push_back(std::move(file));
  }
  return files;
}

absl::string_view RoundPhaseName(RoundPhase phase) {
  return kPhaseNames[static_cast<size_t>(phase)].name;
}

absl::StatusOr<RoundPhase> RoundPhaseFromName(absl::string_view name) {
  for (const auto& entry : kPhaseNames) {
    if (entry.name == name) return entry.phase;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "round phase \"", name, "\" is none of open, closed, published, done"));
}

}  // namespace koinon::coordinator
