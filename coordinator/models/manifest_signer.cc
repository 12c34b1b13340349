#include "coordinator/models/manifest_signer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::coordinator {
namespace {

constexpr uint32_t kFormat = 1;
// The last tenth of a signature's life is for its renewal.
constexpr int64_t kRenewalShare = 10;

}  // namespace

absl::Status ManifestSigner::Sign(int64_t job_submitted_ms,
                                  const v1::Content& content,
                                  absl::Span<const v1::Delta> deltas,
                                  v1::ModelManifest* manifest) const {
  v1::VersionManifest version;
  version.set_format(kFormat);
  version.set_federation(node_->federation);
  version.set_job(manifest->job());
  version.set_job_submitted_ms(job_submitted_ms);
  version.set_version(manifest->version());
  version.set_digest(manifest->digest());
  version.set_parent_digest(manifest->parent_digest());
  version.set_layout_hash(manifest->layout_hash());
  *version.mutable_content() = content;
  *version.mutable_provenance() = manifest->provenance();
  for (const v1::Delta& delta : deltas) *version.add_deltas() = delta;
  return SignAsOfNow(std::move(version), manifest);
}

bool ManifestSigner::IsDue(const v1::ModelManifest& manifest) const {
  v1::Signed envelope;
  const auto version = SignedVersionOf(manifest);
  if (!version.ok() || !envelope.ParseFromString(manifest.signed_manifest())) {
    return false;  // there is nothing to sign anew
  }
  if (envelope.public_key() != node_->key.public_key().ToBytes() ||
      envelope.certificate() != node_->certificate_der) {
    return true;
  }
  const absl::Time expires = absl::FromUnixMillis(version->expires_ms());
  return clock_->Now() >= expires - lifetime_ / kRenewalShare;
}

absl::Status ManifestSigner::Renew(v1::ModelManifest* manifest) const {
  ABSL_ASSIGN_OR_RETURN(v1::VersionManifest version,
                        SignedVersionOf(*manifest));
  return SignAsOfNow(std::move(version), manifest);
}

absl::Status ManifestSigner::SignAsOfNow(v1::VersionManifest version,
                                         v1::ModelManifest* manifest) const {
  const absl::Time created = clock_->Now();
  version.set_created_ms(absl::ToUnixMillis(created));
  version.set_expires_ms(absl::ToUnixMillis(created + lifetime_));
  ABSL_ASSIGN_OR_RETURN(*manifest->mutable_signed_manifest(),
                        dht::SignManifest(version, *node_));
  manifest->set_signatures(manifest->signatures() + 1);
  return absl::OkStatus();
}

absl::StatusOr<v1::VersionManifest> SignedVersionOf(
    const v1::ModelManifest& manifest) {
  const auto lost = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat("the signed manifest of ",
                                            manifest.job(), "@",
                                            manifest.version(), " ", what));
  };
  if (manifest.signed_manifest().empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        manifest.job(), "@", manifest.version(), " has no signed manifest"));
  }
  v1::Signed envelope;
  v1::VersionManifest version;
  if (!envelope.ParseFromString(manifest.signed_manifest()) ||
      !version.ParseFromString(envelope.body())) {
    return lost("cannot be read");
  }
  const absl::Status same = dht::CheckManifestIs(
      version, manifest.job(), manifest.version(), manifest.digest());
  if (!same.ok()) return lost(absl::StrCat("is another's: ", same.message()));
  return version;
}

}  // namespace koinon::coordinator
