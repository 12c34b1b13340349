#ifndef KOINON_COORDINATOR_UPLOADS_UPLOAD_DESK_H_
#define KOINON_COORDINATOR_UPLOADS_UPLOAD_DESK_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "aggregation/core/update_set.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/model_layout.h"
#include "base/mutex.h"
#include "coordinator/spool/spool.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// Which update: a worker's for one round.
struct UploadKey {
  JobId job;
  int64_t round = 0;
  WorkerId worker;
  friend auto operator<=>(const UploadKey&, const UploadKey&) = default;
  friend bool operator==(const UploadKey&, const UploadKey&) = default;
};

// What an update is admitted under.
struct UploadTerms {
  // Values beyond it make the upload unusable.
  aggregation::FiniteScanner::Bound bound;
  // It is added to its round's running sum as soon as it is whole, and need not
  // be durable itself.
  bool folds = false;
  // Asked before room in the spool is taken for it, on the thread that calls
  // Admit and under the desk's lock: it must not call the desk. If it fails,
  // the update waits, as it does while the spool is full.
  std::function<absl::Status()> make_room;
};

// One update on its way in: its header, its extent of the spool, and how far
// the bytes have come. Thread-safe; one stream at a time feeds it, and a newer
// one takes over from an older.
class Upload {
 public:
  Upload(UploadKey key, v1::UpdateHeader header, ModelLayout layout,
         Spool* spool, SpoolExtent extent, const UploadTerms& terms = {});
  // Gives the extent back unless TakeExtent was called.
  ~Upload();

  const UploadKey& key() const { return key_; }
  const v1::UpdateHeader& header() const { return header_; }
  bool folds() const { return folds_; }
  // Of a whole upload: where its bytes lie while this lives.
  SpoolExtent extent() const;

  // A stream starts: `cancel` is called (from any thread, at most once) when it
  // is superseded or the upload is dropped. Returns the stream's number.
  uint64_t Attach(std::function<void()> cancel);
  // The stream ends. True if it was still the current one.
  bool Detach(uint64_t stream);

  // The next bytes, written to the spool, hashed and checked for NaN,
  // infinities and values beyond the bound. ABORTED if the stream was
  // superseded or the upload dropped; INVALID_ARGUMENT for an offset that is
  // not the next byte or bytes past the end; the spool's errors.
  absl::Status Append(uint64_t stream, uint64_t offset, absl::string_view data,
                      absl::Time now);

  uint64_t received() const;
  bool IsWhole() const;
  // Of a whole upload: INVALID_ARGUMENT if its digest is not the header's or it
  // holds a value that is not finite or beyond the bound (naming tensor and
  // index).
  absl::Status Verify();
  // How many streams have sent it so far.
  uint64_t streams() const;
  absl::Time last_progress() const;

  // No more bytes are taken; the current stream is cancelled.
  void Drop();
  // The extent is the caller's from now on (it is journalled).
  SpoolExtent TakeExtent();

 private:
  absl::Status Check() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const UploadKey key_;
  const v1::UpdateHeader header_;
  const ModelLayout layout_;
  Spool* const spool_;
  const bool folds_;

  mutable Mutex mutex_;
  SpoolExtent extent_ ABSL_GUARDED_BY(mutex_);
  bool owns_extent_ ABSL_GUARDED_BY(mutex_) = true;
  bool dropped_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t received_ ABSL_GUARDED_BY(mutex_) = 0;
  Sha256 hasher_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> verdict_ ABSL_GUARDED_BY(mutex_);
  aggregation::FiniteScanner scanner_ ABSL_GUARDED_BY(mutex_);
  uint64_t stream_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<void()> cancel_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

// Admits uploads by credit, so that the coordinator's memory does not grow with
// the number of workers that finish at once: a worker announces its update,
// waits for a grant, and only then sends. Each granted upload is charged the
// memory that its stream may need; the charges stay within a window.
// Thread-safe.
class UploadDesk {
 public:
  struct Options {
    // Sum of the charges of granted uploads.
    uint64_t window_bytes;
    // A stream's charge: the update's size, but at most this.
    uint64_t stream_charge_bytes;
    // A grant that no stream has taken up, or a stream without progress, ends
    // after this.
    absl::Duration patience;
  };
  struct Grant {
    UploadKey key;
    uint64_t offset = 0;
    uint64_t number = 0;  // never given twice
  };
  struct Granted {
    std::shared_ptr<Upload> upload;  // second owner: the desk
    uint64_t grant = 0;              // its number, for Return
  };

  UploadDesk(Spool* spool, Options options);

  // Joins the queue, once: announcing again changes nothing but the place of a
  // grant that was not taken up. A partial upload with the same header is kept
  // and goes on where it stood; one with another digest starts anew.
  void Announce(const UploadKey& key, const v1::UpdateHeader& header,
                const ModelLayout& layout, const UploadTerms& terms = {});
  // Takes uploads off the queue's head while the window has room. Those that
  // the spool has no room for stay queued; `spool_full` then says why.
  std::vector<Grant> Admit(absl::Time now, absl::Status* spool_full);
  // A stream for a granted upload. FAILED_PRECONDITION without a grant.
  absl::StatusOr<Granted> Find(const UploadKey& key) const;
  // Whether the update is queued or granted.
  bool Expects(const UploadKey& key) const;
  // The grant's stream has ended: its charge is free. The upload stays, to be
  // resumed or taken. No effect if that grant is over: a worker may announce
  // again, and be granted again, before the end of its broken stream is
  // noticed.
  void Return(const UploadKey& key, uint64_t grant);
  // Ends grants and streams that made no progress for `patience`.
  void Expire(absl::Time now);
  // Forgets an upload and gives its extent back, if it was not taken.
  void Forget(const UploadKey& key);
  void ForgetRound(const JobId& job, int64_t round);

  size_t queued() const;
  size_t granted() const;
  // Grants that a stream has taken up.
  size_t streaming() const;

 private:
  struct Entry {
    v1::UpdateHeader header;
    ModelLayout layout;
    UploadTerms terms;
    std::shared_ptr<Upload> upload;  // second owner: its stream, while it runs
    bool queued = false;
    bool granted = false;
    uint64_t grant = 0;  // the latest one's number
    absl::Time granted_at;
    uint64_t streams_before = 0;  // of the upload, when it was granted
  };
  uint64_t ChargeOf(const Entry& entry) const;
  void ReturnLocked(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Spool* const spool_;
  const Options options_;
  mutable Mutex mutex_;
  std::map<UploadKey, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  std::deque<UploadKey> queue_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_grant_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t charged_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t granted_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_UPLOADS_UPLOAD_DESK_H_
