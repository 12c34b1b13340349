#ifndef KOINON_DHT_SWARM_VERSION_CACHE_H_
#define KOINON_DHT_SWARM_VERSION_CACHE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/digest.h"
#include "base/env.h"
#include "dht/swarm/host.h"
#include "dht/swarm/retention.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// Model versions on disk, each with its signed manifest, and served to others
// while they are here: the base that is trained from, the last few, and what
// the policy keeps. DIR/DIGEST.safetensors with .manifest and .leaves, and
// DIR/DIGEST.partial while it is fetched; deltas as DIR/ROOT.delta.
//
// Survives a crash: a partial is taken up again, also after others have been
// fetched, until a higher version of its job is wanted or the room is; a whole
// one is checked against its root before the first use in each process, and
// again once a piece of it is found to be lost: it is then fetched anew.
// Thread-safe; fetches of the same version wait for the first.
class VersionCache {
 public:
  struct Options {
    // Beside those in use, pinned or kept by the policy; and of what has come
    // of others, each of another job or of a higher version.
    size_t max_models = 4;
    uint64_t max_bytes = uint64_t{32} << 30;  // of all together
    int64_t max_model_bytes = int64_t{16} << 30;
    RetentionPolicy retention = {.newest = 2, .every = 0};
    std::set<std::pair<std::string, int64_t>> pinned = {};  // job, version
    bool use_deltas = true;
  };

  // A version in use: it stays on disk while this lives. Must not outlive the
  // cache.
  class Lease {
   public:
    ~Lease();
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    const std::string& path() const { return path_; }

   private:
    friend class VersionCache;
    Lease(VersionCache* cache, const Digest& digest, std::string path)
        : cache_(cache), digest_(digest), path_(std::move(path)) {}
    VersionCache* const cache_;
    const Digest digest_;
    const std::string path_;
  };

  // Opens or creates `dir`, which belongs to this cache alone. What is there is
  // checked in the background, newest first, and then put on the peer's board
  // and announced. `peer` must outlive the cache.
  static absl::StatusOr<std::unique_ptr<VersionCache>> Open(
      Env* env, const std::string& dir, Options options, SwarmHost* peer);
  ~VersionCache();

  // Null if it is not there, whole and verified.
  std::unique_ptr<Lease> Find(const Digest& digest);

  struct Wanted {
    std::string signed_manifest;   // verified by the caller: OpenManifest
    v1::VersionManifest manifest;  // what that gave
    std::vector<Contact> peers;
    std::optional<Contact> origin;
  };
  struct Fetched {
    std::unique_ptr<Lease> lease;
    v1::SwarmTraffic traffic;  // zero if it was here
    bool by_delta = false;
  };
  // Brings the version here, by a delta where there is one from a version that
  // is here and it is smaller, else whole; from where an earlier attempt broke
  // off. As SwarmFetch::Run; RESOURCE_EXHAUSTED also over max_model_bytes.
  // `cancelled` is asked now and then.
  absl::StatusOr<Fetched> Fetch(const Wanted& wanted,
                                const std::function<bool()>& cancelled);

  // What is here: of a manifest whose version is whole.
  std::vector<v1::VersionManifest> List() const;

  struct Counts {
    int64_t deltas_applied = 0;
    // Fetched and not of use: the version then came whole.
    int64_t deltas_failed = 0;
  };
  Counts counts() const;

 private:
  struct State;
  VersionCache(Env* env, std::string dir, Options options, SwarmHost* peer);
  void Release(const Digest& digest);
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_VERSION_CACHE_H_
