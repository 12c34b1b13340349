#include "coordinator/distribution/version_records.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "coordinator/models/manifest_signer.h"
#include "dht/records/signed.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"

namespace koinon::coordinator {
namespace {

// What a record adds to an immutable value: a tag and a length.
constexpr size_t kRecordOverheadBytes = 16;

// A mutable record of the version with this name.
absl::StatusOr<KeyedRecord> NamedRecord(const std::string& name, uint64_t epoch,
                                        uint64_t sequence,
                                        const v1::VersionManifest& version,
                                        std::string value,
                                        const LocalNode& signer) {
  v1::MutableRecord record;
  record.set_name(name);
  record.set_epoch(epoch);
  record.set_sequence(sequence);
  record.set_expires_ms(version.expires_ms());
  record.set_value(std::move(value));
  KeyedRecord keyed;
  keyed.key = dht::MutableKey(signer.federation, signer.owner, name);
  ABSL_ASSIGN_OR_RETURN(keyed.record,
                        dht::SignRecord(std::move(record), signer));
  return keyed;
}

// Signatures of one version that can be told apart.
constexpr uint64_t kSignatures = 1 << 16;

}  // namespace

uint64_t SequenceOf(const v1::ModelManifest& manifest) {
  const auto signatures = static_cast<uint64_t>(manifest.signatures());
  return static_cast<uint64_t>(manifest.version()) * kSignatures +
         std::min(signatures, kSignatures - 1);
}

int64_t SignaturesOf(uint64_t sequence) {
  return static_cast<int64_t>(sequence % kSignatures);
}

std::string EncodeJobSpec(const v1::JobSpec& spec) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);  // maps in the order of their keys
  spec.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

absl::StatusOr<std::vector<KeyedRecord>> RecordsOf(
    const v1::JobSpec& spec, const v1::ModelManifest& manifest, bool newest,
    uint64_t least_epoch, const LocalNode& signer) {
  ABSL_ASSIGN_OR_RETURN(const v1::VersionManifest version,
                        SignedVersionOf(manifest));
  const uint64_t epoch =
      std::max(least_epoch, static_cast<uint64_t>(version.job_submitted_ms()));
  std::vector<KeyedRecord> records;
  const dht::Key manifest_key = dht::ImmutableKey(manifest.signed_manifest());
  records.push_back(
      {manifest_key, dht::ImmutableRecord(manifest.signed_manifest())});

  v1::HeadValue head;
  head.set_version(version.version());
  head.set_manifest(manifest_key.ToBytes());
  std::string spec_bytes = newest ? EncodeJobSpec(spec) : "";
  if (newest &&
      spec_bytes.size() + kRecordOverheadBytes <= dht::kMaxRecordBytes) {
    const dht::Key key = dht::ImmutableKey(spec_bytes);
    head.set_job_spec(key.ToBytes());
    records.push_back({key, dht::ImmutableRecord(std::move(spec_bytes))});
  }
  v1::VersionValue value;
  value.set_manifest(manifest_key.ToBytes());
  ABSL_ASSIGN_OR_RETURN(
      KeyedRecord named,
      NamedRecord(dht::VersionName(version.job(), version.version()), epoch,
                  SequenceOf(manifest), version, value.SerializeAsString(),
                  signer));
  records.push_back(std::move(named));
  if (!newest) return records;
  ABSL_ASSIGN_OR_RETURN(
      KeyedRecord newest_record,
      NamedRecord(dht::HeadName(version.job()), epoch, SequenceOf(manifest),
                  version, head.SerializeAsString(), signer));
  records.push_back(std::move(newest_record));
  return records;
}

}  // namespace koinon::coordinator
