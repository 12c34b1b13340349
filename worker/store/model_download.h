#ifndef KOINON_WORKER_STORE_MODEL_DOWNLOAD_H_
#define KOINON_WORKER_STORE_MODEL_DOWNLOAD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "base/env.h"
#include "proto/model.pb.h"
#include "proto/worker.pb.h"

namespace koinon::worker {

// One model version on its way to disk. Every chunk is checked against the
// manifest before it is written, the whole against the digest that the task
// names; so what breaks off can go on from offset(), even in a later process.
//
//   auto download = ModelDownload::Start(...);
//   while (!download->complete()) {
//     // pull from download->offset(): OnManifest once, then OnChunk ...
//   }
//   ABSL_RETURN_IF_ERROR(download->Finish());
//
// Not thread-safe. Memory: one chunk.
class ModelDownload {
 public:
  struct Spec {
    Digest digest;            // of the whole file
    std::string layout_hash;  // 32 bytes, or empty: not checked
    int64_t max_model_bytes = 0;
    int64_t max_chunk_bytes = 0;
  };

  // Takes up what an earlier fetch of the same version left in these two files,
  // if there is something sound.
  static std::unique_ptr<ModelDownload> Start(Env* env,
                                              std::string partial_path,
                                              std::string manifest_path,
                                              Spec spec);

  // Verified and written so far; where to pull from.
  int64_t offset() const { return verified_; }
  // Whether every byte is there.
  bool complete() const {
    return started_ && verified_ == manifest_.size_bytes();
  }

  // FAILED_PRECONDITION if it is another version than the task's;
  // INVALID_ARGUMENT if it contradicts itself; RESOURCE_EXHAUSTED over a bound
  // or when the disk is full; ABORTED if it is cut otherwise than what was
  // resumed: the download then starts from 0 again.
  absl::Status OnManifest(const v1::ModelManifest& manifest);

  // The next bytes, in any portions. DATA_LOSS, saying which chunk, if they are
  // not the manifest's: pull again from offset(). INVALID_ARGUMENT if they do
  // not follow the previous ones. RESOURCE_EXHAUSTED when the disk is full.
  absl::Status OnChunk(const v1::Chunk& chunk);

  // Before a new pull: forgets bytes of an unfinished chunk.
  void Rewind() { pending_.clear(); }

  // DATA_LOSS if the whole is not the task's version although each chunk is the
  // manifest's; nothing of it is kept then. Requires complete().
  absl::Status Finish();

 private:
  ModelDownload(Env* env, std::string partial_path, std::string manifest_path,
                Spec spec)
      : env_(env),
        partial_path_(std::move(partial_path)),
        manifest_path_(std::move(manifest_path)),
        spec_(std::move(spec)) {}

  absl::Status Resume();
  absl::Status CheckManifest(const v1::ModelManifest& manifest) const;
  absl::Status Begin(const v1::ModelManifest& manifest);
  size_t NextChunkBytes() const;
  absl::Status CheckNextChunk(absl::string_view bytes) const;
  void Discard();

  Env* const env_;
  const std::string partial_path_;
  const std::string manifest_path_;
  const Spec spec_;
  v1::ModelManifest manifest_;
  bool started_ = false;  // the manifest is known and the file is open
  std::unique_ptr<File> file_;
  int64_t verified_ = 0;
  std::string pending_;  // received bytes of the next chunk
  Sha256 whole_;         // over the verified bytes
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_STORE_MODEL_DOWNLOAD_H_
