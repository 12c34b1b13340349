#ifndef KOINON_COORDINATOR_MODELS_MANIFEST_SIGNER_H_
#define KOINON_COORDINATOR_MODELS_MANIFEST_SIGNER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/local_node.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Signs versions with the coordinator's key (docs/formats/manifest.md): what is
// not signed is not published. Thread-safe.
class ManifestSigner {
 public:
  // `node` and `clock` are borrowed. A signature stands for `lifetime`.
  ManifestSigner(const LocalNode* node, const Clock* clock,
                 absl::Duration lifetime)
      : node_(node), clock_(clock), lifetime_(lifetime) {}

  // Fills in `manifest->signed_manifest` from the rest of the manifest, the
  // content of its file, and the deltas that lead to it, and counts it in
  // `manifest->signatures`. Errors as dht::SignManifest; nothing is changed
  // then.
  absl::Status Sign(int64_t job_submitted_ms, const v1::Content& content,
                    absl::Span<const v1::Delta> deltas,
                    v1::ModelManifest* manifest) const;

  // Whether the signature is to be renewed: before it expires, so that nobody
  // ever meets an expired one of a version that is kept; or because it is not
  // of this key with this certificate, which may expire too.
  bool IsDue(const v1::ModelManifest& manifest) const;
  // Signs the same anew, for another lifetime. Errors as SignedVersionOf.
  absl::Status Renew(v1::ModelManifest* manifest) const;

  const LocalNode& node() const { return *node_; }

 private:
  absl::Status SignAsOfNow(v1::VersionManifest version,
                           v1::ModelManifest* manifest) const;

  const LocalNode* const node_;
  const Clock* const clock_;
  const absl::Duration lifetime_;
};

// What is in `manifest.signed_manifest`, which this coordinator has signed or
// checked when it came. FAILED_PRECONDITION if there is none, DATA_LOSS if it
// is not of this job, version and digest; the signature is not checked again.
absl::StatusOr<v1::VersionManifest> SignedVersionOf(
    const v1::ModelManifest& manifest);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_MANIFEST_SIGNER_H_
