#ifndef KOINON_WORKER_TESTING_FAKE_ORIGIN_H_
#define KOINON_WORKER_TESTING_FAKE_ORIGIN_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/local_node.h"
#include "base/rpc_server.h"
#include "dht/peer.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// The coordinator's part in the distribution layer, for tests of the workers':
// a real peer on loopback, in plaintext, that signs and serves versions of one
// job. Without rounds and sessions. Not thread-safe.
class FakeOrigin {
 public:
  // Its files lie in /origin of `env`.
  FakeOrigin(Env* env, const Clock* clock,
             absl::string_view federation = "koinon");
  // It serves nobody any more.
  ~FakeOrigin();

  // HOST:PORT.
  std::string address() const;
  v1::Welcome welcome() const;
  dht::Peer* peer() { return peer_.get(); }
  const LocalNode& local() const { return peer_->local(); }

  // Signs a version of "job" and serves it; the offer to train from it.
  v1::OfferTask Publish(int64_t version, const std::string& bytes);
  // The manifest of what was published as that version last.
  v1::VersionManifest manifest(int64_t version) const {
    return manifests_.at(version);
  }

 private:
  Env* const env_;
  const Clock* const clock_;
  std::unique_ptr<dht::Peer> peer_;
  std::unique_ptr<RpcServer> server_;
  std::map<int64_t, v1::VersionManifest> manifests_;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TESTING_FAKE_ORIGIN_H_
