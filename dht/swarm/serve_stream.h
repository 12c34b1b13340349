#ifndef KOINON_DHT_SWARM_SERVE_STREAM_H_
#define KOINON_DHT_SWARM_SERVE_STREAM_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "base/mutex.h"
#include "dht/key.h"
#include "dht/swarm/serve_state.h"
#include "dht/swarm/upload.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// One Fetch stream of a Seeder. Steps: 1. read Open, find the content, answer
// Opened; 2. read requests into the Upload, and write what it has to say, one
// message at a time; 3. when reading ends, or Close is called, Finish. Its
// second owners hold it no longer than OnDone allows: it gives itself up there.
// Thread-safe.
class Seeder::Stream final : public Reactor,
                             public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<State> state, uint64_t id, Caller caller)
      : state_(std::move(state)), id_(id), caller_(std::move(caller)) {}

  // `refused`: OK, or why there is nothing for the caller.
  void Begin(const absl::Status& refused);
  void Close(const absl::Status& status);
  // It may begin a piece now.
  void OnSlot();
  void OnPiece(uint32_t piece);
  // `passed`: since the last one.
  void OnPulse(absl::Duration passed);

  const Caller& caller() const { return caller_; }
  Upload::Counts counts() const;

  // Of the reactor.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  absl::Status OnRequest();
  absl::Status Open();
  // The node; zero if it is none, or does not say.
  Key WhoCalls() const;
  Upload::Options UploadOptions(const Digest& root) const;
  void Listen(const Digest& root);
  void CountIdle(absl::Duration passed, absl::Duration bound);
  // Writes what there is to write, or finishes. The reply is filled in under no
  // lock, for that reads the file; `again_` says that there may be more since.
  void Write();
  void SendReply() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // As the upload's; of whoever set writing_.
  bool NextReply();
  void GiveSlotBack();
  // False: it is told when it has one.
  bool AskForSlot();

  const std::shared_ptr<State> state_;  // second owner: the seeder
  const uint64_t id_;
  const Caller caller_;
  std::shared_ptr<Stream> self_;  // from Begin to OnDone

  // Reads come one at a time; others look only once opened_ is true.
  grpc::ByteBuffer incoming_bytes_;
  v1::FetchRequest incoming_;
  std::unique_ptr<Upload> upload_;
  std::atomic<bool> opened_{false};
  uint64_t listener_ = 0;

  std::atomic<bool> has_slot_{false};
  std::atomic<bool> moved_{false};
  std::atomic<bool> cancelled_{false};
  absl::Duration idle_;  // the pulse's

  // Of whoever set writing_.
  v1::FetchReply outgoing_;
  grpc::ByteBuffer outgoing_bytes_;
  bool begun_ = false;  // a piece, with the slot

  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SERVE_STREAM_H_
