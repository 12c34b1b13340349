#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "dht/records/envelope.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/swarm/merkle.h"

// Manifests (docs/formats/manifest.md).

namespace koinon::dht {
namespace {

constexpr char kContext[] = "koinon manifest 1";
constexpr uint32_t kFormat = 1;
constexpr int kMaxDeltas = 16;

absl::Status CheckDigestField(absl::string_view field,
                              absl::string_view found) {
  if (found.size() == Digest::kSizeBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": 32 bytes expected, found ", found.size()));
}

absl::Status CheckNotNegative(absl::string_view field, int64_t found) {
  if (found >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, ": 0 or more expected, found ", found));
}

absl::Status CheckParent(const v1::VersionManifest& manifest) {
  if (manifest.version() != 0) {
    return CheckDigestField("parent_digest", manifest.parent_digest());
  }
  if (manifest.parent_digest().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("parent_digest: none expected for version 0, found ",
                   manifest.parent_digest().size(), " bytes"));
}

absl::Status CheckTimes(const v1::VersionManifest& manifest) {
  ABSL_RETURN_IF_ERROR(CheckNotNegative("created_ms", manifest.created_ms()));
  if (manifest.created_ms() < manifest.expires_ms()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("expires_ms: later than created_ms, ", manifest.created_ms(),
                   ", expected, found ", manifest.expires_ms()));
}

absl::Status CheckDeltas(const v1::VersionManifest& manifest) {
  if (manifest.deltas_size() > kMaxDeltas) {
    return absl::InvalidArgumentError(
        absl::StrCat("deltas: at most ", kMaxDeltas, " expected, found ",
                     manifest.deltas_size()));
  }
  for (const v1::Delta& delta : manifest.deltas()) {
    ABSL_RETURN_IF_ERROR(
        CheckDigestField("deltas.from_digest", delta.from_digest()));
    if (delta.from_digest() == manifest.digest()) {
      return absl::InvalidArgumentError(
          "deltas.from_digest: another version's expected, found the "
          "version's own digest");
    }
    ABSL_RETURN_IF_ERROR(CheckContent(delta.content()));
  }
  return absl::OkStatus();
}

absl::Status CheckFormat(const v1::VersionManifest& manifest) {
  if (manifest.format() == kFormat) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "format: ", kFormat, " expected, found ", manifest.format()));
}

// INVALID_ARGUMENT unless the fields are as docs/formats/manifest.md wants.
absl::Status CheckFields(const v1::VersionManifest& manifest) {
  ABSL_RETURN_IF_ERROR(ValidateId("federation", manifest.federation()));
  ABSL_RETURN_IF_ERROR(ValidateId("job", manifest.job()));
  ABSL_RETURN_IF_ERROR(
      CheckNotNegative("job_submitted_ms", manifest.job_submitted_ms()));
  ABSL_RETURN_IF_ERROR(CheckNotNegative("version", manifest.version()));
  ABSL_RETURN_IF_ERROR(CheckDigestField("digest", manifest.digest()));
  ABSL_RETURN_IF_ERROR(CheckParent(manifest));
  ABSL_RETURN_IF_ERROR(CheckDigestField("layout_hash", manifest.layout_hash()));
  ABSL_RETURN_IF_ERROR(CheckContent(manifest.content()));
  ABSL_RETURN_IF_ERROR(CheckTimes(manifest));
  return CheckDeltas(manifest);
}

absl::Status AsMalformed(const absl::Status& status) {
  if (status.ok()) return status;
  return Malformed(absl::StrCat("manifest: ", status.message()));
}

absl::StatusOr<v1::VersionManifest> ReadManifest(absl::string_view body) {
  ABSL_ASSIGN_OR_RETURN(v1::VersionManifest manifest,
                        Parse<v1::VersionManifest>("manifest", body));
  // First: another format may have other fields.
  ABSL_RETURN_IF_ERROR(AsMalformed(CheckFormat(manifest)));
  ABSL_RETURN_IF_ERROR(CheckCanonical("manifest", body, manifest));
  ABSL_RETURN_IF_ERROR(AsMalformed(CheckFields(manifest)));
  return manifest;
}

struct Opened {
  v1::VersionManifest manifest;
  std::optional<Key> signer;  // CheckSigned
};

absl::StatusOr<Opened> Open(absl::string_view bytes, const RecordTrust& trust,
                            absl::Time now) {
  ABSL_RETURN_IF_ERROR(CheckSize(bytes));
  ABSL_ASSIGN_OR_RETURN(const v1::Signed envelope, ReadEnvelope(bytes));
  Opened opened;
  ABSL_ASSIGN_OR_RETURN(opened.manifest, ReadManifest(envelope.body()));
  ABSL_RETURN_IF_ERROR(CheckFederation(opened.manifest.federation(), trust));
  ABSL_RETURN_IF_ERROR(CheckExpiry(opened.manifest.expires_ms(), now));
  ABSL_ASSIGN_OR_RETURN(
      opened.signer, CheckSigned(envelope, kContext, kServerOwner, trust, now));
  return opened;
}

}  // namespace

absl::StatusOr<std::string> SignManifest(const v1::VersionManifest& manifest,
                                         const LocalNode& signer) {
  v1::VersionManifest known = manifest;
  known.DiscardUnknownFields();
  ABSL_RETURN_IF_ERROR(CheckFormat(known));
  ABSL_RETURN_IF_ERROR(CheckFields(known));
  if (known.federation() != signer.federation) {
    return absl::InvalidArgumentError(
        absl::StrCat("federation: the signer's, '", signer.federation,
                     "', expected, found '", known.federation(), "'"));
  }
  return MakeEnvelope(kContext, known.SerializeAsString(), signer);
}

absl::StatusOr<v1::VersionManifest> OpenManifest(absl::string_view bytes,
                                                 const RecordTrust& trust,
                                                 absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(Opened opened, Open(bytes, trust, now));
  return std::move(opened.manifest);
}

std::optional<Key> ManifestSigner(absl::string_view bytes,
                                  const RecordTrust& trust, absl::Time now) {
  const absl::StatusOr<Opened> opened = Open(bytes, trust, now);
  return opened.ok() ? opened->signer : std::nullopt;
}

absl::Status CheckManifestIs(const v1::VersionManifest& manifest,
                             absl::string_view job, int64_t version,
                             absl::string_view digest) {
  const auto mismatch = [](absl::string_view what) {
    return RejectedError(Rejection::kMismatch,
                         absl::StrCat("the manifest is of ", what));
  };
  if (manifest.job() != job) {
    return mismatch(absl::StrCat("job '", manifest.job(), "', expected '",
                                 absl::CHexEscape(job), "'"));
  }
  if (manifest.version() != version) {
    return mismatch(absl::StrCat("version ", manifest.version(), " of ", job,
                                 ", expected version ", version));
  }
  if (manifest.digest() != digest) {
    return mismatch(absl::StrCat(
        "the file ", absl::BytesToHexString(manifest.digest()), " as ", job,
        "@", version, ", expected ", absl::BytesToHexString(digest)));
  }
  return absl::OkStatus();
}

}  // namespace koinon::dht
