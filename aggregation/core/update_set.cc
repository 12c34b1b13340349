#include "aggregation/core/update_set.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace koinon::aggregation {
namespace {

constexpr char kWorkerPayload[] = "koinon.v1/worker";

absl::Status CheckShape(const Update& update,
                        const UpdateSet::Expected& expected) {
  if (update.layout_hash != expected.layout.hash()) {
    return absl::InvalidArgumentError(
        absl::StrCat("layout ", update.layout_hash.ToShortHex(),
                     ", the model has ", expected.layout.hash().ToShortHex()));
  }
  if (update.elements != expected.layout.total_elements()) {
    return absl::InvalidArgumentError(
        absl::StrCat(update.elements, " elements, the model has ",
                     expected.layout.total_elements()));
  }
  if (update.values == nullptr) {
    return absl::InvalidArgumentError("it has no values");
  }
  return absl::OkStatus();
}

absl::Status CheckWeight(double weight, double cap) {
  // Written so that NaN fails it.
  if (!(weight > 0) || !std::isfinite(weight)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("weight %g, expected a finite number > 0", weight));
  }
  if (cap == 0 && weight > UpdateSet::kLargestWeight) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "weight %g, expected at most %.0f", weight, UpdateSet::kLargestWeight));
  }
  return absl::OkStatus();
}

absl::Status Check(const Update& update, const UpdateSet::Expected& expected) {
  if (absl::Status shape = CheckShape(update, expected); !shape.ok()) {
    return shape;
  }
  // Written so that no difference of versions overflows.
  if (update.base_version > expected.base_version ||
      update.base_version < std::max(int64_t{0}, expected.base_version -
                                                     expected.max_staleness)) {
    return absl::FailedPreconditionError(
        absl::StrCat("it starts from version ", update.base_version,
                     ", the round from version ", expected.base_version,
                     expected.max_staleness == 0
                         ? ""
                         : absl::StrCat(" (", expected.max_staleness,
                                        " versions older are allowed)")));
  }
  if (!(update.discount > 0 && update.discount <= 1)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "discount %g, expected a number in (0, 1]", update.discount));
  }
  return CheckWeight(update.weight, expected.max_weight);
}

}  // namespace

absl::StatusOr<const float*> MemorySource::Read(size_t offset, size_t count,
                                                float* /*scratch*/) const {
  if (offset > values_.size() || count > values_.size() - offset) {
    return absl::DataLossError(
        absl::StrCat("elements [", offset, ", ", offset + count,
                     ") wanted, there are ", values_.size()));
  }
  return values_.data() + offset;
}

UpdateSet UpdateSet::Create(Expected expected, std::vector<Update> updates,
                            std::vector<Refusal>* refusals) {
  UpdateSet set(std::move(expected));
  std::stable_sort(
      updates.begin(), updates.end(),
      [](const Update& a, const Update& b) { return a.worker < b.worker; });
  for (Update& update : updates) {
    absl::Status reason = Check(update, set.expected_);
    if (reason.ok() && !set.updates_.empty() &&
        set.updates_.back().worker == update.worker) {
      reason = absl::AlreadyExistsError("a second one; the first counts");
    }
    if (!reason.ok()) {
      refusals->push_back({update.worker, BlameWorker(update.worker, reason)});
      continue;
    }
    if (set.expected_.max_weight > 0) {
      update.weight = std::min(update.weight, set.expected_.max_weight);
    }
    set.updates_.push_back(std::move(update));
  }
  return set;
}

absl::Status BlameWorker(const WorkerId& worker, const absl::Status& reason) {
  absl::Status blamed(reason.code(), absl::StrCat("update from worker ", worker,
                                                  ": ", reason.message()));
  blamed.SetPayload(kWorkerPayload, absl::Cord(worker));
  return blamed;
}

std::optional<WorkerId> BlamedWorker(const absl::Status& status) {
  const auto payload = status.GetPayload(kWorkerPayload);
  if (!payload.has_value()) return std::nullopt;
  return WorkerId(std::string(*payload));
}

}  // namespace koinon::aggregation
