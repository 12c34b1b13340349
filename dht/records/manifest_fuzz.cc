#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/records/testing_signers.h"

namespace koinon::dht {
namespace {

// Refused with a reason, or a manifest that would be signed as it was.
void OpenAny(const std::string& bytes, const LocalNode& signer,
             const RecordTrust& trust) {
  const auto manifest = OpenManifest(bytes, trust, VectorTime());
  if (!manifest.ok()) {
    KOINON_CHECK(RejectionOf(manifest.status()).has_value());
    KOINON_CHECK(!manifest.status().message().empty());
    return;
  }
  const auto again = SignManifest(*manifest, signer);
  KOINON_CHECK(again.ok());
  KOINON_CHECK(OpenManifest(*again, trust, VectorTime()).ok());
}

}  // namespace
}  // namespace koinon::dht

// As a whole envelope, and as the body of one that is signed.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using koinon::dht::OpenAny;
  static const auto* const kSigner =
      new koinon::LocalNode(koinon::dht::PlainNode('\x01', "north", "server"));
  static const auto* const kNorth =
      new koinon::dht::TestFederation("north", koinon::dht::VectorTime());
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  koinon::dht::RecordTrust plaintext;
  plaintext.federation = "north";
  OpenAny(bytes, *kSigner, plaintext);
  OpenAny(bytes, *kSigner, kNorth->trust());
  OpenAny(koinon::dht::SignBody("koinon manifest 1", bytes, *kSigner)
              .SerializeAsString(),
          *kSigner, plaintext);
  return 0;
}
