#include "worker/models/offered_manifest.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::worker {

absl::StatusOr<v1::VersionManifest> OpenOfferedManifest(
    const v1::OfferTask& offer, const dht::RecordTrust& trust, absl::Time now) {
  if (offer.signed_manifest().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the offer has no signed manifest of ", offer.task().job(),
                     "@", offer.base_version(),
                     ": the coordinator is older than this worker and has to "
                     "be upgraded first"));
  }
  ABSL_ASSIGN_OR_RETURN(const v1::VersionManifest manifest,
                        dht::OpenManifest(offer.signed_manifest(), trust, now));
  ABSL_RETURN_IF_ERROR(dht::CheckManifestIs(
      manifest, offer.task().job(), offer.base_version(), offer.base_digest()));
  if (manifest.layout_hash() != offer.layout_hash()) {
    return dht::RejectedError(dht::Rejection::kMismatch,
                              "the manifest is of another layout than the "
                              "task's");
  }
  if (manifest.job_submitted_ms() != offer.job_submitted_ms()) {
    return dht::RejectedError(
        dht::Rejection::kMismatch,
        absl::StrCat("the manifest is of a job submitted at ",
                     manifest.job_submitted_ms(), " ms, the task's at ",
                     offer.job_submitted_ms(), " ms"));
  }
  return manifest;
}

}  // namespace koinon::worker
