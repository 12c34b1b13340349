#ifndef KOINON_COORDINATOR_SERVICE_MODEL_CHUNKS_H_
#define KOINON_COORDINATOR_SERVICE_MODEL_CHUNKS_H_

#include <cstdint>
#include <list>
#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "coordinator/models/model_store.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// The chunks of published versions as serialised PullModelReply messages, read
// from disk once, checked against their digests, and shared by all the workers
// that pull the same version: a thousand pulls cost the memory of one.
// Thread-safe.
class ModelChunks {
 public:
  // Chunks used last are kept, up to `cache_bytes`.
  ModelChunks(const ModelStore* store, size_t cache_bytes)
      : store_(store), cache_bytes_(cache_bytes) {}

  // Chunk `index` of the version. DATA_LOSS, naming the version and the chunk,
  // if the file's bytes are not those of the manifest.
  absl::StatusOr<grpc::ByteBuffer> Get(const v1::ModelManifest& manifest,
                                       int64_t index);

 private:
  using Key = std::pair<std::string, int64_t>;  // version's digest, index
  struct Entry {
    Key key;
    grpc::ByteBuffer message;
    size_t bytes;
  };
  absl::StatusOr<grpc::ByteBuffer> Load(const v1::ModelManifest& manifest,
                                        int64_t index) const;

  const ModelStore* const store_;
  const size_t cache_bytes_;
  Mutex mutex_;
  std::list<Entry> recent_ ABSL_GUARDED_BY(mutex_);  // used last: first
  std::map<Key, std::list<Entry>::iterator> index_ ABSL_GUARDED_BY(mutex_);
  size_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_MODEL_CHUNKS_H_
