#ifndef KOINON_WORKER_COLLECTIVE_SITE_EXCHANGE_H_
#define KOINON_WORKER_COLLECTIVE_SITE_EXCHANGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "proto/job.pb.h"
#include "worker/collective/communicator.h"
#include "worker/train/gradient_exchange.h"

namespace koinon::worker {

// How the ranks of a site make one step of their gradients, or, with
// site_steps > 1, one model of theirs every so many steps (local SGD: Stich
// 2019, algorithm 1).
//
// Where ranks gain by it (GainsBeside), gradients are summed bucket by bucket
// by a thread of its own, beside the way back that still computes others: from
// the model's end to its beginning, the order in which the way back comes by.
// The order is fixed, so that every rank sums the same buckets in the same
// order whatever it is told when. Elsewhere they are summed at once, in Finish.
// A sum has the same bytes either way.
//
// While a step is under way (from Start to Finish), the communicator is this
// object's; it and the clock must outlive it.
class SiteExchange final : public GradientExchange {
 public:
  struct Options {
    const Clock* clock = nullptr;
    int64_t steps = 0;       // of the whole run
    int64_t site_steps = 1;  // TrainingSpec.site_steps; 0: 1
    size_t parameters = 0;   // of the model
    // Elements summed at once beside the way back. Zero: follows from the
    // number of parameters.
    size_t bucket = 0;
    // Whether sums are made beside the way back; none: GainsBeside. The same
    // on every rank.
    std::optional<bool> beside = std::nullopt;
  };
  // Whether ranks gain by sums beside the way back: if there is a processor to
  // make them on, or a network to wait for. Where a rank has a single processor
  // and shares memory with all the others they do not: two threads would only
  // take turns on it, and ranks wait for each other's turns; unless sums are so
  // long that these waits are nothing beside them. The same on every rank.
  static bool GainsBeside(const Communicator::Place& place, size_t parameters) {
    return place.nodes > 1 || place.least_cores >= 2 ||
           parameters >= kManyParameters;
  }
  static constexpr size_t kManyParameters = size_t{8} << 20;

  SiteExchange(Communicator* communicator, const Options& options);
  ~SiteExchange() override;

  void Start(int64_t step, double weight, absl::Span<float> gradients) override;
  void Ready(size_t begin, size_t end) override;
  absl::Status Finish(const absl::Status& own) override;
  absl::Status Stepped(int64_t step, absl::Span<float> parameters) override;

  // What the training waited for it so far: in Finish and Stepped.
  absl::Duration waited() const { return waited_; }

 private:
  // Whether ranks sum gradients; else they average parameters now and then.
  bool SumsGradients() const { return options_.site_steps <= 1; }
  absl::Status SumAtOnce(const absl::Status& own);
  absl::Status AwaitBuckets(const absl::Status& own);
  void Run();
  bool AwaitStep();
  // The step's buckets, then whether it went well everywhere.
  absl::Status SumBuckets();
  absl::Status SumBucket(size_t index);
  // OK if `failed` is false on every rank, FAILED_PRECONDITION if it is not.
  absl::Status AgreeThatAllIsWell(bool failed);
  // What went wrong, once that something did is known everywhere.
  absl::Status Blame(const absl::Status& own);
  void Count(size_t begin, size_t end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Communicator* const communicator_;
  const Options options_;
  const bool beside_;
  absl::Duration waited_;  // the training thread's

  Mutex mutex_;
  CondVar changed_;
  size_t bucket_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Span<float> gradients_ ABSL_GUARDED_BY(mutex_);
  float weight_ ABSL_GUARDED_BY(mutex_) = 0;
  // Elements of each bucket that are not ready yet.
  std::vector<size_t> missing_ ABSL_GUARDED_BY(mutex_);
  bool summing_ ABSL_GUARDED_BY(mutex_) = false;   // a step is under way
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // this rank's part of it
  bool own_failed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // if beside_; last: uses all the others
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_SITE_EXCHANGE_H_
