#include "coordinator/journal/rows.h"

#include <algorithm>
#include <limits>
#include <variant>

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

struct Checker {
  absl::Status operator()(const JobRow& row) const {
    if (!v1::JobState_IsValid(row.state) ||
        row.state == v1::JOB_STATE_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat(
          "job ", row.spec.name(), ": state ", row.state, " is none"));
    }
    return ValidateId("job", row.spec.name());
  }
  absl::Status operator()(const RoundRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    ABSL_RETURN_IF_ERROR(CheckRound(row.round));
    ABSL_RETURN_IF_ERROR(CheckWorkers("cohort", row.cohort));
    return CheckWorkers("included", row.included);
  }
  absl::Status operator()(const AcceptedRow& row) const {
    ABSL_RETURN_IF_ERROR(ValidateId("job", row.job));
    ABSL_RETURN_IF_ERROR(CheckRound(row.round));
    ABSL_RETURN_IF_ERROR(ValidateId("worker", row.worker));
    constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
    if (row.extent.size <= kMax &&
        row.extent.offset <= kMax - row.extent.size) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat(DescribeKey(row), ": spool extent ", row.extent.offset,
                     "+", row.extent.size, " does not fit into 63 bits"));
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
