#include "coordinator/distribution/record_writer.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::coordinator {
namespace {

// What the coordinator has just signed; none of an immutable one.
std::optional<dht::OpenedRecord> OwnOf(const v1::Record& record) {
  v1::Signed envelope;
  v1::MutableRecord body;
  if (!record.has_signed_record() ||
      !envelope.ParseFromString(record.signed_record()) ||
      !body.ParseFromString(envelope.body())) {
    return std::nullopt;
  }
  dht::OpenedRecord own;
  own.is_mutable = true;
  own.value = body.value();
  own.name = body.name();
  own.epoch = body.epoch();
  own.sequence = body.sequence();
  return own;
}

// Whether what nodes hold counts before the own one, as far as they show it.
bool Counts(const absl::StatusOr<dht::OpenedRecord>& found,
            const dht::OpenedRecord& own) {
  if (!found.ok()) {
    return dht::RejectionOf(found.status()) == dht::Rejection::kEquivocation;
  }
  const dht::Newer newer = dht::Compare(*found, own);
  return newer == dht::Newer::kFirst || newer == dht::Newer::kConflict;
}

std::string Describe(const absl::StatusOr<dht::OpenedRecord>& found) {
  if (!found.ok()) return std::string(found.status().message());
  return absl::StrCat("epoch ", found->epoch, ", sequence ", found->sequence);
}

}  // namespace

absl::Status RecordWriter::Store(const v1::JobSpec& spec,
                                 const v1::ModelManifest& manifest, bool newest,
                                 uint64_t least_epoch) {
  ABSL_ASSIGN_OR_RETURN(
      const std::vector<KeyedRecord> records,
      RecordsOf(spec, manifest, newest, least_epoch, *signer_));
  for (const KeyedRecord& record : records) {
    ABSL_RETURN_IF_ERROR(StoreOne(record, manifest));
  }
  return absl::OkStatus();
}

// What a node says it has may be a lie; what it shows is signed. Where enough
// others have kept the record, its word alone is not believed.
absl::Status RecordWriter::StoreOne(const KeyedRecord& record,
                                    const v1::ModelManifest& manifest) {
  const RecordNetwork::Placed placed = network_->Put(record);
  if (!placed.contested) return placed.status;
  const std::optional<dht::OpenedRecord> own = OwnOf(record.record);
  if (!own.has_value()) return placed.status;
  const auto found = network_->Newest(record.key);
  const bool counts = Counts(found, *own);
  if (counts || (!placed.status.ok() && absl::IsNotFound(found.status()))) {
    SayRefused(manifest, *own, found);
  }
  if (!placed.status.ok() || !counts) return placed.status;
  return absl::AbortedError(
      absl::StrCat("nodes hold another ", own->name, ": ", Describe(found)));
}

void RecordWriter::SayRefused(const v1::ModelManifest& manifest,
                              const dht::OpenedRecord& own,
                              const absl::StatusOr<dht::OpenedRecord>& found) {
  if (!said_.insert(manifest.job()).second) return;
  LogError(
      "nodes hold another record of the same name, which counts: a later state "
      "of this coordinator lives elsewhere, or did. What this one stores of "
      "the job is refused; if this is the copy that shall live, stop the "
      "other, and start this one again after removing journal.db-mark. In "
      "plaintext, if `others` names another key, a stranger has signed it, and "
      "the mark is not what helps",
      {{"job", manifest.job()},
       {"version", manifest.version()},
       {"record", own.name},
       {"epoch", own.epoch},
       {"sequence", own.sequence},
       {"others", Describe(found)}});
}

}  // namespace koinon::coordinator
