#include "coordinator/distribution/timeline.h"

#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

// For each version that is stored: a life that was seen is overtaken by one.
constexpr int kMostRaises = 4;

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

// With the found one's epoch, the own one would count.
bool IsLaterOfOneLife(const dht::OpenedRecord& own,
                      const dht::OpenedRecord& found) {
  return own.sequence > found.sequence ||
         (own.sequence == found.sequence && own.value == found.value);
}

}  // namespace

absl::Status Timeline::Store(const v1::JobSpec& spec,
                             const v1::ModelManifest& manifest, bool newest) {
  const auto least_epoch = [&] {
    const auto it = least_epochs_.find(manifest.job());
    return it == least_epochs_.end() ? 0 : it->second;
  };
  absl::Status stored;
  for (int raises = 0; raises <= kMostRaises; ++raises) {
    const uint64_t epoch = least_epoch();
    ABSL_ASSIGN_OR_RETURN(const std::vector<KeyedRecord> records,
                          RecordsOf(spec, manifest, newest, epoch, *signer_));
    stored = StoreAll(records, manifest);
    if (least_epoch() == epoch) break;
  }
  return stored;
}

absl::Status Timeline::StoreAll(const std::vector<KeyedRecord>& records,
                                const v1::ModelManifest& manifest) {
  for (const KeyedRecord& record : records) {
    const RecordNetwork::Placed placed = network_->Put(record);
    if (placed.status.ok() && !placed.contested) continue;
    if (LearnEpoch(record, placed, manifest)) {
      return placed.status.ok()
                 ? absl::AbortedError("nodes hold a record of another life")
                 : placed.status;
    }
    ABSL_RETURN_IF_ERROR(placed.status);
  }
  return absl::OkStatus();
}

// What a node says it has may be a lie; what it shows is signed. Where nothing
// that they show can be read, their word has to do. Whether the job has a
// greater epoch now.
bool Timeline::LearnEpoch(const KeyedRecord& record,
                          const RecordNetwork::Placed& placed,
                          const v1::ModelManifest& manifest) {
  const std::optional<dht::OpenedRecord> own = OwnOf(record.record);
  if (!own.has_value()) return false;
  const auto found = network_->Newest(record.key);
  uint64_t others = own->epoch;
  bool same_life = false;
  if (found.ok()) {
    const dht::Newer newer = dht::Compare(*own, *found);
    if (newer == dht::Newer::kFirst || newer == dht::Newer::kSame) return false;
    others = found->epoch;
    same_life = IsLaterOfOneLife(*own, *found);
  } else if (dht::RejectionOf(found.status()) !=
                 dht::Rejection::kEquivocation &&
             !(placed.contested && absl::IsNotFound(found.status()))) {
    return false;
  }
  if (!same_life && others == std::numeric_limits<uint64_t>::max()) {
    return false;  // none is greater
  }
  least_epochs_[manifest.job()] = same_life ? others : others + 1;
  if (same_life) return true;
  LogError(
      "nodes hold another record of the same name: the state of this "
      "coordinator was restored from an older copy, or there is a second "
      "coordinator of this federation. What this one stores counts from now on",
      {{"job", manifest.job()},
       {"version", manifest.version()},
       {"record", own->name}});
  return true;
}

}  // namespace koinon::coordinator
