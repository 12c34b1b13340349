#ifndef KOINON_DHT_RECORDS_SIGNED_H_
#define KOINON_DHT_RECORDS_SIGNED_H_

#include <cstddef>
#include <optional>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "base/local_node.h"
#include "base/signing.h"
#include "base/trust.h"
#include "dht/key.h"
#include "proto/dht.pb.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// Who the coordinator is, as the owner of records.
inline constexpr char kServerOwner[] = "server";

// Hard bound on a record's bytes, checked before anything is parsed.
inline constexpr size_t kMaxRecordBytes = 16 << 10;

// Whose signatures count. A value; `authority` is borrowed.
struct RecordTrust {
  std::string federation;
  // Over TLS: signers show a certificate of this authority. Null: a federation
  // in plaintext, where a signature only says that a key has signed.
  const FederationTrust* authority = nullptr;
  // Keys that count as the federation's server whatever certificate they show:
  // that of the coordinator one is connected to, which may have none with a
  // node. In plaintext no other counts as the server once there is one.
  std::set<PublicKey> pinned = {};
};

// ---- Manifests (docs/formats/manifest.md) ----

// A serialised Signed. INVALID_ARGUMENT for a manifest that OpenManifest would
// refuse for its content; RESOURCE_EXHAUSTED if it is over kMaxRecordBytes.
absl::StatusOr<std::string> SignManifest(const v1::VersionManifest& manifest,
                                         const LocalNode& signer);

// The manifest, if `bytes` verify: size, form, federation, expiry, signature,
// and a signer that is the federation's server. All errors are RejectedErrors.
// Of the same bytes, a second call costs a signature check again: callers keep
// what they got.
absl::StatusOr<v1::VersionManifest> OpenManifest(absl::string_view bytes,
                                                 const RecordTrust& trust,
                                                 absl::Time now);

// The node that has signed it, if `bytes` are such a manifest and an authority
// says so.
std::optional<Key> ManifestSigner(absl::string_view bytes,
                                  const RecordTrust& trust, absl::Time now);

// Whether the manifest is of this very version. kMismatch says what differs.
absl::Status CheckManifestIs(const v1::VersionManifest& manifest,
                             absl::string_view job, int64_t version,
                             absl::string_view digest);

// ---- Records (docs/formats/record.md) ----

Key ImmutableKey(absl::string_view value);
// SHA-256 over text("koinon-record"), text(federation), text(owner),
// text(name).
Key MutableKey(absl::string_view federation, absl::string_view owner,
               absl::string_view name);

// Names of the records that the coordinator writes (owner "server").
std::string HeadName(absl::string_view job);
std::string VersionName(absl::string_view job, int64_t version);

// A Record with a signed_record. `record.owner` and `federation` are filled in
// from the signer. RESOURCE_EXHAUSTED if over the bound.
absl::StatusOr<v1::Record> SignRecord(v1::MutableRecord record,
                                      const LocalNode& signer);
v1::Record ImmutableRecord(std::string value);

// A record that stands under its key: what stores keep and lookups return.
struct OpenedRecord {
  bool is_mutable = false;
  std::string value;  // the immutable bytes, or MutableRecord.value
  // Of mutable ones:
  std::string owner;
  std::string name;
  uint64_t epoch = 0;
  uint64_t sequence = 0;
  absl::Time expires = absl::InfiniteFuture();
  PublicKey signing_key = {};  // that has signed it
  // The node that has signed it, if an authority says so.
  std::optional<Key> signer = std::nullopt;
};
// Size, form, key, federation, expiry, signature, and an owner that the
// signer's certificate says. All errors are RejectedErrors. Pure; thread-safe.
absl::StatusOr<OpenedRecord> OpenRecord(const Key& key,
                                        const v1::Record& record,
                                        const RecordTrust& trust,
                                        absl::Time now);

// Which of two records that stand under one key counts. kFirst and kSecond: it
// is newer; kSame: the same value; kConflict: as new, and different.
enum class Newer { kFirst, kSecond, kSame, kConflict };
Newer Compare(const OpenedRecord& first, const OpenedRecord& second);

}  // namespace koinon::dht

#endif  // KOINON_DHT_RECORDS_SIGNED_H_
