#ifndef KOINON_DHT_SWARM_VERSION_CACHE_STATE_H_
#define KOINON_DHT_SWARM_VERSION_CACHE_STATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dht/swarm/content_file.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/version_cache.h"

namespace koinon::dht {

inline Digest RootOf(const v1::Content& content) {
  return *Digest::FromBytes(content.root());  // of what was checked
}

// Submissions of one name are jobs of their own.
inline std::pair<std::string, int64_t> JobOf(
    const v1::VersionManifest& manifest) {
  return {manifest.job(), manifest.job_submitted_ms()};
}

// The inner part of VersionCache.
struct VersionCache::State {
  // What files' names end in.
  static constexpr char kModel[] = ".safetensors";
  static constexpr char kManifest[] = ".manifest";
  static constexpr char kLeaves[] = ".leaves";
  static constexpr char kPartial[] = ".partial";
  static constexpr char kDelta[] = ".delta";
  static constexpr char kDeltaPartial[] = ".delta.partial";
  static constexpr char kTemporary[] = ".tmp";

  struct Entry {  // a version that is whole
    v1::VersionManifest manifest;
    bool verified = false;
    bool verifying = false;
    int leases = 0;
    uint64_t last_use = 0;
  };
  struct DeltaFile {  // a delta that is whole
    Digest version;   // what it makes
    int64_t size = 0;
  };
  // What has gone from the disk, and must go from the board.
  struct Gone {
    std::vector<Digest> roots;
    std::vector<Digest> digests;
  };

  State(Env* env, std::string dir, Options options, SwarmHost* host,
        VersionCache* cache)
      : env(env),
        dir(std::move(dir)),
        options(std::move(options)),
        host(host),
        cache(cache) {}

  // --- On disk: version_disk.cc ---
  std::string PathOf(const Digest& digest, absl::string_view suffix) const;
  absl::Status Recover();
  void OrderByAge();
  absl::Status RecoverModels(const std::vector<std::string>& names);
  absl::Status RecoverPartials(const std::vector<std::string>& names);
  void RecoverDeltas(const std::vector<std::string>& names);
  absl::StatusOr<v1::VersionManifest> ReadManifest(const Digest& digest) const;
  void RemoveModel(const Digest& digest) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void RemoveDelta(const Digest& root) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void RemovePartial(const std::string& path);
  // Of a version, with what is there of its deltas.
  void RemovePartial(const Digest& digest, const v1::VersionManifest& manifest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void RemoveIfThere(const std::string& path);

  // --- Checked before it is used or served: version_cache.cc ---
  // Whether the file is the content: reads all of it.
  absl::StatusOr<std::shared_ptr<ContentFile>> Check(
      const std::string& path, const v1::Content& content);
  std::unique_ptr<Lease> FindVerified(const Digest& digest);
  // The disk has lost some of it since it was checked.
  bool HasLost(const Entry& entry) const;
  void CheckAll();  // the thread
  void ServeDeltasOf(const v1::VersionManifest& manifest);

  // --- Bounds: version_bounds.cc ---
  std::unique_ptr<Lease> NewLease(const Digest& digest)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  uint64_t TotalBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Versions that neither the policy nor an operator wants kept.
  std::set<Digest> NotKept() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  bool IsPinned(const v1::VersionManifest& manifest) const;
  // Where not all can be announced: what is kept for good, then the newest.
  int64_t ImportanceOf(const v1::VersionManifest& manifest) const;
  std::optional<Digest> NextToEvict() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  Gone Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Deltas to versions that are not the newest of their job any more, nor being
  // fetched.
  void EvictDeltas(Gone* gone) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  uint64_t BytesOfPartial(const v1::VersionManifest& manifest) const;
  void EvictOldestPartial() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Leaves as many as may be beside what is being fetched.
  void EvictPartials() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // The oldest, for want of room on the disk. False if there is none, or it is
  // not the disk that lacks something.
  bool GiveUpPartial();
  bool IsNewest(const v1::VersionManifest& manifest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void TakeOff(const Gone& gone);

  // --- Fetching: version_fetch.cc ---
  using Cancelled = std::function<bool()>;
  absl::Status CheckWanted(const Wanted& wanted) const;
  absl::StatusOr<Fetched> Fetch(const Wanted& wanted,
                                const Cancelled& cancelled);
  // Waits while another fetches the same.
  absl::Status BeginFetch(const Wanted& wanted, const Cancelled& cancelled);
  void EndFetch(const v1::VersionManifest& manifest);
  // Of fetches that were given up for this one: of lower versions of the job.
  void RemoveStalePartials(const v1::VersionManifest& wanted);
  absl::StatusOr<std::shared_ptr<ContentFile>> OpenPartial(
      const Wanted& wanted, const Cancelled& cancelled);
  absl::Status FetchInto(const std::shared_ptr<ContentFile>& file,
                         const Wanted& wanted, const Cancelled& cancelled,
                         Fetched* fetched);
  absl::StatusOr<std::unique_ptr<Lease>> Adopt(
      const std::shared_ptr<ContentFile>& file, const Wanted& wanted);
  SwarmFetch::Options OptionsFor(const Wanted& wanted,
                                 std::shared_ptr<ContentFile> file,
                                 const Cancelled& cancelled) const;

  struct ChosenDelta {
    v1::Delta delta;
    std::unique_ptr<Lease> from;
  };
  std::optional<ChosenDelta> ChooseDelta(const ContentFile& file,
                                         const v1::VersionManifest& manifest);
  absl::Status FetchByDelta(const ChosenDelta& chosen,
                            const std::shared_ptr<ContentFile>& file,
                            const Wanted& wanted, const Cancelled& cancelled,
                            Fetched* fetched);
  absl::Status FetchDelta(const v1::Content& content, const Wanted& wanted,
                          const Cancelled& cancelled, Fetched* fetched);
  absl::Status ApplyTo(ContentFile* file, const std::string& from,
                       const v1::Content& delta);

  Env* const env;
  const std::string dir;
  const Options options;
  SwarmHost* const host;
  VersionCache* const cache;

  Mutex mutex;
  CondVar changed;
  std::map<Digest, Entry> entries ABSL_GUARDED_BY(mutex);
  std::map<Digest, DeltaFile> deltas ABSL_GUARDED_BY(mutex);  // by root
  // Of fetches that broke off, and may go on.
  std::map<Digest, v1::VersionManifest> partials ABSL_GUARDED_BY(mutex);
  // Bytes of what is being fetched, by digest.
  std::map<Digest, uint64_t> fetching ABSL_GUARDED_BY(mutex);
  uint64_t uses ABSL_GUARDED_BY(mutex) = 0;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  Counts counts ABSL_GUARDED_BY(mutex);
  std::thread checker;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_VERSION_CACHE_STATE_H_
