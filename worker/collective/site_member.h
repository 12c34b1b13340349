#ifndef KOINON_WORKER_COLLECTIVE_SITE_MEMBER_H_
#define KOINON_WORKER_COLLECTIVE_SITE_MEMBER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/clock.h"
#include "kernels/graph/model_graph.h"
#include "proto/job.pb.h"
#include "worker/collective/communicator.h"
#include "worker/collective/site_exchange.h"
#include "worker/train/batches.h"
#include "worker/train/training_totals.h"

namespace koinon::worker {

// One process's part in the training of one task: as a rank of a site, or
// alone. What ranks do together between the steps; alone, each of it is
// nothing. All ranks make the same calls in the same order.
//
// Errors of one rank become errors of all (Agree), so that none waits for one
// that gave up. Not thread-safe; the communicator and the clock must outlive
// it.
class SiteMember {
 public:
  // communicator: null for a process that trains alone.
  SiteMember(Communicator* communicator, const Clock* clock);

  bool alone() const { return communicator_ == nullptr; }
  // Whether this one reads the base version and writes the update.
  bool leads() const { return alone() || communicator_->place().rank == 0; }
  Shard shard() const;

  // `own` if alone; otherwise OK only if it is on every rank.
  absl::Status Agree(const absl::Status& own);
  // values: [n], become those of the rank that leads.
  absl::Status Share(absl::Span<float> values);

  // For TrainingRun; null if alone.
  GradientExchange* BeginRun(const v1::TrainingSpec& spec, int64_t steps,
                             size_t parameters);
  // After the run: averages what training itself set (ModelGraph::is_buffer),
  // checks that all ranks have the same parameters (INTERNAL if not), and adds
  // the totals up.
  absl::Status EndRun(const kernels::ModelGraph& graph,
                      absl::Span<float> parameters, TrainingTotals* totals);

  // What the ranks exchanged since this was made. Requires !alone().
  v1::SiteCommunication Communication() const;

 private:
  absl::Status AverageBuffers(const kernels::ModelGraph& graph,
                              absl::Span<float> parameters);
  // Does `work`, which is waited for.
  template <typename Work>
  absl::Status Waited(Work work);

  Communicator* const communicator_;
  const Clock* const clock_;
  Communicator::Totals before_;
  absl::Duration waited_;  // before and after the steps
  absl::Time run_began_;
  absl::Duration in_steps_;
  std::unique_ptr<SiteExchange> exchange_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_SITE_MEMBER_H_
