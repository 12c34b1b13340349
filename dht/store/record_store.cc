#include "dht/store/record_store.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/log.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "dht/store/quotas.h"
#include "dht/store/record_files.h"

namespace koinon::dht {
namespace {

struct Held {
  v1::Record record;
  // Of immutable ones without the value, which `record` has, and with the
  // signer of manifests.
  OpenedRecord opened;
  Key writer;          // whom it counts for
  bool is_own = true;  // the writer has stored it itself
  size_t bytes = 0;
  absl::Time stored;     // last
  absl::Time written;    // `stored`, as the file says
  absl::Time expires;    // never after opened.expires
  absl::Time republish;  // when it is to be handed on
};

RecordFile FileOf(const Held& held) {
  return {.record = held.record,
          .writer = held.writer,
          .stored = held.stored,
          .expires = held.expires};
}

Quotas::Options QuotaOptions(const RecordStore::Options& options) {
  return {.max_keys = options.max_keys,
          .max_bytes = options.max_bytes,
          .max_keys_per_writer = options.max_keys_per_writer,
          .max_bytes_per_writer = options.max_bytes_per_writer};
}

ProviderBook::Options BookOptions(const RecordStore::Options& options) {
  return {.max_contents = options.max_provider_keys,
          .max_providers = options.max_providers,
          .max_per_content = options.max_providers_per_key,
          .max_contents_per_provider = options.max_provider_keys_per_writer,
          .lifetime = options.provider_lifetime};
}

bool SameBytes(const v1::Record& a, const v1::Record& b) {
  return a.kind_case() == b.kind_case() && a.immutable() == b.immutable() &&
         a.signed_record() == b.signed_record();
}

absl::Duration RemainingOf(const v1::Record& record) {
  const double seconds = record.remaining_seconds();
  return seconds > 0 ? absl::Seconds(seconds) : absl::InfiniteDuration();
}

std::optional<Key> SignerOf(const OpenedRecord& opened,
                            const RecordTrust& trust, absl::Time now) {
  if (trust.authority == nullptr || opened.is_mutable) return opened.signer;
  return ManifestSigner(opened.value, trust, now);
}

bool IsDamage(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsOutOfRange(status);
}

}  // namespace

struct RecordStore::State {
  State(Env* env, std::string dir, const Options& options, RecordTrust trust)
      : files(env, std::move(dir)),
        options(options),
        trust(std::move(trust)),
        quotas(QuotaOptions(options)),
        providers(BookOptions(options)) {
    KOINON_CHECK(options.republish > absl::ZeroDuration());
  }

  using Records = std::map<Key, Held>;
  using Schedule = absl::btree_set<std::pair<absl::Time, Key>>;

  absl::Status Load(absl::Time now);
  absl::Status LoadFile(const Key& key, absl::Time now);

  absl::Status Put(const Key& key, const v1::Record& record, const Key& writer,
                   absl::Time now);
  bool IsPreferred(const OpenedRecord& opened) const;
  absl::StatusOr<bool> Replaces(const OpenedRecord& opened,
                                const OpenedRecord& known) const;
  absl::Status Renew(Records::iterator it, const Key& from, absl::Time now,
                     absl::Duration remaining);
  // Whom it counts for, now that `from` stores it: its signer, if that stores
  // it itself or has place for it, so that nobody who was faster can take it
  // away again.
  void Charge(const Key& from, Held* held) const;
  // The same for what is known. Invalidates `it`.
  void Recharge(Records::iterator it, const Key& from, absl::Time now);
  // `known`: where its place is taken, or the end.
  absl::Status Replace(Records::iterator known, const Key& key, Held held,
                       absl::Time now);
  // OK if it fits now.
  absl::Status MakeRoom(const Held& held, absl::Time now);
  // When it would be forgotten; kExpired if that is now or before.
  absl::StatusOr<absl::Time> ExpiryOf(const OpenedRecord& opened,
                                      absl::Time now,
                                      absl::Duration remaining) const;
  absl::Time RepublishTime(const Key& key, absl::Time stored) const;

  // The indices and the quotas follow the records; files are not touched.
  void Insert(const Key& key, Held held);
  Held Extract(Records::iterator it);
  void Forget(Records::iterator it);
  size_t SweepRecords(absl::Time now);

