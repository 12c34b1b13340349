#include "coordinator/distribution/own_node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/local_node.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/key.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

constexpr size_t kMaxCaBytes = size_t{1} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<FederationTrust>> LoadAuthority(
    Env* env, const OwnNodeSpec& spec) {
  if (spec.tls.empty()) return std::unique_ptr<FederationTrust>();
  ABSL_ASSIGN_OR_RETURN(const std::string ca,
                        ReadFile(env, spec.tls.ca, kMaxCaBytes));
  auto authority = FederationTrust::Create(spec.federation, ca);
  if (authority.ok()) return authority;
  return absl::Status(
      authority.status().code(),
      absl::StrCat(spec.tls.ca, ": ", authority.status().message()));
}

absl::StatusOr<dht::Peer::Options> MakePeerOptions(
    Env* env, const OwnNodeSpec& spec, const FederationTrust* authority,
    absl::Time now) {
  const std::string key_path = absl::StrCat(spec.state_dir, "/node.key");
  const auto make = [&] {
    return LoadOrMakeLocalNode(env, key_path, spec.federation,
                               dht::kServerOwner, "");
  };
  if (spec.tls.empty()) {
    ABSL_ASSIGN_OR_RETURN(LocalNode local, make());
    return dht::Peer::Options{.local = std::move(local), .env = env};
  }
  ABSL_ASSIGN_OR_RETURN(auto credentials,
                        MakeChannelCredentials(env, spec.tls, now));
  auto loaded = LoadLocalNode(env, spec.tls, now);
  const bool has_node = !NotForNodes(loaded.status());
  if (!has_node) {
    LogWarning(
        "no DHT: the certificate carries no node's identity (koinon certs "
        "makes such); versions come from this coordinator alone",
        {{"certificate", spec.tls.certificate}, {"signing_key", key_path}});
    loaded = make();
  }
  ABSL_RETURN_IF_ERROR(loaded.status());
  return dht::Peer::Options{.local = *std::move(loaded),
                            .credentials = std::move(credentials),
                            .authority = authority,
                            .has_node = has_node,
                            .env = env};
}

std::string OwnAddress(const std::string& configured,
                       const std::string& listen_host, int port) {
  if (!configured.empty()) return configured;
  const bool is_v6 = listen_host.find(':') != std::string::npos;
  std::string address = is_v6 ? absl::StrCat("[", listen_host, "]:", port)
                              : absl::StrCat(listen_host, ":", port);
  const absl::Status status = dht::ValidateAdvertised(address);
  if (status.ok()) return address;
  LogWarning(
      "other nodes cannot be told where this coordinator is: what it listens "
      "on does not say it, and there is no --peer-address",
      {{"listen", listen_host}, {"error", status}});
  return "";
}

}  // namespace koinon::coordinator
