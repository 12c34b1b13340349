#ifndef KOINON_WORKER_COLLECTIVE_WAITER_H_
#define KOINON_WORKER_COLLECTIVE_WAITER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "worker/collective/shared_flag.h"

namespace koinon::worker {

// How one rank waits for the others: at first awake, then asleep, and not for
// ever. Time is counted in slices of sleep, so that a rank that was itself
// stopped for an hour does not accuse the others of it.
//
// Used by one thread at a time.
class Waiter {
 public:
  struct Options {
    // Without progress of the rank that is waited for.
    absl::Duration limit = absl::Seconds(60);
    // Looks at a flag before going to sleep. 0 where ranks share cores.
    int spins = 0;
    // Whether a rank of this node is alive; null: not known.
    std::function<bool(int node_rank)> alive;
    // "rank 3 (host b)", for messages.
    std::function<std::string(int node_rank)> name;
    // Called now and then while asleep; returns whether something is under way
    // that should be called for again soon. Null: nothing.
    std::function<bool()> progress;
  };
  explicit Waiter(Options options) : options_(std::move(options)) {}

  // Until a flag of node rank `whom` reaches `target`. UNAVAILABLE, naming the
  // rank, if it died or made no progress for limit + `grace`: the grace of a
  // rank that is itself only waiting for another, so that the nearest witness
  // speaks first.
  absl::Status Await(const SharedFlag& flag, uint32_t target, int whom,
                     absl::Duration grace = absl::ZeroDuration());

  // Until `done`, asked again and again. UNAVAILABLE with `whom` (called then)
  // once it took longer than limit + grace; an infinite grace: never.
  absl::Status AwaitPoll(absl::FunctionRef<absl::StatusOr<bool>()> done,
                         absl::FunctionRef<std::string()> whom,
                         absl::Duration grace = absl::ZeroDuration());

  absl::Duration limit() const { return options_.limit; }

 private:
  absl::Status Sleep(const SharedFlag& flag, uint32_t target, int whom,
                     absl::Duration grace);

  const Options options_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_WAITER_H_
