#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/hash_text.h"
#include "base/ids.h"
#include "base/status_macros.h"
#include "dht/records/envelope.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"

// Records (docs/formats/record.md).

namespace koinon::dht {
namespace {

constexpr char kContext[] = "koinon record 1";
constexpr size_t kMaxNameBytes = 128;

bool IsOwner(absl::string_view owner) {
  if (owner == kServerOwner) return true;
  const std::vector<absl::string_view> parts = absl::StrSplit(owner, '/');
  return parts.size() == 2 &&
         (parts[0] == "worker" || parts[0] == "client" || parts[0] == "node") &&
         ValidateId("owner", parts[1]).ok();
}

bool IsRecordName(absl::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(static_cast<unsigned char>(c)) ||
                  absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
                  c == '.' || c == '_' || c == '-' || c == '/';
         });
}

// INVALID_ARGUMENT unless the fields are as docs/formats/record.md wants.
absl::Status CheckFields(const v1::MutableRecord& record) {
  ABSL_RETURN_IF_ERROR(ValidateId("federation", record.federation()));
  if (!IsOwner(record.owner())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "owner: server, worker/NAME, client/NAME or node/NAME expected, found "
        "'",
        absl::CHexEscape(record.owner().substr(0, kMaxNameBytes)), "'"));
  }
  if (!IsRecordName(record.name())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "name: 1 to ", kMaxNameBytes,
        " of a-z, 0-9, '.', '_', '-' and '/' expected, found '",
        absl::CHexEscape(record.name().substr(0, kMaxNameBytes)), "'"));
  }
  if (record.expires_ms() <= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expires_ms: more than 0 expected, found ", record.expires_ms()));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::MutableRecord> ReadMutable(absl::string_view body) {
  ABSL_ASSIGN_OR_RETURN(v1::MutableRecord record,
                        Parse<v1::MutableRecord>("record", body));
  ABSL_RETURN_IF_ERROR(CheckCanonical("record", body, record));
  if (const absl::Status fields = CheckFields(record); !fields.ok()) {
    return Malformed(absl::StrCat("record: ", fields.message()));
  }
  return record;
}

absl::Status CheckKey(const Key& expected, const Key& key) {
  if (key == expected) return absl::OkStatus();
  return RejectedError(Rejection::kWrongKey,
                       absl::StrCat("stands under ", expected.ToHex(),
                                    ", found under ", key.ToHex()));
}

absl::StatusOr<OpenedRecord> OpenImmutable(const Key& key,
                                           const std::string& value) {
  ABSL_RETURN_IF_ERROR(CheckSize(value));
  if (value.empty()) return Malformed("an immutable record of no bytes");
  ABSL_RETURN_IF_ERROR(CheckKey(ImmutableKey(value), key));
  OpenedRecord opened;
  opened.value = value;
  return opened;
}

absl::StatusOr<OpenedRecord> OpenMutable(const Key& key,
                                         absl::string_view bytes,
                                         const RecordTrust& trust,
                                         absl::Time now) {
  ABSL_RETURN_IF_ERROR(CheckSize(bytes));
  ABSL_ASSIGN_OR_RETURN(const v1::Signed envelope, ReadEnvelope(bytes));
  ABSL_ASSIGN_OR_RETURN(v1::MutableRecord record, ReadMutable(envelope.body()));
  ABSL_RETURN_IF_ERROR(CheckKey(
      MutableKey(record.federation(), record.owner(), record.name()), key));
  ABSL_RETURN_IF_ERROR(CheckFederation(record.federation(), trust));
  ABSL_RETURN_IF_ERROR(CheckExpiry(record.expires_ms(), now));
  ABSL_ASSIGN_OR_RETURN(
      const std::optional<Key> signer,
      CheckSigned(envelope, kContext, record.owner(), trust, now));
  ABSL_ASSIGN_OR_RETURN(const PublicKey signing_key,
                        PublicKey::FromBytes(envelope.public_key()));
  return OpenedRecord{.is_mutable = true,
                      .value = std::move(*record.mutable_value()),
                      .owner = record.owner(),
                      .name = record.name(),
                      .epoch = record.epoch(),
                      .sequence = record.sequence(),
                      .expires = absl::FromUnixMillis(record.expires_ms()),
                      .signing_key = signing_key,
                      .signer = signer};
}

}  // namespace

Key ImmutableKey(absl::string_view value) { return Sha256Of(value); }

Key MutableKey(absl::string_view federation, absl::string_view owner,
               absl::string_view name) {
  Sha256 sha;
  HashText("koinon-record", &sha);
  HashText(federation, &sha);
  HashText(owner, &sha);
  HashText(name, &sha);
  return sha.Finish();
}

std::string HeadName(absl::string_view job) {
  return absl::StrCat("head/", job);
}

std::string VersionName(absl::string_view job, int64_t version) {
  return absl::StrCat("version/", job, "/", version);
}

absl::StatusOr<v1::Record> SignRecord(v1::MutableRecord record,
                                      const LocalNode& signer) {
  record.DiscardUnknownFields();
  record.set_federation(signer.federation);
  record.set_owner(signer.owner);
  ABSL_RETURN_IF_ERROR(CheckFields(record));
  v1::Record result;
  ABSL_ASSIGN_OR_RETURN(
      *result.mutable_signed_record(),
      MakeEnvelope(kContext, record.SerializeAsString(), signer));
  return result;
}

v1::Record ImmutableRecord(std::string value) {
  v1::Record record;
  record.set_immutable(std::move(value));
  return record;
}

absl::StatusOr<OpenedRecord> OpenRecord(const Key& key,
                                        const v1::Record& record,
                                        const RecordTrust& trust,
                                        absl::Time now) {
  switch (record.kind_case()) {
    case v1::Record::kImmutable:
      return OpenImmutable(key, record.immutable());
    case v1::Record::kSignedRecord:
      return OpenMutable(key, record.signed_record(), trust, now);
    case v1::Record::KIND_NOT_SET:
      break;
  }
  return Malformed("a record of no kind");
}

Newer Compare(const OpenedRecord& first, const OpenedRecord& second) {
  const auto first_order = std::pair(first.epoch, first.sequence);
  const auto second_order = std::pair(second.epoch, second.sequence);
  if (first_order > second_order) return Newer::kFirst;
  if (first_order < second_order) return Newer::kSecond;
  return first.is_mutable == second.is_mutable && first.value == second.value
             ? Newer::kSame
             : Newer::kConflict;
}

}  // namespace koinon::dht
