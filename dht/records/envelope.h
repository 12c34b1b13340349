#ifndef KOINON_DHT_RECORDS_ENVELOPE_H_
#define KOINON_DHT_RECORDS_ENVELOPE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/local_node.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

// What manifests and mutable records have in common: the envelope that they are
// signed in (docs/formats/record.md). An inner part of dht/records/signed.h.

namespace koinon::dht {

absl::Status Malformed(absl::string_view what);

// kOversize: over kMaxRecordBytes.
absl::Status CheckSize(absl::string_view bytes);

// `bytes` have passed CheckSize. kMalformed.
template <typename Message>
absl::StatusOr<Message> Parse(absl::string_view what, absl::string_view bytes) {
  Message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Malformed(absl::StrCat(what, ": cannot be parsed"));
  }
  return message;
}

// Whether `bytes` are how `message`, which was parsed from them, is written:
// fields in ascending order, once each, and none that is unknown. kMalformed.
template <typename Message>
absl::Status CheckCanonical(absl::string_view what, absl::string_view bytes,
                            Message message) {
  message.DiscardUnknownFields();
  if (message.SerializeAsString() == bytes) return absl::OkStatus();
  return Malformed(absl::StrCat(
      what,
      ": has unknown fields, or is written in another way than protobuf "
      "writes it"));
}

// A serialised Signed. RESOURCE_EXHAUSTED if it is over kMaxRecordBytes.
absl::StatusOr<std::string> MakeEnvelope(absl::string_view context,
                                         std::string body,
                                         const LocalNode& signer);
// The envelope, whose signature is not checked yet. kMalformed.
absl::StatusOr<v1::Signed> ReadEnvelope(absl::string_view bytes);

// kWrongFederation.
absl::Status CheckFederation(absl::string_view found, const RecordTrust& trust);
// kExpired.
absl::Status CheckExpiry(int64_t expires_ms, absl::Time now);

// That the envelope was signed in this context (kForged), and by who may sign
// for `owner` (kUntrustedSigner). The node that has signed, if an authority
// says so.
absl::StatusOr<std::optional<Key>> CheckSigned(const v1::Signed& envelope,
                                               absl::string_view context,
                                               absl::string_view owner,
                                               const RecordTrust& trust,
                                               absl::Time now);

}  // namespace koinon::dht

#endif  // KOINON_DHT_RECORDS_ENVELOPE_H_
