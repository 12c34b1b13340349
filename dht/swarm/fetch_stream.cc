#include "dht/swarm/fetch_stream.h"

#include <utility>

#include "dht/swarm/reply_bytes.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {
namespace {

constexpr size_t kMaxReplies = 2;

constexpr char kMethod[] = "/koinon.v1.PeerService/Fetch";

}  // namespace

std::shared_ptr<FetchStream> FetchStream::Start(
    std::shared_ptr<grpc::Channel> channel, v1::FetchRequest open,
    std::function<void()> ready, std::function<void()> gone) {
  std::shared_ptr<FetchStream> stream(
      new FetchStream(std::move(channel), std::move(ready), std::move(gone)));
  stream->self_ = stream;
  stream->stub_.PrepareBidiStreamingCall(&stream->context_, kMethod, {},
                                         stream.get());
  // Reads and writes are started by others than the reactor too: the call is
  // not over before the last read has failed.
  stream->AddHold();
  {
    MutexLock lock(&stream->mutex_);
    stream->requests_.push_back(std::move(open));
    stream->WriteOn();
    stream->ReadOn();
  }
  stream->StartCall();
  return stream;
}

void FetchStream::ReadOn() {
  if (reading_ || read_all_) return;
  if (replies_.size() >= kMaxReplies && !discarding_) return;
  reading_ = true;
  StartRead(&incoming_);
}

void FetchStream::WriteOn() {
  if (writing_ || read_all_ || said_done_) return;
  if (!requests_.empty()) {
    outgoing_ = std::move(requests_.front());
    requests_.pop_front();
    writing_ = true;
    StartWrite(&outgoing_);
  } else if (closing_) {
    said_done_ = true;
    StartWritesDone();
  }
}

void FetchStream::Send(v1::FetchRequest request) {
  MutexLock lock(&mutex_);
  if (read_all_ || closing_) return;
  requests_.push_back(std::move(request));
  WriteOn();
}

bool FetchStream::Take(v1::FetchReply* reply, std::string* spare) {
  grpc::ByteBuffer bytes;
  {
    MutexLock lock(&mutex_);
    if (replies_.empty()) return false;
    bytes.Swap(&replies_.front());
    replies_.pop_front();
    ReadOn();
  }
  if (DecodeReply(&bytes, spare, reply)) return true;
  {
    MutexLock lock(&mutex_);
    malformed_ = true;
  }
  Cancel();
  return false;
}

bool FetchStream::over() const {
  MutexLock lock(&mutex_);
  return over_ && replies_.empty();
}

absl::Status FetchStream::status() const {
  MutexLock lock(&mutex_);
  if (malformed_) return absl::InvalidArgumentError("bytes that are no reply");
  return status_;
}

void FetchStream::Discard() {
  discarding_ = true;
  replies_.clear();
  ReadOn();
}

void FetchStream::Close() {
  MutexLock lock(&mutex_);
  closing_ = true;
  Discard();
  WriteOn();
}

void FetchStream::Cancel() {
  context_.TryCancel();
  MutexLock lock(&mutex_);
  Discard();
}

void FetchStream::OnReadDone(bool ok) {
  bool tell = false;
  {
    MutexLock lock(&mutex_);
    reading_ = false;
    if (!ok) {
      read_all_ = true;
      requests_.clear();
      RemoveHold();
      return;
    }
    if (!discarding_) {
      replies_.emplace_back();
      replies_.back().Swap(&incoming_);
      tell = true;
    }
    ReadOn();
  }
  if (tell) ready_();
}

void FetchStream::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  writing_ = false;
  if (!ok) requests_.clear();  // the read fails too, and says why
  WriteOn();
}

void FetchStream::OnDone(const grpc::Status& status) {
  std::shared_ptr<FetchStream> last = std::move(self_);
  const std::function<void()> gone = std::move(gone_);
  {
    MutexLock lock(&mutex_);
    over_ = true;
    status_ = absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                           status.error_message());
  }
  ready_();
  last.reset();  // and `this`, perhaps
  gone();
}

}  // namespace koinon::dht
