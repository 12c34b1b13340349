#ifndef KOINON_DHT_STORE_RECORD_STORE_H_
#define KOINON_DHT_STORE_RECORD_STORE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/env.h"
#include "base/signing.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"
#include "dht/store/provider_book.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// What a node keeps for others: records, on disk and in memory (so that memory
// is bounded by about twice `max_bytes`), and who provides what, in memory.
// Everything is verified before it is kept and bounded in bytes and keys, in
// total and for each writer: one that writes more than its share pushes out
// what it stored longest ago, and nobody else notices. Where the total is full,
// the writer that has the most loses its oldest to one that has less. What has
// expired is never given out. Not thread-safe: the node's one thread owns it.
//
// A writer is whoever's channel the record came by (a node id). What an
// authority's certificate says that a node has signed, manifests among it,
// counts for that node whoever brings it, as long as that is within its share,
// and what others brought goes first when it stores more itself. Else whoever
// was first could push out what another has signed with what it stores later,
// or use up the share of somebody whose old records it stores again. A record
// that another holder hands on counts for the one that hands it on only if it
// is new here.
class RecordStore {
 public:
  struct Options {
    size_t max_keys = 65'536;
    size_t max_bytes = 64 << 20;
    size_t max_keys_per_writer = 4'096;
    size_t max_bytes_per_writer = 8 << 20;
    size_t max_provider_keys = 65'536;
    size_t max_providers = 131'072;  // of all keys together
    size_t max_providers_per_key = 64;
    size_t max_provider_keys_per_writer = 1'024;
    // A record that whom it is from has not stored again for so long is
    // forgotten; others keep it alive up to then. As long as manifests count:
    // what workers keep must be found for weeks after a coordinator died.
    absl::Duration lifetime = absl::Hours(30 * 24);
    absl::Duration provider_lifetime = absl::Minutes(10);
    // A record that nobody has stored again for so long is to be handed on; up
    // to a quarter later, as `seed` draws it. Holders with different seeds so
    // do not all hand it on at once, and the first one spares the others
    // theirs.
    absl::Duration republish = absl::Hours(1);
    uint64_t seed = 0;
  };

  // Records are kept as files in `dir`, which belongs to this store alone: one
  // for each key, written atomically and not synced (others hold copies); what
  // a crash or a bad disk has left of one is found by its checksum, signature
  // or hash when it is read back, and removed; so are records that have
  // expired, are of another federation, or are over the quotas. Other files are
  // left alone. An empty `dir`: in memory only. `trust` is copied. Errors: of
  // the directory, or of too few descriptors.
  static absl::StatusOr<std::unique_ptr<RecordStore>> Open(
      Env* env, const std::string& dir, Options options, RecordTrust trust,
      absl::Time now);
  ~RecordStore();

  // Keeps the record for `options.lifetime`, until its own expiry, or for its
  // `remaining_seconds` if a holder said so, whichever comes first; the same
  // one again begins its lifetime anew, if that is longer than what is left.
  // RejectedErrors, counted: whatever OpenRecord refuses, kExpired for what
  // would be forgotten at once, kRolledBack, kEquivocation (the first stays),
  // kQuota (it does not fit in the total, or is more than the writer's whole
  // share): older records of the writer's may be gone for it. Other errors: the
  // disk's, of a new record; the store is as before, unless the disk had taken
  // all but the file's name: then those that made room are gone. What is known
  // already is kept on in memory where the disk fails.
  absl::Status Put(const Key& key, const v1::Record& record, const Key& writer,
                   absl::Time now);

  // In plaintext: this key's records are the server's, as far as is known here
  // (Peer::AddPinned). They replace those of keys of which that is not known,
  // whatever the numbers of these, and are replaced by none of them
  // (kUntrustedSigner).
  void Prefer(const PublicKey& server);

  struct Stored {
    v1::Record record;  // with its remaining_seconds, over zero
    OpenedRecord opened;
    absl::Time expires;  // when this store forgets it
  };
  std::optional<Stored> Get(const Key& key, absl::Time now) const;

  // `provider` provides the content `key` for `options.provider_lifetime`; the
  // caller has checked that it announced itself. kQuota, counted: who lives is
  // never pushed out.
  absl::Status AddProvider(const Key& key, const Contact& provider,
                           absl::Time now);
  void RemoveProvider(const Key& key, const Key& provider);
  size_t max_contents_of_provider() const;
  using ProviderUntil = ProviderBook::ProviderUntil;
  // Those of `site` first unless it is empty, and the last announced first; at
  // most `count`.
  std::vector<ProviderUntil> Providers(const Key& key, size_t count,
                                       absl::Time now,
                                       const std::string& site = "") const;

  // Forgets what has expired. Returns how many records and providers.
  size_t Sweep(absl::Time now);
  // Records that are to be handed on (`options.republish`), at most `count`;
  // each is given out once in that time.
  std::vector<Key> ToRepublish(absl::Time now, size_t count);
  std::vector<Key> All() const;  // of records, ascending

  struct Totals {
    size_t records = 0;
    size_t record_bytes = 0;
    size_t provider_keys = 0;
    size_t providers = 0;
    size_t writers = 0;
  };
  Totals totals() const;
  const RejectionCounts& rejections() const;

 private:
  struct State;
  explicit RecordStore(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_RECORD_STORE_H_
