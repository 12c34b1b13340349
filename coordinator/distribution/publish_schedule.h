#ifndef KOINON_COORDINATOR_DISTRIBUTION_PUBLISH_SCHEDULE_H_
#define KOINON_COORDINATOR_DISTRIBUTION_PUBLISH_SCHEDULE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "absl/time/time.h"
#include "base/ids.h"
#include "proto/job.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Which version's records are to be stored in the DHT next: new ones at once,
// after a failure again with growing pauses, and after a success again too, for
// nodes come and go: soon at first, since the first workers may not have been
// there yet, then rarely, since holders keep records alive among themselves.
//
// A holder keeps so many keys of one writer (dht::RecordStore), and with more
// of them pushes out those that were stored longest ago. So only so many
// versions are stored again, and all heads are once so many others were stored:
// they are never the oldest. Each other is stored once.
//
// Bounded by what is added and not removed. Pure: told `now`. Not thread-safe.
class PublishSchedule {
 public:
  struct Options {
    // Of all jobs, that are stored again. With one more, that with the lowest
    // number which is not its job's newest and not pinned is given up once it
    // is stored; if there is none, the lowest pinned one; if all are newest,
    // that which was added longest ago. With up to four keys each, they are
    // half of what a holder keeps.
    size_t max_versions = 512;
    // Once so many versions have been stored, not counting heads that were
    // stored again, each job's newest is due again.
    size_t heads_every = 256;
    absl::Duration first_retry = absl::Seconds(1);  // doubled each time, up to
    absl::Duration last_retry = absl::Minutes(5);
    absl::Duration first_refresh = absl::Minutes(1);  // likewise
    absl::Duration last_refresh = absl::Hours(6);
  };
  struct Entry {
    // Second owners: whoever is storing its records.
    std::shared_ptr<const v1::JobSpec> spec;
    std::shared_ptr<const v1::ModelManifest> manifest;
    bool newest = false;       // of its job
    uint64_t least_epoch = 0;  // RecordsOf
    uint64_t number = 0;       // tells it from what it replaces
    int failures = 0;          // in a row
  };

  explicit PublishSchedule(Options options) : options_(options) {}

  // Due at once, in place of an earlier one of this version. One with `newest`
  // takes that from the others of its job. False: the bound was hit, and one
  // is not stored again.
  bool Add(absl::Time now, std::shared_ptr<const v1::JobSpec> spec,
           std::shared_ptr<const v1::ModelManifest> manifest, bool newest,
           uint64_t least_epoch);
  void Remove(const JobId& job, int64_t version);

  // Of those that are due: a job's newest before all others, so that a backlog
  // holds up no head, and those that are stored only once after all others, so
  // that these do not become the oldest meanwhile; then the one that has been
  // due for longest, then the higher version. It stays due until Done.
  std::optional<Entry> Next(absl::Time now) const;
  absl::Time next_due() const;
  // The outcome for an entry that Next gave; nothing if it was replaced or
  // removed meanwhile.
  void Done(absl::Time now, const Entry& entry, bool ok);

  // Whether it is scheduled still, and was not replaced.
  bool Contains(const Entry& entry) const;
  size_t size() const { return entries_.size(); }

 private:
  using Key = std::pair<JobId, int64_t>;
  struct Scheduled {
    Entry entry;
    absl::Time due;
    int successes = 0;
    bool once = false;  // beyond the bound
  };
  // What is worth least comes first: neither newest nor pinned, pinned, newest;
  // then the version, or of the newest the number; then the key.
  using Worth = std::tuple<int, int64_t, Key>;
  static Worth WorthOf(const Key& key, const Scheduled& scheduled);
  // Due, minus the version, job.
  using Order = std::set<std::tuple<absl::Time, int64_t, JobId>>;
  Order* OrderOf(const Scheduled& scheduled) {
    if (scheduled.entry.newest) return &newest_;
    return scheduled.once ? &once_ : &others_;
  }
  void Enter(const Key& key, const Scheduled& scheduled);
  void Leave(const Key& key, const Scheduled& scheduled);
  void Erase(std::map<Key, Scheduled>::iterator it);
  void MakeRoom();
  void MakeHeadsDue(absl::Time now);

  const Options options_;
  std::map<Key, Scheduled> entries_;
  std::set<Worth> again_;  // those that are not stored only once
  Order newest_;
  Order others_;
  Order once_;
  uint64_t next_number_ = 1;
  size_t stored_since_heads_ = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_PUBLISH_SCHEDULE_H_
