#ifndef KOINON_DHT_RECORDS_REJECTION_H_
#define KOINON_DHT_RECORDS_REJECTION_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace koinon::dht {

// Why a manifest, record or provider was refused. Each refusal is counted under
// its reason: an operator sees an attack as a number that grows.
enum class Rejection {
  kOversize,
  kMalformed,
  kWrongKey,  // the key is not that of the content
  kWrongFederation,
  kForged,           // the signature is not the key's
  kUntrustedSigner,  // the certificate does not stand, or may not write this
  kExpired,
  kRolledBack,    // older than what is known
  kEquivocation,  // as new as what is known, and different: an alarm
  kNotSelf,       // a provider announced for another
  kQuota,         // of this writer, or of the store
  kRate,          // questions of this peer
  kMismatch,      // not what was asked for (another job, version or digest)
};
inline constexpr size_t kRejections = 13;

// "oversize", "malformed", ... as counters and AskReply.rejection name it.
absl::string_view RejectionName(Rejection rejection);
std::optional<Rejection> RejectionFromName(absl::string_view name);

// A status that remembers its reason, and RejectionOf what reads it. The code:
// RESOURCE_EXHAUSTED for kOversize, kQuota and kRate, DATA_LOSS for kForged,
// kWrongKey and kEquivocation, FAILED_PRECONDITION for kExpired and
// kRolledBack, PERMISSION_DENIED for kUntrustedSigner and kNotSelf, else
// INVALID_ARGUMENT.
absl::Status RejectedError(Rejection rejection, absl::string_view message);
std::optional<Rejection> RejectionOf(const absl::Status& status);

// Thread-safe.
class RejectionCounts {
 public:
  // Counts the reason of `status`, if it has one.
  void Count(const absl::Status& status);
  void Count(Rejection rejection) { ++counts_[static_cast<size_t>(rejection)]; }
  int64_t count(Rejection rejection) const {
    return counts_[static_cast<size_t>(rejection)];
  }
  // Those that are not zero, by name.
  std::map<std::string, int64_t> ToMap() const;

 private:
  std::array<std::atomic<int64_t>, kRejections> counts_{};
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_RECORDS_REJECTION_H_
