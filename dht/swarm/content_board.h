#ifndef KOINON_DHT_SWARM_CONTENT_BOARD_H_
#define KOINON_DHT_SWARM_CONTENT_BOARD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/swarm/content_file.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// What this process serves, by root; and what has moved. Thread-safe.
class ContentBoard {
 public:
  // Serves it from now on, whole or growing. `file_digest`: of the version's
  // file; what the DHT's provider records go by. The second owner is this board
  // and whoever is being served.
  void Add(std::shared_ptr<ContentFile> content, const Digest& file_digest);
  // Streams that are being served go on with what they have open.
  void Remove(const Digest& root);
  std::shared_ptr<ContentFile> Find(const Digest& root) const;
  std::vector<Digest> roots() const;

  // `listener` is called, from any thread and under no lock, whenever a growing
  // content on the board has a new piece. One for each content and stream.
  using Listener = std::function<void(uint32_t piece)>;
  // One that is running while it is taken off runs to its end.
  uint64_t Listen(const Digest& root, Listener listener);
  void Unlisten(uint64_t listener);
  // By whoever fetches.
  void OnPiece(const Digest& root, uint32_t piece);

  // `peers`: tells, for an origin's answers, who else may have pieces.
  using Others = std::function<std::vector<Contact>(const Digest& root)>;
  void SetOthers(Others others);
  std::vector<Contact> OthersOf(const Digest& root) const;

  // That a node which served is out of everybody's reach is said by whoever
  // knows, and heard by whoever serves here. The listener is called under no
  // lock.
  void OnGone(const Key& node);
  void ListenToGone(std::function<void(const Key& node)> listener);

  void CountFetched(const v1::SwarmTraffic& traffic);
  void CountServed(int64_t bytes);
  // Pieces that are not what they were on this process's disk any more.
  void CountLost();
  int64_t lost() const;
  v1::SwarmTraffic traffic() const;

 private:
  struct Entry {
    std::shared_ptr<ContentFile> content;
    Digest file_digest;
    std::map<uint64_t, Listener> listeners;
  };
  mutable Mutex mutex_;
  absl::flat_hash_map<Digest, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Digest> listening_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_listener_ ABSL_GUARDED_BY(mutex_) = 1;
  Others others_ ABSL_GUARDED_BY(mutex_);
  std::function<void(const Key&)> gone_listener_ ABSL_GUARDED_BY(mutex_);
  v1::SwarmTraffic traffic_ ABSL_GUARDED_BY(mutex_);
  int64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_CONTENT_BOARD_H_
