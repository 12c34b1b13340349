#include "tools/cli/manifest_signer.h"

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::cli {
namespace {

absl::Status Malformed(absl::string_view what) {
  return dht::RejectedError(dht::Rejection::kMalformed,
                            absl::StrCat("signed manifest: ", what));
}

absl::Status Differs(absl::string_view what) {
  return dht::RejectedError(
      dht::Rejection::kMismatch,
      absl::StrCat("the coordinator's description of the version has another ",
                   what, " than its signed manifest"));
}

// The envelope, not believed yet.
absl::StatusOr<v1::Signed> ReadEnvelope(absl::string_view bytes) {
  if (bytes.size() > dht::kMaxRecordBytes) {
    return dht::RejectedError(
        dht::Rejection::kOversize,
        absl::StrCat("signed manifest: ", bytes.size(),
                     " bytes, expected at most ", dht::kMaxRecordBytes));
  }
  v1::Signed envelope;
  if (!envelope.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Malformed("it cannot be parsed");
  }
  return envelope;
}

// Without an authority nobody can say which federation is meant but the
// manifest itself.
absl::StatusOr<std::string> FederationOf(const v1::Signed& envelope,
                                         const SignerTrust& trust) {
  if (trust.authority != nullptr) return trust.authority->federation();
  v1::VersionManifest manifest;
  if (!manifest.ParseFromString(envelope.body())) {
    return Malformed("its body cannot be parsed");
  }
  return manifest.federation();
}

}  // namespace

absl::StatusOr<OpenedManifest> OpenSignedManifest(
    absl::string_view signed_manifest, const SignerTrust& trust,
    absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(const v1::Signed envelope,
                        ReadEnvelope(signed_manifest));
  OpenedManifest opened;
  const auto signer = PublicKey::FromBytes(envelope.public_key());
  if (!signer.ok()) return Malformed(signer.status().message());
  opened.signer = *signer;
  if (trust.signer.has_value() && *trust.signer != opened.signer) {
    return dht::RejectedError(
        dht::Rejection::kUntrustedSigner,
        absl::StrCat("signed by ", opened.signer.ToHex(), ", expected ",
                     trust.signer->ToHex()));
  }
  opened.certified =
      trust.authority != nullptr && !envelope.certificate().empty();
  dht::RecordTrust records;
  ABSL_ASSIGN_OR_RETURN(records.federation, FederationOf(envelope, trust));
  records.authority = trust.authority;
  if (trust.signer.has_value() ||
      (!opened.certified && trust.take_uncertified)) {
    records.pinned.insert(opened.signer);
  }
  ABSL_ASSIGN_OR_RETURN(opened.manifest,
                        dht::OpenManifest(signed_manifest, records, now));
  return opened;
}

absl::StatusOr<OpenedManifest> CheckSignedModel(const v1::ModelManifest& model,
                                                const SignerTrust& trust,
                                                absl::Time now) {
  if (model.signed_manifest().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the coordinator has no signed manifest of ", model.job(),
                     "@", model.version(), ": it is older than this program"));
  }
  ABSL_ASSIGN_OR_RETURN(
      OpenedManifest opened,
      OpenSignedManifest(model.signed_manifest(), trust, now));
  const v1::VersionManifest& manifest = opened.manifest;
  ABSL_RETURN_IF_ERROR(dht::CheckManifestIs(manifest, model.job(),
                                            model.version(), model.digest()));
  if (manifest.parent_digest() != model.parent_digest()) {
    return Differs("parent");
  }
  if (manifest.layout_hash() != model.layout_hash()) return Differs("layout");
  if (manifest.content().size_bytes() != model.size_bytes()) {
    return Differs("size");
  }
  return opened;
}

std::string DescribeSigner(const OpenedManifest& opened) {
  return opened.certified ? absl::StrCat("signed by the federation's server (",
                                         opened.signer.ToHex(), ")")
                          : absl::StrCat("signed by ", opened.signer.ToHex(),
                                         ", which no certificate names");
}

}  // namespace koinon::cli
