#include "dht/records/rejection.h"

#include "absl/strings/cord.h"
#include "base/check.h"

namespace koinon::dht {
namespace {

// Statuses carry a reason by its name under this.
constexpr char kPayloadUrl[] = "koinon.v1/rejection";

constexpr std::array<absl::string_view, kRejections> kNames = {
    "oversize",     "malformed",        "wrong_key", "wrong_federation",
    "forged",       "untrusted_signer", "expired",   "rolled_back",
    "equivocation", "not_self",         "quota",     "rate",
    "mismatch",
};

absl::StatusCode CodeOf(Rejection rejection) {
  switch (rejection) {
    case Rejection::kOversize:
    case Rejection::kQuota:
    case Rejection::kRate:
      return absl::StatusCode::kResourceExhausted;
    case Rejection::kForged:
    case Rejection::kWrongKey:
    case Rejection::kEquivocation:
      return absl::StatusCode::kDataLoss;
    case Rejection::kExpired:
    case Rejection::kRolledBack:
      return absl::StatusCode::kFailedPrecondition;
    case Rejection::kUntrustedSigner:
    case Rejection::kNotSelf:
      return absl::StatusCode::kPermissionDenied;
    case Rejection::kMalformed:
    case Rejection::kWrongFederation:
    case Rejection::kMismatch:
      break;
  }
  return absl::StatusCode::kInvalidArgument;
}

}  // namespace

absl::string_view RejectionName(Rejection rejection) {
  const auto index = static_cast<size_t>(rejection);
  KOINON_CHECK(index < kRejections);
  return kNames[index];
}

std::optional<Rejection> RejectionFromName(absl::string_view name) {
  for (size_t i = 0; i < kRejections; ++i) {
    if (kNames[i] == name) return static_cast<Rejection>(i);
  }
  return std::nullopt;
}

absl::Status RejectedError(Rejection rejection, absl::string_view message) {
  absl::Status status(CodeOf(rejection), message);
  status.SetPayload(kPayloadUrl, absl::Cord(RejectionName(rejection)));
  return status;
}

std::optional<Rejection> RejectionOf(const absl::Status& status) {
  const absl::optional<absl::Cord> name = status.GetPayload(kPayloadUrl);
  if (!name.has_value()) return std::nullopt;
  return RejectionFromName(std::string(*name));
}

void RejectionCounts::Count(const absl::Status& status) {
  const std::optional<Rejection> rejection = RejectionOf(status);
  if (rejection.has_value()) Count(*rejection);
}

std::map<std::string, int64_t> RejectionCounts::ToMap() const {
  std::map<std::string, int64_t> map;
  for (size_t i = 0; i < kRejections; ++i) {
    const int64_t count = counts_[i];
    if (count != 0) map[std::string(kNames[i])] = count;
  }
  return map;
}

}  // namespace koinon::dht
