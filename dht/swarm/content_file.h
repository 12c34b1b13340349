#ifndef KOINON_DHT_SWARM_CONTENT_FILE_H_
#define KOINON_DHT_SWARM_CONTENT_FILE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/mutex.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/merkle.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// A content on disk, whole or growing: its bytes, which pieces are there, and
// the hashes to serve them with. Nothing is in it that was not verified against
// the root; what the disk loses afterwards is found by whoever compares it, and
// is there no longer. Thread-safe.
//
// DATA_LOSS always means bytes or hashes that are not the content's; a disk
// that fails is INTERNAL, a full one RESOURCE_EXHAUSTED.
class ContentFile {
 public:
  // What a fetch keeps beside PATH (the bytes): PATH.pieces, the bitmap and the
  // piece layer, and PATH.leaves, the leaves' hashes.
  //
  // Takes up what an earlier fetch of the same content left at `path`, or
  // begins anew, with the disk's room reserved. Pieces that the synced bitmap
  // names are read and compared with their hashes; one that differs, and what
  // came after the last sync, is fetched again.
  // RESOURCE_EXHAUSTED when the disk is full; CANCELLED, with everything as it
  // was, if `cancelled` said so, which is asked before each piece is read.
  static absl::StatusOr<std::shared_ptr<ContentFile>> Resume(
      Env* env, const std::string& path, const v1::Content& content,
      const std::function<bool()>& cancelled = nullptr);

  // A whole one that this process, or an earlier one, has verified or written.
  // `leaves`: DATA_LOSS unless the tree over them has the content's root.
  static absl::StatusOr<std::shared_ptr<ContentFile>> OpenWhole(
      Env* env, const std::string& path, const v1::Content& content,
      std::vector<Digest> leaves);
  // The leaves' hashes as a file keeps them: 32 bytes each, nothing else.
  static absl::StatusOr<std::vector<Digest>> ReadLeaves(
      Env* env, const std::string& path);
  static absl::Status WriteLeaves(Env* env, const std::string& path,
                                  absl::Span<const Digest> leaves);

  ~ContentFile();

  const v1::Content& content() const;
  const PieceMap& map() const;
  std::string path() const;
  Bitmap have() const;
  bool Has(uint32_t piece) const;
  bool complete() const;
  // As complete, or all of it was here when it was opened or moved.
  bool whole() const;

  // The piece layer (a hash for each piece): empty until it is known.
  std::vector<Digest> piece_layer() const;
  // DATA_LOSS unless it has the content's root.
  absl::Status SetPieceLayer(std::vector<Digest> layer);

  // --- Serving ---
  // NOT_FOUND if the piece is not there. Bytes and hashes are as the disk has
  // them; `compare`: DATA_LOSS if the hashes are not the content's any more.
  absl::StatusOr<std::vector<Digest>> LeavesOf(uint32_t piece,
                                               bool compare = false) const;
  absl::Status Read(uint32_t piece, uint32_t offset, size_t size,
                    void* data) const;

  // The disk has not what was written: the piece is not there any more. False
  // if it was not.
  bool Lose(uint32_t piece);
  // Who was sent them broke off, and may have found that they are not the
  // content's: whoever sends such a piece next is to compare it.
  void Doubt(absl::Span<const uint32_t> pieces);
  // Whether there is doubt about it; from now on, there is none.
  bool TakeDoubt(uint32_t piece);

  // --- Growing ---
  // One piece on its way; discarded unless it is finished. One thread.
  class Incoming {
   public:
    virtual ~Incoming() = default;
    // Whole leaves, in order; each is checked before it is written. DATA_LOSS,
    // naming the leaf, if it is not the content's.
    virtual absl::Status Append(absl::Span<const uint8_t> leaves) = 0;
    // Leaves still missing.
    virtual uint32_t left() const = 0;
    // After the last leaf: the piece is there, and may be served. False: it
    // was there already.
    virtual absl::StatusOr<bool> Finish() = 0;
  };
  // DATA_LOSS if `leaves` are not those of the piece (its hash in the layer);
  // FAILED_PRECONDITION without a layer.
  absl::StatusOr<std::unique_ptr<Incoming>> Begin(uint32_t piece,
                                                  std::vector<Digest> leaves);
  // Of whole contents that come by another way (a delta applied): the next
  // bytes, from the beginning, without hashes to go by; FinishWhole compares
  // the root: DATA_LOSS, and nothing of them is kept, if it differs. Pieces
  // that are there already stay as they are. From one thread, and not while
  // pieces come in.
  absl::Status AppendWhole(absl::Span<const uint8_t> bytes);
  absl::Status FinishWhole();

  // Makes what is there durable; runs by itself, so that a crash never loses
  // more than 64 MiB of what has been appended.
  absl::Status Sync();
  // Of a complete one, once: durable as `path` with its hashes in
  // `leaves_path`, and nothing else. FAILED_PRECONDITION if it is not complete.
  absl::Status MoveWhole(const std::string& path,
                         const std::string& leaves_path);

 private:
  struct State;
  class IncomingPiece;
  explicit ContentFile(std::shared_ptr<State> state);
  const std::shared_ptr<State> state_;  // second owners: incoming pieces
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_CONTENT_FILE_H_
