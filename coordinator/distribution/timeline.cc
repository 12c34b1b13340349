#include "coordinator/distribution/timeline.h"

#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"

namespace koinon::coordinator {
namespace {

// For each version that is stored: a life that was seen is overtaken by one.
// And for each job, where what others say they have is not to be seen.
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
  Life& life = lives_[manifest.job()];
  absl::Status stored;
  for (int raises = 0; raises <= kMostRaises; ++raises) {
    const uint64_t epoch = life.epoch;
    ABSL_ASSIGN_OR_RETURN(const std::vector<KeyedRecord> records,
                          RecordsOf(spec, manifest, newest, epoch, *signer_));
    stored = StoreAll(records, manifest, &life);
    if (life.epoch == epoch) break;
  }
  return stored;
}

absl::Status Timeline::StoreAll(const std::vector<KeyedRecord>& records,
                                const v1::ModelManifest& manifest, Life* life) {
  for (const KeyedRecord& record : records) {
    const RecordNetwork::Placed placed = network_->Put(record);
    if (placed.status.ok() && !placed.contested) continue;
    if (IsOvertaken(record, placed, records.back(), manifest, life)) {
      return placed.status.ok()
                 ? absl::AbortedError("nodes hold a record of another life")
                 : placed.status;
    }
    ABSL_RETURN_IF_ERROR(placed.status);
  }
  return absl::OkStatus();
}

// Whether another's counts, as far as can be told: then the job has a greater
// epoch now, if it may. What a node says it has may be a lie; what it shows is
// signed. Where nothing that they show can be read, the word of those that
// refuse has to do, unless enough others have kept the record: then it is
// believed a few times only.
bool Timeline::IsOvertaken(const KeyedRecord& record,
                           const RecordNetwork::Placed& placed,
                           const KeyedRecord& last,
                           const v1::ModelManifest& manifest, Life* life) {
  const std::optional<dht::OpenedRecord> own = OwnOf(record.record);
  if (!own.has_value()) return false;
  const auto found = network_->Newest(record.key);
  uint64_t others = own->epoch;
  if (found.ok()) {
    const dht::Newer newer = dht::Compare(*own, *found);
    if (newer == dht::Newer::kFirst || newer == dht::Newer::kSame) return false;
    others = found->epoch;
    if (IsLaterOfOneLife(*own, *found)) {
      life->epoch = others;
      return true;
    }
  } else if (dht::RejectionOf(found.status()) !=
             dht::Rejection::kEquivocation) {
    if (!placed.contested || !absl::IsNotFound(found.status())) return false;
    if (placed.status.ok() && (!restored_.Has(manifest.job()) ||
                               life->unseen_raises++ >= kMostRaises)) {
      return false;
    }
  }
  if (!GoOnAsHead(*own, last, life)) Raise(others, *own, manifest, life);
  return true;
}

// After a restart: the name of a new version is still the other life's, but the
// head says that this one had raised the epoch.
bool Timeline::GoOnAsHead(const dht::OpenedRecord& own, const KeyedRecord& last,
                          Life* life) {
  const std::optional<dht::OpenedRecord> own_head = OwnOf(last.record);
  if (!own_head.has_value() || own_head->name == own.name) return false;
  const auto head = network_->Newest(last.key);
  if (!head.ok() || head->epoch <= own_head->epoch ||
      !IsLaterOfOneLife(*own_head, *head)) {
    return false;
  }
  life->epoch = head->epoch;
  return true;
}

void Timeline::Raise(uint64_t others, const dht::OpenedRecord& own,
                     const v1::ModelManifest& manifest, Life* life) {
  if (!restored_.Has(manifest.job())) {
    if (std::exchange(life->said_refused, true)) return;
    LogError(
        "nodes hold another record of the same name, which counts: a later "
        "state of this coordinator lives elsewhere, or did. What this one "
        "stores of the job is refused; if this is the copy that shall live, "
        "stop the other, and start this one again after removing "
        "journal.db-mark",
        {{"job", manifest.job()},
         {"version", manifest.version()},
         {"record", own.name}});
    return;
  }
  if (others == std::numeric_limits<uint64_t>::max()) return;
  life->epoch = others + 1;
  LogError(
      "nodes hold another record of the same name: the state of this "
      "coordinator was restored from an older copy, or there is a second "
      "coordinator of this federation. What this one stores counts from now on",
      {{"job", manifest.job()},
       {"version", manifest.version()},
       {"record", own.name}});
}

}  // namespace koinon::coordinator
