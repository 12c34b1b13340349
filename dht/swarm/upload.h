#ifndef KOINON_DHT_SWARM_UPLOAD_H_
#define KOINON_DHT_SWARM_UPLOAD_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/leaf_check.h"
#include "dht/swarm/origin_book.h"
#include "dht/swarm/spare_blocks.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// One Fetch stream as the serving end sees it, without the stream: requests in,
// replies out, one at a time. Few streams send pieces at once (SendSlots):
// whether this one may begin one is for whoever drives it to say. Thread-safe,
// but NextReply must not run twice at once.
//
// An origin, whose copies are few, compares each piece that it sends with its
// hashes; another, those that are in doubt. One that the disk has lost is named
// in the log and served no longer.
class Upload {
 public:
  struct Options {
    size_t max_wants = 64;  // asked for and not sent
    size_t block_bytes = 256 << 10;
    // Where blocks get their memory, if anywhere: whoever sends them gives it
    // back.
    std::shared_ptr<SpareBlocks> spare = nullptr;
    // Called for each piece that is found to be lost. May be empty.
    std::function<void()> on_lost = nullptr;
    // Who else may have pieces: for the opening, and when there is none to
    // give.
    std::function<std::vector<Contact>()> others;
  };
  struct Counts {
    int64_t bytes = 0;
    int64_t pieces = 0;  // sent whole
    int64_t last_resort = 0;
    int64_t refused = 0;
  };

  // `caller_have`: of the content's pieces. `book`: of an origin, which it must
  // outlive; else null, and who the caller is does not matter.
  Upload(std::shared_ptr<ContentFile> file, Bitmap caller_have,
         OriginBook* book, const OriginBook::Caller& caller, Options options);
  ~Upload();

  // INVALID_ARGUMENT for what is no request to this content, RESOURCE_EXHAUSTED
  // for more wants than the bound: the stream ends.
  absl::Status OnRequest(const v1::FetchRequest& request);
  // A growing content has a new piece. True if the caller is to hear of it
  // soon: FlushHaves.
  bool OnPiece(uint32_t piece);
  // As OnPiece of all that came since the construction.
  bool CatchUp();
  void FlushHaves();
  // The caller broke off: it may have found fault with what was sent last.
  void DoubtLast();

  // Fills in what to send next; false: nothing now. Without `may_begin` no
  // piece is begun, and no choice made.
  bool NextReply(v1::FetchReply* reply, bool may_begin = true);
  // There are pieces to begin, and none is under way.
  bool wants_to_begin() const;
  bool piece_under_way() const;
  // The part of the content that the caller has, as far as it is known.
  double caller_has() const;

  Counts counts() const;

 private:
  struct Current {
    uint32_t piece = 0;
    int64_t sent = 0;
    bool cancelled = false;
    std::shared_ptr<LeafCheck> check = nullptr;  // null: is not compared
  };

  bool AddHave(uint32_t piece) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OnWant(const v1::WantPieces& want)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OnWantAny(uint32_t count) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OnHave(const v1::HavePieces& have)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCancel(const v1::CancelPieces& cancel)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckRoom(size_t more) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckPiece(uint32_t piece) const;
  void Refuse(uint32_t piece, absl::string_view reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The piece, chosen or granted, is not sent after all.
  void Drop(uint32_t piece, absl::string_view reason)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool TakeControl(v1::FetchReply* reply) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<uint32_t> TakeWant() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool StartPiece(uint32_t piece, v1::FetchReply* reply);
  bool FillBlock(const Current& current, v1::FetchReply* reply);
  void GiveUp(uint32_t piece, const absl::Status& why);

  const std::shared_ptr<ContentFile> file_;  // second owner: the board
  OriginBook* const book_;
  const Options options_;
  const OriginBook::Seat seat_;

  mutable Mutex mutex_;
  Bitmap caller_have_ ABSL_GUARDED_BY(mutex_);
  size_t caller_count_ ABSL_GUARDED_BY(mutex_) = 0;  // as it says itself
  std::deque<v1::FetchReply> control_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint32_t> wants_ ABSL_GUARDED_BY(mutex_);
  std::optional<Current> current_ ABSL_GUARDED_BY(mutex_);
  Bitmap told_ ABSL_GUARDED_BY(mutex_);  // what the caller has heard of
  std::vector<uint32_t> haves_ ABSL_GUARDED_BY(mutex_);
  bool haves_due_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<uint32_t> last_ ABSL_GUARDED_BY(mutex_);  // begun
  Counts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_UPLOAD_H_
