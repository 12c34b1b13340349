#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "base/check.h"
#include "base/trust.h"

namespace {

// Under it stands the certificate in the corpus. Its key is nowhere.
constexpr char kAuthority[] = R"(
-----BEGIN CERTIFICATE-----
MIIBwzCCAWmgAwIBAgIRAIKIq9q+Uh98jcpt5JvwlbUwCgYIKoZIzj0EAwIwLzEO
MAwGA1UECgwFbm9ydGgxHTAbBgNVBAMMFGZlZGVyYXRpb24vYXV0aG9yaXR5MB4X
DTI2MTEyMTE0Mjg0MVoXDTI3MDkxNzE0MzM0MVowLzEOMAwGA1UECgwFbm9ydGgx
HTAbBgNVBAMMFGZlZGVyYXRpb24vYXV0aG9yaXR5MFkwEwYHKoZIzj0CAQYIKoZI
zj0DAQcDQgAEyutymAypKmDomLmCpgpnPcYbvnB9ot7YBtNmkmiOGyioFPw7K0O5
XiUvD2202w2zCnY2EkzwpepRabQq1bYQe6NmMGQwEgYDVR0TAQH/BAgwBgEB/wIB
ADAOBgNVHQ8BAf8EBAMCAQYwHQYDVR0OBBYEFACZEE3/LfUf42CqXL09GoEskSZw
MB8GA1UdIwQYMBaAFACZEE3/LfUf42CqXL09GoEskSZwMAoGCCqGSM49BAMCA0gA
MEUCIDtOc31BoZgyJGe9j9/SakW47H5QGvgrYHJyd+DfDHFpAiEA0Mpwy/99+CGz
VQ5GMkhvIvUgbHUmmfIL4XNiFR3rTtg=
-----END CERTIFICATE-----
)";
// When the corpus's certificate is good.
constexpr int64_t kUnixSeconds = 1'795'500'000;

}  // namespace

// Any bytes are no certificate of the federation, or say who they are of.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const koinon::FederationTrust* const kTrust =
      koinon::FederationTrust::Create("north", kAuthority)->release();
  const absl::string_view der(reinterpret_cast<const char*>(data), size);
  const auto peer = kTrust->Verify(der, absl::FromUnixSeconds(kUnixSeconds));
  if (!peer.ok()) {
    KOINON_CHECK(absl::IsUnauthenticated(peer.status()));
    KOINON_CHECK(!peer.status().message().empty());
    return 0;
  }
  KOINON_CHECK(peer->federation == "north");
  KOINON_CHECK(!koinon::OwnerOf(*peer).empty());
  return 0;
}
