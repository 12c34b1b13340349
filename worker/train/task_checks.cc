#include "worker/train/task_checks.h"

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace koinon::worker {

absl::StatusOr<const LocalData*> FindDataset(const LocalDatasets& datasets,
                                             const v1::OfferTask& offer) {
  const auto found = datasets.find(offer.dataset());
  if (found != datasets.end()) return &found->second;
  const auto append_name = [](std::string* out, const auto& entry) {
    absl::StrAppend(out, entry.first);
  };
  return absl::NotFoundError(absl::StrFormat(
      "dataset \"%s\": this worker has none of that name; it has: %s",
      absl::Utf8SafeCEscape(offer.dataset()),
      datasets.empty() ? "none at all"
                       : absl::StrJoin(datasets, ", ", append_name)));
}

absl::Status CheckHeldOut(const LocalData& data, const v1::OfferTask& offer) {
  if (data.held_out_examples() > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("dataset %s: expected held-out examples to evaluate on, "
                      "found none",
                      offer.dataset()));
}

absl::Status CheckOfferedLayout(const v1::OfferTask& offer,
                                const ModelLayout& layout) {
  if (offer.layout_hash() == layout.hash().ToBytes()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "model version %d of job %s: expected layout %s, found %s",
      offer.base_version(), offer.task().job(),
      offer.layout_hash().empty()
          ? "unnamed"
          : absl::BytesToHexString(offer.layout_hash().substr(0, 6)),
      layout.hash().ToShortHex()));
}

}  // namespace koinon::worker
