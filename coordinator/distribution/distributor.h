#ifndef KOINON_COORDINATOR_DISTRIBUTION_DISTRIBUTOR_H_
#define KOINON_COORDINATOR_DISTRIBUTION_DISTRIBUTOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/local_node.h"
#include "base/mutex.h"
#include "coordinator/distribution/publish_schedule.h"
#include "coordinator/distribution/record_network.h"
#include "coordinator/distribution/record_writer.h"
#include "coordinator/engine/version_outlet.h"
#include "coordinator/models/model_store.h"
#include "dht/key.h"
#include "dht/swarm/content_board.h"

namespace koinon::coordinator {

// Spreads what the engine publishes: versions and deltas are put on the board,
// from which others fetch, and their records into the DHT, by a thread of its
// own that tries again for as long as the version is kept. Nothing waits for
// it. Thread-safe.
class Distributor final : public VersionOutlet {
 public:
  struct Options {
    PublishSchedule::Options schedule;
    // Between two versions, so that a start with many kept ones is no storm.
    absl::Duration pause = absl::Milliseconds(50);
    // Memory for hashes of what is served, 2 bytes for each KiB; and versions,
    // each of which holds a descriptor. With more, the lowest ones are served
    // no longer, but for each job's newest; they can still be pulled.
    int64_t max_hash_bytes = int64_t{256} << 20;
    size_t max_served = 128;
    // Of those who fetch a version, so many are named to each that asks.
    size_t others = 20;
  };

  // Everything is borrowed. `network` may be null: then there is no DHT.
  Distributor(Options options, const ModelStore* store,
              dht::ContentBoard* board, RecordNetwork* network,
              const LocalNode* signer, const Clock* clock);
  // As Stop.
  ~Distributor() override;

  // Begins to store records. Once.
  void Start();
  // Ends the thread, once the record that is being stored is, or its Put is
  // ended from elsewhere.
  void Stop();

  std::optional<v1::Contact> Self() override;
  void Serve(const v1::ModelManifest& manifest) override;
  void Announce(const JobRow& job, const v1::ModelManifest& manifest,
                bool newest) override;
  void Withdraw(const v1::ModelManifest& manifest) override;
  void WithdrawDelta(const v1::ModelManifest& manifest) override;
  void SetPeers(const JobId& job, std::vector<dht::Contact> peers) override;
  void OnGone(const dht::Key& node) override;

 private:
  using Contacts = std::shared_ptr<const std::vector<dht::Contact>>;

  void Run();
  // The next version that is due; none once it is to stop.
  std::optional<PublishSchedule::Entry> AwaitEntry();
  absl::Status Publish(const PublishSchedule::Entry& entry);
  void Finish(const PublishSchedule::Entry& entry, const absl::Status& status);
  bool Rest();
  // What the version had there before goes.
  void AddToBoard(const v1::ModelManifest& manifest, const Digest& file_digest,
                  std::vector<std::shared_ptr<dht::ContentFile>> contents);
  void RemoveFromBoard(const JobId& job, int64_t version);
  void MakeRoom();
  std::optional<std::pair<int64_t, JobId>> LowestOldVersion() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsServed(const v1::ModelManifest& manifest) const;
  std::vector<dht::Contact> OthersOf(const Digest& root);

  const Options options_;
  const ModelStore* const store_;
  dht::ContentBoard* const board_;
  RecordNetwork* const network_;
  const Clock* const clock_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  PublishSchedule schedule_ ABSL_GUARDED_BY(mutex_);
  bool said_full_ ABSL_GUARDED_BY(mutex_) = false;
  struct Served {
    std::vector<Digest> roots;  // the file's first
    Digest file_digest;
    int64_t hash_bytes = 0;
  };
  // By version, then job: the lowest versions give way first.
  std::map<std::pair<int64_t, JobId>, Served> served_ ABSL_GUARDED_BY(mutex_);
  int64_t hash_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool said_no_room_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<Digest, JobId> job_of_root_ ABSL_GUARDED_BY(mutex_);
  std::map<JobId, Contacts> peers_ ABSL_GUARDED_BY(mutex_);
  uint64_t asked_ ABSL_GUARDED_BY(mutex_) = 0;

  RecordWriter writer_;  // the thread's own
  std::thread thread_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_DISTRIBUTOR_H_
