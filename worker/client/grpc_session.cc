#include "worker/client/grpc_session.h"

#include <utility>

#include "worker/client/grpc_call.h"

namespace koinon::worker {

GrpcSession::GrpcSession(v1::WorkerService::Stub* stub, const v1::Hello& hello,
                         CoordinatorClient::SessionCallbacks callbacks)
    : callbacks_(std::move(callbacks)),
      stream_(stub->PrepareAsyncSession(&context_, &queue_)) {
  v1::WorkerMessage first;
  *first.mutable_hello() = hello;
  unsent_.push_back(std::move(first));
  stream_->StartCall(TagOf(kStart));
  thread_ = std::thread([this] { Run(); });
}

GrpcSession::~GrpcSession() {
  context_.TryCancel();
  thread_.join();
}

void GrpcSession::Send(v1::WorkerMessage message) {
  MutexLock lock(&mutex_);
  if (no_more_writes_ || finishing_) return;
  if (unsent_.size() >= kMaxUnsent) {
    context_.TryCancel();
    return;
  }
  unsent_.push_back(std::move(message));
  WriteNext();
}

void GrpcSession::FinishSending() {
  MutexLock lock(&mutex_);
  finishing_ = true;
  WriteNext();
}

// Starting an operation does not wait, so it may happen under the lock, which
// keeps the messages in order.
void GrpcSession::WriteNext() {
  if (!started_ || writing_ || no_more_writes_) return;
  if (!unsent_.empty()) {
    writing_ = true;
    stream_->Write(unsent_.front(), TagOf(kWrite));
    unsent_.pop_front();
  } else if (finishing_) {
    writing_ = true;
    no_more_writes_ = true;
    stream_->WritesDone(TagOf(kWrite));
  }
}

void GrpcSession::Run() {
  void* tag;
  bool ok;
  bool going = true;
  while (going && queue_.Next(&tag, &ok)) {
    going = OnCompleted(static_cast<Tag>(reinterpret_cast<intptr_t>(tag)), ok);
  }
  {
    MutexLock lock(&mutex_);  // no operation starts after the shutdown
    no_more_writes_ = true;
  }
  queue_.Shutdown();
  while (queue_.Next(&tag, &ok)) {
  }
  callbacks_.on_closed(FromGrpcStatus(status_));
}

bool GrpcSession::OnCompleted(Tag tag, bool ok) {
  switch (tag) {
    case kStart:
      if (!ok) break;
      {
        MutexLock lock(&mutex_);
        started_ = true;
        WriteNext();
      }
      stream_->Read(&received_, TagOf(kRead));
      return true;
    case kRead:
      if (!ok) break;
      callbacks_.on_message(received_);
      stream_->Read(&received_, TagOf(kRead));
      return true;
    case kWrite: {
      MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok) no_more_writes_ = true;
      WriteNext();
      return true;
    }
    case kFinish:
      return false;
  }
  stream_->Finish(&status_, TagOf(kFinish));
  return true;
}

}  // namespace koinon::worker
