#ifndef KOINON_TOOLS_CLI_MANIFEST_SIGNER_H_
#define KOINON_TOOLS_CLI_MANIFEST_SIGNER_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/signing.h"
#include "base/trust.h"
#include "proto/model.pb.h"

namespace koinon::cli {

// By whose word a command takes a version for the federation's.
struct SignerTrust {
  // The federation's authority: the signer's certificate must stand under it.
  // Null in plaintext, where there is none.
  const FederationTrust* authority = nullptr;
  // The only key whose signature counts, with or without a certificate.
  std::optional<PublicKey> signer;
  // Whether a signer without a certificate is taken at all: where the manifest
  // comes from the coordinator itself, or nobody has certificates. The user is
  // to be shown the key.
  bool take_uncertified = false;
};

struct OpenedManifest {
  v1::VersionManifest manifest;
  PublicKey signer;
  bool certified = false;  // by the authority
};

// `signed_manifest`: a serialised Signed. dht::OpenManifest's RejectedErrors,
// and kUntrustedSigner for a key that is not trust.signer.
absl::StatusOr<OpenedManifest> OpenSignedManifest(
    absl::string_view signed_manifest, const SignerTrust& trust,
    absl::Time now);

// What the coordinator said of a version (`model`), held against its signed
// manifest: job, version, digest, parent, layout and size are the same.
// FAILED_PRECONDITION if there is no signed manifest; kMismatch.
absl::StatusOr<OpenedManifest> CheckSignedModel(const v1::ModelManifest& model,
                                                const SignerTrust& trust,
                                                absl::Time now);

// "signed by server (KEY)", "signed by KEY, which no certificate names".
std::string DescribeSigner(const OpenedManifest& opened);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_MANIFEST_SIGNER_H_