  RecordFiles files;
  const Options options;
  const RecordTrust trust;
  std::set<PublicKey> preferred;
  Records records;
  Schedule by_expiry;
  Schedule by_republish;
  // Of each writer: what it has not stored itself, then by when it was stored.
  using OfWriter = absl::btree_set<std::tuple<bool, absl::Time, Key>>;
  std::map<Key, OfWriter> by_writer;
  Quotas quotas;
  ProviderBook providers;
  RejectionCounts rejections;
  bool said_pushed_out = false;
};

// ---- Files ----

absl::Status RecordStore::State::Load(absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(const std::vector<Key> keys, files.Open());
  for (const Key& key : keys) {
    const absl::Status loaded = LoadFile(key, now);
    if (loaded.ok()) continue;
    if (!IsDamage(loaded) && !RejectionOf(loaded).has_value()) return loaded;
    LogInfo("a kept record is removed",
            {{"key", key.ToShortHex()}, {"reason", loaded}});
    ABSL_RETURN_IF_ERROR(files.Remove(key));
  }
  // Only now: what others brought is not to take the places of what its signer
  // has stored itself.
  for (const Key& key : keys) {
    const auto it = records.find(key);
    if (it == records.end()) continue;
    Held held = Extract(it);
    Charge(Key(held.writer), &held);
    Insert(key, std::move(held));
  }
  return absl::OkStatus();
}

absl::Status RecordStore::State::LoadFile(const Key& key, absl::Time now) {
  ABSL_ASSIGN_OR_RETURN(RecordFile file, files.Read(key));
  ABSL_ASSIGN_OR_RETURN(OpenedRecord opened,
                        OpenRecord(key, file.record, trust, now));
  Held held;
  held.record = std::move(file.record);
  opened.signer = SignerOf(opened, trust, now);
  held.opened = std::move(opened);
  held.writer = file.writer;
  held.bytes = held.record.ByteSizeLong();
  // A clock that was set back must not make it live for longer.
  held.stored = held.written = std::min(file.stored, now);
  ABSL_ASSIGN_OR_RETURN(held.expires, ExpiryOf(held.opened, held.stored,
                                               file.expires - held.stored));
  if (held.expires <= now) {
    return RejectedError(Rejection::kExpired, "nobody has stored it again");
  }
  ABSL_RETURN_IF_ERROR(quotas.Check(held.writer, held.bytes));
  Insert(key, std::move(held));
  return absl::OkStatus();
}

// ---- Records ----

absl::StatusOr<absl::Time> RecordStore::State::ExpiryOf(
    const OpenedRecord& opened, absl::Time now,
    absl::Duration remaining) const {
  const absl::Time expires =
      std::min(now + std::min(options.lifetime, remaining), opened.expires);
  if (expires <= now) {
    return RejectedError(
        Rejection::kExpired,
        absl::StrCat("a record that would be forgotten at once: it has ",
                     absl::FormatDuration(expires - now), " left"));
  }
  return expires;
}

absl::Time RecordStore::State::RepublishTime(const Key& key,
                                             absl::Time stored) const {
  uint64_t place = 0;
  std::memcpy(&place, key.bytes().data(), sizeof(place));
  const double later = UniformAt(DeriveSeed(options.seed, place), 0) / 4;
  return stored + options.republish * (1 + later);
}

absl::Status RecordStore::State::Put(const Key& key, const v1::Record& record,
                                     const Key& writer, absl::Time now) {
  const absl::Duration remaining = RemainingOf(record);
  auto it = records.find(key);
  if (it != records.end() && it->second.expires <= now) {
    Forget(it);
    it = records.end();
  }
  // What was verified once need not be again.
  if (it != records.end() && SameBytes(it->second.record, record)) {
    return Renew(it, writer, now, remaining);
  }
  ABSL_ASSIGN_OR_RETURN(OpenedRecord opened,
                        OpenRecord(key, record, trust, now));
  if (it != records.end()) {
    if (!opened.is_mutable) return Renew(it, writer, now, remaining);
    ABSL_ASSIGN_OR_RETURN(const bool replaces,
                          Replaces(opened, it->second.opened));
    if (!replaces) return Renew(it, writer, now, remaining);
  }
  Held held;
  ABSL_ASSIGN_OR_RETURN(held.expires, ExpiryOf(opened, now, remaining));
  held.record = record;
  held.record.DiscardUnknownFields();  // which nobody has looked at
  held.record.clear_remaining_seconds();
  opened.signer = SignerOf(opened, trust, now);
  held.opened = std::move(opened);
  held.writer = writer;
  held.bytes = held.record.ByteSizeLong();
  held.stored = held.written = now;
  // In the place of one that counts for the signer, it does too.
  if (it != records.end() && held.opened.signer == it->second.writer) {
    held.writer = it->second.writer;
    held.is_own = false;
  }
  Charge(writer, &held);
  return Replace(it, key, std::move(held), now);
}

bool RecordStore::State::IsPreferred(const OpenedRecord& opened) const {
  return opened.owner == kServerOwner && preferred.contains(opened.signing_key);
}

// Whether it is to be kept in place of what is known; if not, and there is no
// error, it is the same.
absl::StatusOr<bool> RecordStore::State::Replaces(
    const OpenedRecord& opened, const OpenedRecord& known) const {
  if (IsPreferred(opened) != IsPreferred(known)) {
    if (IsPreferred(opened)) return true;
    return RejectedError(
        Rejection::kUntrustedSigner,
        absl::StrCat("record ", opened.name, " of the coordinator is known, ",
                     "found another that ", opened.signing_key.ToHex(),
                     " has signed"));
  }
  const Newer newer = Compare(known, opened);
  if (newer == Newer::kFirst) {
    return RejectedError(
        Rejection::kRolledBack,
        absl::StrCat("record ", opened.name, ": epoch ", known.epoch,
                     " sequence ", known.sequence, " is known, found ",
                     opened.epoch, " ", opened.sequence));
  }
  if (newer == Newer::kConflict) {
    return RejectedError(
        Rejection::kEquivocation,
        absl::StrCat("record ", opened.name, ": two values of epoch ",
                     opened.epoch, " sequence ", opened.sequence));
  }
  return newer == Newer::kSecond || opened.expires > known.expires;
}

void RecordStore::State::Charge(const Key& from, Held* held) const {
  const std::optional<Key>& signer = held->opened.signer;
  if (signer.has_value() && held->writer != *signer &&
      (from == *signer || quotas.WithinOwn(*signer, held->bytes))) {
    held->writer = *signer;
    held->is_own = false;
  }
  held->is_own |= from == held->writer;
}

void RecordStore::State::Recharge(Records::iterator it, const Key& from,
                                  absl::Time now) {
  const std::optional<Key>& signer = it->second.opened.signer;
  if (!signer.has_value() || it->second.writer == *signer) return;
  Held held = it->second;
  Charge(from, &held);
  if (held.writer == it->second.writer) return;
  // If the disk does not take it, it counts as before.
  Replace(it, Key(it->first), std::move(held), now).IgnoreError();
}

absl::Status RecordStore::State::Renew(Records::iterator it, const Key& from,
                                       absl::Time now,
                                       absl::Duration remaining) {
  const Key key = it->first;
  Recharge(it, from, now);
  it = records.find(key);
  Held renewed = it->second;
  ABSL_ASSIGN_OR_RETURN(const absl::Time expires,
                        ExpiryOf(renewed.opened, now, remaining));
  renewed.expires = std::max(renewed.expires, expires);
  renewed.stored = std::max(renewed.stored, now);
  renewed.is_own |= from == renewed.writer;
  // The file may lag: after a restart the record is then forgotten sooner.
  if (now >= renewed.written + options.republish &&
      files.Stage(key, FileOf(renewed)).ok() && files.Commit(key).ok()) {
    renewed.written = now;
  }
  Extract(it);
  Insert(key, std::move(renewed));
  return absl::OkStatus();
}

absl::Status RecordStore::State::Replace(Records::iterator known,
                                         const Key& key, Held held,
                                         absl::Time now) {
  std::optional<Held> before;
  if (known != records.end()) before = Extract(known);
  // Nobody loses a record to one that a full disk cannot take.
  absl::Status kept = files.Stage(key, FileOf(held));
  if (kept.ok()) {
    kept = MakeRoom(held, now);
    if (kept.ok()) {
      kept = files.Commit(key);
    } else {
      files.Discard(key);
    }
  }
  if (kept.ok()) {
    Insert(key, std::move(held));
  } else if (before.has_value()) {
    Insert(key, *std::move(before));
  }
  return kept;
}

absl::Status RecordStore::State::MakeRoom(const Held& held, absl::Time now) {
  const absl::Status fits = quotas.Check(held.writer, held.bytes);
  if (fits.ok()) return fits;
  SweepRecords(now);
  const auto push_out_oldest = [this](const Key& writer) {
    if (!std::exchange(said_pushed_out, true)) {
      LogWarning(
          "records are pushed out: a writer stores more than its share, or all "
          "is full and it has the most; more are counted as refused_quota",
          {{"writer", writer.ToShortHex()},
           {"keys", by_writer.at(writer).size()}});
    }
    Forget(records.find(std::get<Key>(*by_writer.at(writer).begin())));
    rejections.Count(Rejection::kQuota);
  };
  // A few that have all they may together must not keep the others out.
  if (held.bytes <= options.max_bytes_per_writer) {
    while (const auto writer = quotas.MakesRoom(held.writer, held.bytes)) {
      push_out_oldest(*writer);
    }
  }
  while (quotas.OverOwn(held.writer, held.bytes)) {
    push_out_oldest(held.writer);
  }
  return quotas.Check(held.writer, held.bytes);
}

void RecordStore::State::Insert(const Key& key, Held held) {
  if (!held.opened.is_mutable) {
    held.opened.value.clear();
    held.opened.value.shrink_to_fit();
  }
  held.republish = RepublishTime(key, held.stored);
  quotas.Charge(held.writer, held.bytes);
  by_republish.emplace(held.republish, key);
  // What comes last mostly stands last, too.
  by_expiry.emplace_hint(by_expiry.end(), held.expires, key);
  OfWriter& of_writer = by_writer[held.writer];
  of_writer.emplace_hint(of_writer.end(), held.is_own, held.stored, key);
  records.emplace(key, std::move(held));
}

Held RecordStore::State::Extract(Records::iterator it) {
  Held held = std::move(it->second);
  quotas.Release(held.writer, held.bytes);
  by_expiry.erase({held.expires, it->first});
  by_republish.erase({held.republish, it->first});
  const auto written = by_writer.find(held.writer);
  written->second.erase({held.is_own, held.stored, it->first});
  if (written->second.empty()) by_writer.erase(written);
  records.erase(it);
  return held;
}

void RecordStore::State::Forget(Records::iterator it) {
  const Key key = it->first;
  Extract(it);
  // If it stays, it says itself until when it counts.
  files.Remove(key).IgnoreError();
}

size_t RecordStore::State::SweepRecords(absl::Time now) {
  size_t swept = 0;
  while (!by_expiry.empty() && by_expiry.begin()->first <= now) {
    Forget(records.find(by_expiry.begin()->second));
    ++swept;
  }
  return swept;
}

// ---- The face ----

RecordStore::RecordStore(std::unique_ptr<State> state)
    : state_(std::move(state)) {}
RecordStore::~RecordStore() = default;

absl::StatusOr<std::unique_ptr<RecordStore>> RecordStore::Open(
    Env* env, const std::string& dir, Options options, RecordTrust trust,
    absl::Time now) {
  auto state = std::make_unique<State>(env, dir, options, std::move(trust));
  ABSL_RETURN_IF_ERROR(state->Load(now));
  return std::unique_ptr<RecordStore>(new RecordStore(std::move(state)));
}

absl::Status RecordStore::Put(const Key& key, const v1::Record& record,
                              const Key& writer, absl::Time now) {
  absl::Status put = state_->Put(key, record, writer, now);
  state_->rejections.Count(put);
  return put;
}

void RecordStore::Prefer(const PublicKey& server) {
  if (state_->trust.authority == nullptr) state_->preferred.insert(server);
}

std::optional<RecordStore::Stored> RecordStore::Get(const Key& key,
                                                    absl::Time now) const {
  const auto it = state_->records.find(key);
  if (it == state_->records.end() || it->second.expires <= now) {
    return std::nullopt;
  }
  const Held& held = it->second;
  Stored stored{held.record, held.opened, held.expires};
  stored.record.set_remaining_seconds(
      absl::ToDoubleSeconds(held.expires - now));
  if (!stored.opened.is_mutable) {
    stored.opened.value = held.record.immutable();
  }
  return stored;
}

absl::Status RecordStore::AddProvider(const Key& key, const Contact& provider,
                                      absl::Time now) {
  absl::Status added = state_->providers.Add(key, provider, now);
  state_->rejections.Count(added);
  return added;
}

void RecordStore::RemoveProvider(const Key& key, const Key& provider) {
  state_->providers.Remove(key, provider);
}

size_t RecordStore::max_contents_of_provider() const {
  return state_->options.max_provider_keys_per_writer;
}

std::vector<RecordStore::ProviderUntil> RecordStore::Providers(
    const Key& key, size_t count, absl::Time now,
    const std::string& site) const {
  return state_->providers.Find(key, count, now, site);
}

size_t RecordStore::Sweep(absl::Time now) {
  return state_->SweepRecords(now) + state_->providers.Sweep(now);
}

std::vector<Key> RecordStore::ToRepublish(absl::Time now, size_t count) {
  std::vector<Key> keys;
  State::Schedule& schedule = state_->by_republish;
  while (keys.size() < count && !schedule.empty() &&
         schedule.begin()->first <= now) {
    const Key key = schedule.begin()->second;
    Held& held = state_->records.at(key);
    schedule.erase(schedule.begin());
    held.republish = state_->RepublishTime(key, now);
    schedule.emplace(held.republish, key);
    if (held.expires > now) keys.push_back(key);
  }
  return keys;
}

std::vector<Key> RecordStore::All() const {
  std::vector<Key> keys;
  for (const auto& [key, held] : state_->records) keys.push_back(key);
  return keys;
}

RecordStore::Totals RecordStore::totals() const {
  return {.records = state_->records.size(),
          .record_bytes = state_->quotas.bytes(),
          .provider_keys = state_->providers.contents(),
          .providers = state_->providers.providers(),
          .writers = state_->quotas.writers()};
}

const RejectionCounts& RecordStore::rejections() const {
  return state_->rejections;
}

}  // namespace koinon::dht
