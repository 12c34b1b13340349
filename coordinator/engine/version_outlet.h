#ifndef KOINON_COORDINATOR_ENGINE_VERSION_OUTLET_H_
#define KOINON_COORDINATOR_ENGINE_VERSION_OUTLET_H_

#include <optional>
#include <vector>

#include "base/ids.h"
#include "coordinator/journal/journal.h"
#include "dht/key.h"
#include "proto/dht.pb.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// Where versions go from the engine: to whoever fetches them. What happens
// there decides nothing about rounds. Thread-safe.
class VersionOutlet {
 public:
  virtual ~VersionOutlet() = default;

  // This process's node, for workers; none if it has no part in a DHT.
  virtual std::optional<v1::Contact> Self() = 0;

  // Can be fetched from here from now on, though nobody has been told of it;
  // before it is committed. Reads hashes from disk: not on the engine's thread.
  virtual void Serve(const v1::ModelManifest& manifest) = 0;
  // It is published: let everybody know, in the background. `newest` of its
  // job.
  virtual void Announce(const JobRow& job, const v1::ModelManifest& manifest,
                        bool newest) = 0;
  // It is no more, or was never published.
  virtual void Withdraw(const v1::ModelManifest& manifest) = 0;
  // Its delta is no more.
  virtual void WithdrawDelta(const v1::ModelManifest& manifest) = 0;

  // Who is fetching versions of the job just now.
  virtual void SetPeers(const JobId& job, std::vector<dht::Contact> peers) = 0;
  // A worker's node: nobody is sent there to fetch any more, until it comes
  // back.
  virtual void OnGone(const dht::Key& node) = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ENGINE_VERSION_OUTLET_H_
