#include "worker/models/peering_spec.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "base/acceptor.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "dht/key.h"

namespace koinon::worker {
namespace {

constexpr size_t kMaxBootstrap = 64;
constexpr size_t kMaxPinned = 1024;

absl::Status Bad(absl::string_view flag, absl::string_view found,
                 absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat(flag, ": expected ", expected, ", found \"", found, "\""));
}

// With a port that can be called.
absl::Status CheckReachable(absl::string_view flag, absl::string_view text) {
  const auto address = ParseHostPort(text);
  if (address.ok() && address->second > 0) return absl::OkStatus();
  return Bad(flag, text, "HOST:PORT");
}

// What others refuse in a contact is to be known before they do.
absl::Status CheckAdvertised(absl::string_view flag, absl::string_view text,
                             const std::string& address) {
  const absl::Status status = dht::ValidateAdvertised(address);
  if (status.ok()) return status;
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " ", text, ": ", status.message()));
}

absl::StatusOr<std::pair<std::string, int64_t>> ParsePin(
    absl::string_view text) {
  const size_t at = text.find('@');
  std::pair<std::string, int64_t> pin;
  pin.first = std::string(text.substr(0, at));
  if (at == absl::string_view::npos || !ValidateId("job", pin.first).ok() ||
      !absl::SimpleAtoi(text.substr(at + 1), &pin.second) || pin.second < 0) {
    return Bad("--pin", text, "JOB@VERSION, the version a number from 0");
  }
  return pin;
}

absl::Status CheckListen(const PeeringSpec& spec) {
  if (spec.listen.empty()) {
    if (spec.address.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--peer-address: says where others reach this worker, which serves "
        "nobody without --peer-listen");
  }
  const auto listen = ParseHostPort(spec.listen);
  if (!listen.ok()) return Bad("--peer-listen", spec.listen, "HOST:PORT");
  if (!spec.address.empty()) {
    return CheckAdvertised("--peer-address", spec.address, spec.address);
  }
  if (dht::IsWildcardHost(listen->first)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--peer-listen ", spec.listen,
                     ": listens on every address, and others must be told one: "
                     "give --peer-address HOST:PORT"));
  }
  // Any port will do; the one in use is known later.
  return CheckAdvertised("--peer-listen", spec.listen, spec.AddressFor(1));
}

}  // namespace

absl::Status PeeringSpec::Validate() const {
  ABSL_RETURN_IF_ERROR(CheckListen(*this));
  if (!site.empty()) ABSL_RETURN_IF_ERROR(ValidateId("--site", site));
  if (!federation.empty()) {
    ABSL_RETURN_IF_ERROR(ValidateId("--federation", federation));
  }
  if (bootstrap.size() > kMaxBootstrap) {
    return absl::InvalidArgumentError(
        absl::StrCat("--bootstrap: expected at most ", kMaxBootstrap,
                     ", found ", bootstrap.size()));
  }
  for (const std::string& node : bootstrap) {
    ABSL_RETURN_IF_ERROR(CheckReachable("--bootstrap", node));
  }
  if (keep_versions < 0 || keep_every < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        keep_versions < 0 ? "--keep-versions" : "--keep-every",
        ": expected at least 0, found ", std::min(keep_versions, keep_every)));
  }
  if (pinned.size() > kMaxPinned) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--pin: expected at most ", kMaxPinned, ", found ", pinned.size()));
  }
  for (const std::string& pin : pinned) {
    ABSL_RETURN_IF_ERROR(ParsePin(pin).status());
  }
  return absl::OkStatus();
}

std::string PeeringSpec::AddressFor(int port) const {
  if (listen.empty()) return "";
  if (!address.empty()) return address;
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

std::set<std::pair<std::string, int64_t>> PeeringSpec::Pinned() const {
  std::set<std::pair<std::string, int64_t>> pins;
  for (const std::string& pin : pinned) pins.insert(*ParsePin(pin));
  return pins;
}

}  // namespace koinon::worker
