#ifndef KOINON_DHT_SWARM_CONTENT_FILE_STATE_H_
#define KOINON_DHT_SWARM_CONTENT_FILE_STATE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/mutex.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/merkle.h"
#include "dht/swarm/saved_pieces.h"

namespace koinon::dht {

// What a fetch keeps beside PATH.
inline std::string SavedPathOf(const std::string& path) {
  return path + ".pieces";
}
inline std::string LeavesPathOf(const std::string& path) {
  return path + ".leaves";
}

// Our own disk's error: DATA_LOSS is kept for what others sent.
absl::Status OwnDisk(const absl::Status& status);

bool HasRoot(const v1::Content& content, absl::Span<const Digest> layer);

// The inner part of ContentFile.
struct ContentFile::State {
  State(Env* env, std::string path, const v1::Content& content)
      : env(env),
        content(content),
        map(MapOf(content)),
        have(map.pieces()),
        doubted(map.pieces()),
        path(std::move(path)) {}

  // --- content_file_open.cc ---
  absl::Status OpenOld(const std::function<bool()>& cancelled);
  absl::Status OpenNew();
  absl::Status DropDamagedPieces(const std::function<bool()>& cancelled)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  bool IsSound(uint32_t piece) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  // --- content_file.cc ---
  absl::Status SavePieces(const SavedPieces& saved);
  absl::StatusOr<std::vector<Digest>> ReadLeavesOf(uint32_t piece) const;
  absl::Status WriteLeavesOf(uint32_t piece, absl::Span<const Digest> leaves);

  // Counts bytes that a crash would lose, and waits while there are too many
  // and a sync is under way.
  absl::Status Reserve(int64_t bytes);
  void GiveUp(int64_t bytes);
  // The bytes first, then the word that they are there.
  absl::Status Sync();

  Env* const env;
  const v1::Content content;
  const PieceMap map;
  // Of a whole content: all leaves. Otherwise they are in leaves_file.
  std::vector<Digest> leaves;
  std::unique_ptr<File> file;
  std::unique_ptr<File> leaves_file;

  // AppendWhole's: one thread.
  std::optional<MerkleBuilder> builder;
  int64_t appended = 0;

  mutable Mutex mutex;
  CondVar synced;
  Bitmap have ABSL_GUARDED_BY(mutex);
  Bitmap doubted ABSL_GUARDED_BY(mutex);
  std::vector<Digest> layer ABSL_GUARDED_BY(mutex);
  std::string path ABSL_GUARDED_BY(mutex);
  bool growing ABSL_GUARDED_BY(mutex) = true;
  bool dirty ABSL_GUARDED_BY(mutex) = false;  // since the last sync began
  bool syncing ABSL_GUARDED_BY(mutex) = false;
  int64_t unsynced ABSL_GUARDED_BY(mutex) = 0;  // of finished pieces
  int64_t partial ABSL_GUARDED_BY(mutex) = 0;   // of unfinished ones
  absl::Status broken ABSL_GUARDED_BY(mutex);   // a sync that failed
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_CONTENT_FILE_STATE_H_
