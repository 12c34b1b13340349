#ifndef KOINON_COORDINATOR_DISTRIBUTION_RECOVERY_H_
#define KOINON_COORDINATOR_DISTRIBUTION_RECOVERY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/ids.h"
#include "base/signing.h"
#include "coordinator/journal/journal.h"
#include "coordinator/models/manifest_signer.h"
#include "coordinator/models/model_store.h"
#include "dht/peer.h"

namespace koinon::coordinator {

// Brings a job back whose journal is lost: from the DHT, what it was and which
// version was its last; from the workers, that version's bytes. The job goes on
// with the round after it, under the time of submission that it had, and its
// records count before all that were stored of it. What only the journal knew
// is gone: the rounds' reports, versions before the last, and
// the measurements that an early stop looks back on.
//
// A job whose next round begins from more than a version (a server optimizer's
// momentum, a rule's last aggregate, control variates) comes back as a failed
// one that says so; its version can start another.
class JobRecovery {
 public:
  struct Options {
    int64_t max_model_bytes = 0;
    // In plaintext, where several keys have signed the job's head: whose is
    // meant. Without, this coordinator's own, if it is one of them.
    std::optional<PublicKey> head_signer = {};
    absl::Duration join_patience = absl::Seconds(30);
    absl::Duration fetch_patience = absl::Seconds(60);  // with nothing coming
  };
  // Everything is borrowed. The peer has been started; it need not serve.
  JobRecovery(Options options, dht::Peer* peer, ModelStore* store,
              const ManifestSigner* signer, const Clock* clock)
      : options_(options),
        peer_(peer),
        store_(store),
        signer_(signer),
        clock_(clock) {}

  // The job's rows, to be committed; the version is in the store. Errors, all
  // naming the job: ALREADY_EXISTS if `contents` have it; UNAVAILABLE if no
  // node answers, or the transfer breaks off (what has come is kept for the
  // next attempt); NOT_FOUND if nobody knows it, its manifest or its
  // specification, or nobody has its file; what dht::OpenManifest says of a
  // manifest that does not stand (expired, another federation's, not a
  // server's; in plaintext, not of the key that has signed the head); DATA_LOSS
  // if the parts do not belong together; FAILED_PRECONDITION for a
  // specification that was too large for the DHT, and in plaintext for a head
  // that several keys have signed, which it names;
  // RESOURCE_EXHAUSTED for a model over the bound, or a full disk.
  absl::StatusOr<std::vector<Mutation>> Recover(
      const JobId& job, const JournalContents& contents);

 private:
  struct Found {
    v1::JobSpec spec;
    v1::VersionManifest version;
    std::string signed_manifest;
    int64_t signatures = 0;
    uint64_t epoch = 0;  // of its head
  };
  absl::StatusOr<dht::OpenedRecord> GetRecord(const dht::Key& key,
                                              const std::string& what);
  absl::StatusOr<dht::OpenedRecord> GetHead(const JobId& job);
  absl::StatusOr<Found> Find(const JobId& job);
  absl::Status CheckSpec(const Found& found) const;
  absl::Status Fetch(const Found& found, const std::string& path);
  absl::StatusOr<v1::ModelManifest> Adopt(const Found& found,
                                          const std::string& path);
  absl::StatusOr<std::vector<Mutation>> MakeRows(
      const Found& found, v1::ModelManifest manifest) const;

  const Options options_;
  dht::Peer* const peer_;
  ModelStore* const store_;
  const ManifestSigner* const signer_;
  const Clock* const clock_;
};

// What the job's next round needs beside the version that it starts from; empty
// for nothing. "the server optimizer's momentum".
absl::StatusOr<std::string> LostStateOf(const v1::JobSpec& spec,
                                        int64_t version);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_DISTRIBUTION_RECOVERY_H_
