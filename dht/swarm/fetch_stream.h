#ifndef KOINON_DHT_SWARM_FETCH_STREAM_H_
#define KOINON_DHT_SWARM_FETCH_STREAM_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// The asking end of one Fetch stream. At most two replies wait in it to be
// taken; no more are read meanwhile, so that a source is as fast as whoever
// takes. Thread-safe, but replies are taken by one thread at a time. Lives
// until the call is over, whoever else lets go of it.
class FetchStream final
    : public grpc::ClientBidiReactor<v1::FetchRequest, grpc::ByteBuffer>,
      public std::enable_shared_from_this<FetchStream> {
 public:
  // `ready` is called, on any thread and under no lock, when there is a reply
  // to take or the call is over; `gone`, at the very end, when the call has let
  // go of the stream, and with it of the channel.
  static std::shared_ptr<FetchStream> Start(
      std::shared_ptr<grpc::Channel> channel, v1::FetchRequest open,
      std::function<void()> ready, std::function<void()> gone);

  void Send(v1::FetchRequest request);
  // The next reply; false: none is here. `spare`: as DecodeReply's. What is no
  // reply ends the call: INVALID_ARGUMENT.
  bool Take(v1::FetchReply* reply, std::string* spare);
  // No reply will come any more, and all have been taken.
  bool over() const;
  absl::Status status() const;  // once it is over
  // Who answers: once there was a reply.
  std::shared_ptr<const grpc::AuthContext> auth_context() const {
    return context_.auth_context();
  }

  // What was sent goes out, and nothing more is asked or taken.
  void Close();
  void Cancel();

  // Of the reactor.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  FetchStream(std::shared_ptr<grpc::Channel> channel,
              std::function<void()> ready, std::function<void()> gone)
      : channel_(std::move(channel)),
        stub_(channel_),
        ready_(std::move(ready)),
        gone_(std::move(gone)) {}

  void ReadOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Discard() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<grpc::Channel> channel_;
  // Replies as bytes: they are decoded by whoever takes them.
  grpc::TemplatedGenericStub<v1::FetchRequest, grpc::ByteBuffer> stub_;
  const std::function<void()> ready_;
  std::function<void()> gone_;
  grpc::ClientContext context_;
  std::shared_ptr<FetchStream> self_;  // until OnDone

  grpc::ByteBuffer incoming_;  // of the read under way
  v1::FetchRequest outgoing_;  // of the write under way

  mutable Mutex mutex_;
  std::deque<grpc::ByteBuffer> replies_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::FetchRequest> requests_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;
  bool read_all_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool discarding_ ABSL_GUARDED_BY(mutex_) = false;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  bool said_done_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool malformed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_FETCH_STREAM_H_
