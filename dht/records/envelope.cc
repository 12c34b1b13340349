#include "dht/records/envelope.h"

#include <utility>

#include "base/digest.h"
#include "base/node_identity.h"
#include "base/peer_identity.h"
#include "base/signing.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

absl::Status Untrusted(absl::string_view what) {
  return RejectedError(Rejection::kUntrustedSigner, what);
}

// What the signature is over, after the context.
std::string SignedText(absl::string_view certificate, absl::string_view body) {
  return absl::StrCat(Sha256Of(certificate).ToBytes(), body);
}

// Under an authority: the certificate says that the key is `owner`'s, and which
// node's.
absl::StatusOr<std::optional<Key>> CheckCertificate(const v1::Signed& envelope,
                                                    const PublicKey& key,
                                                    absl::string_view owner,
                                                    const RecordTrust& trust,
                                                    absl::Time now) {
  if (envelope.certificate().empty()) {
    return Untrusted(absl::StrCat("signed without a certificate by ",
                                  key.ToHex(), ", which is not pinned"));
  }
  const absl::StatusOr<PeerIdentity> signer =
      trust.authority->Verify(envelope.certificate(), now);
  if (!signer.ok()) return Untrusted(signer.status().message());
  if (!signer->node.has_value() || signer->node->key != key) {
    return Untrusted(absl::StrCat("the certificate of ", OwnerOf(*signer),
                                  " is not of the key that signed"));
  }
  if (OwnerOf(*signer) != owner) {
    return Untrusted(absl::StrCat(OwnerOf(*signer), " has signed what only ",
                                  owner, " may sign"));
  }
  ABSL_RETURN_IF_ERROR(CheckFederation(signer->federation, trust));
  return NodeIdOf(signer->federation, *signer->node);
}

absl::StatusOr<std::optional<Key>> CheckSigner(const v1::Signed& envelope,
                                               const PublicKey& key,
                                               absl::string_view owner,
                                               const RecordTrust& trust,
                                               absl::Time now) {
  const bool for_server = owner == kServerOwner;
  if (for_server && trust.pinned.count(key) > 0) return std::nullopt;
  if (trust.authority != nullptr) {
    return CheckCertificate(envelope, key, owner, trust, now);
  }
  if (!for_server || trust.pinned.empty()) return std::nullopt;
  return Untrusted(
      absl::StrCat("signed by ", key.ToHex(), ", which is not pinned"));
}

}  // namespace

absl::Status Malformed(absl::string_view what) {
  return RejectedError(Rejection::kMalformed, what);
}

absl::Status CheckSize(absl::string_view bytes) {
  if (bytes.size() <= kMaxRecordBytes) return absl::OkStatus();
  return RejectedError(
      Rejection::kOversize,
      absl::StrCat(bytes.size(), " bytes, expected at most ", kMaxRecordBytes));
}

absl::StatusOr<std::string> MakeEnvelope(absl::string_view context,
                                         std::string body,
                                         const LocalNode& signer) {
  v1::Signed envelope;
  envelope.set_public_key(signer.key.public_key().ToBytes());
  envelope.set_signature(
      signer.key.Sign(context, SignedText(signer.certificate_der, body)));
  envelope.set_certificate(signer.certificate_der);
  envelope.set_body(std::move(body));
  std::string bytes = envelope.SerializeAsString();
  if (bytes.size() <= kMaxRecordBytes) return bytes;
  return absl::ResourceExhaustedError(
      absl::StrCat("signed it has ", bytes.size(), " bytes, at most ",
                   kMaxRecordBytes, " are allowed"));
}

absl::StatusOr<v1::Signed> ReadEnvelope(absl::string_view bytes) {
  ABSL_ASSIGN_OR_RETURN(v1::Signed envelope,
                        Parse<v1::Signed>("envelope", bytes));
  ABSL_RETURN_IF_ERROR(CheckCanonical("envelope", bytes, envelope));
  if (envelope.public_key().size() != PublicKey::kSizeBytes) {
    return Malformed(absl::StrCat("public_key: 32 bytes expected, found ",
                                  envelope.public_key().size()));
  }
  if (envelope.signature().size() != kSignatureBytes) {
    return Malformed(absl::StrCat("signature: 64 bytes expected, found ",
                                  envelope.signature().size()));
  }
  return envelope;
}

absl::Status CheckFederation(absl::string_view found,
                             const RecordTrust& trust) {
  if (found == trust.federation) return absl::OkStatus();
  return RejectedError(Rejection::kWrongFederation,
                       absl::StrCat("of federation '", found, "', expected '",
                                    trust.federation, "'"));
}

absl::Status CheckExpiry(int64_t expires_ms, absl::Time now) {
  const absl::Time expires = absl::FromUnixMillis(expires_ms);
  if (expires > now) return absl::OkStatus();
  return RejectedError(Rejection::kExpired,
                       absl::StrCat("expired at ", absl::FormatTime(expires)));
}

absl::StatusOr<std::optional<Key>> CheckSigned(const v1::Signed& envelope,
                                               absl::string_view context,
                                               absl::string_view owner,
                                               const RecordTrust& trust,
                                               absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(const PublicKey key,
                        PublicKey::FromBytes(envelope.public_key()));
  if (!VerifySignature(key, context,
                       SignedText(envelope.certificate(), envelope.body()),
                       envelope.signature())) {
    return RejectedError(
        Rejection::kForged,
        absl::StrCat("the signature is not that of ", key.ToHex()));
  }
  return CheckSigner(envelope, key, owner, trust, now);
}

}  // namespace koinon::dht
