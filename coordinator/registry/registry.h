#ifndef KOINON_COORDINATOR_REGISTRY_REGISTRY_H_
#define KOINON_COORDINATOR_REGISTRY_REGISTRY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "dht/key.h"
#include "proto/job.pb.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// Who is alive and able. Pure: `now` and seeds are passed in. Not thread-safe.
//
// A worker is known from its registration until its lease runs out. A broken
// stream does not end the lease: the worker may come back within it and keeps
// its task.
class Registry {
 public:
  struct Options {
    absl::Duration lease;
    size_t max_workers;
  };
  struct Worker {
    WorkerId id;
    v1::Capabilities capabilities;
    std::string software_version;
    std::string address;
    // Its node, for others that fetch what it has; none: it takes no part.
    std::optional<dht::Contact> peer;
    absl::Time lease_ends;
    // Which of its streams is the current one: a newer one supersedes.
    uint64_t session = 0;
    bool connected = false;
  };

  explicit Registry(Options options) : options_(options) {}

  // Registers or re-registers; `session` becomes the current stream.
  // RESOURCE_EXHAUSTED if max_workers others are known.
  absl::Status Join(absl::Time now, Worker worker);
  // Events of superseded sessions change nothing and return false.
  bool Renew(absl::Time now, const WorkerId& id, uint64_t session);
  bool Disconnect(const WorkerId& id, uint64_t session);
  bool Leave(const WorkerId& id, uint64_t session);
  // Forgets the workers whose leases have run out, and returns them.
  std::vector<WorkerId> Expire(absl::Time now);
  absl::Time next_expiry() const;

  // Nodes of workers that have been disconnected or forgotten since the last
  // call and have not come back: nobody is sent there to fetch.
  std::vector<dht::Key> TakeGone() { return std::exchange(gone_, {}); }

  // Changes whenever workers() does in more than a lease.
  uint64_t generation() const { return generation_; }

  const Worker* Find(const WorkerId& id) const;
  const std::map<WorkerId, Worker>& workers() const { return workers_; }

  // Connected workers that have the job's dataset with at least one example
  // for training, and its external trainer if it names one, ascending.
  std::vector<WorkerId> Capable(const v1::JobSpec& spec) const;

 private:
  void SetLeaseEnd(Worker* worker, absl::Time lease_ends);
  void Forget(std::map<WorkerId, Worker>::iterator worker);
  void Erase(std::map<WorkerId, Worker>::iterator worker);
  // It is connected no longer.
  void NoteGone(const Worker& worker);
  // The worker if `session` is its current stream; null otherwise.
  Worker* Current(const WorkerId& id, uint64_t session);

  const Options options_;
  std::map<WorkerId, Worker> workers_;
  uint64_t generation_ = 0;
  std::vector<dht::Key> gone_;
  // Each worker once, by the end of its lease.
  std::set<std::pair<absl::Time, WorkerId>> by_lease_end_;
};

// `count` of `candidates` (ascending), drawn without replacement; ascending.
// The same seed and candidates give the same cohort. All, if there are fewer.
std::vector<WorkerId> SampleCohort(absl::Span<const WorkerId> candidates,
                                   size_t count, uint64_t seed);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_REGISTRY_REGISTRY_H_
