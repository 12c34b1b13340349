#include "coordinator/service/watch_rpc.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "coordinator/service/identity.h"

namespace koinon::coordinator {
namespace {

constexpr size_t kMaxQueuedEvents = 10'000;
constexpr size_t kMaxQueuedProgress = 1'000;

class Watch final : public grpc::ServerWriteReactor<v1::JobEvent> {
 public:
  explicit Watch(Engine* engine)
      : engine_(engine), port_(std::make_shared<Port>(this)) {}

  void Begin(const v1::WatchJobRequest& request) {
    engine_->Watch(request, port_);
  }

  void OnWriteDone(bool ok) override {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      queue_.clear();
      if (!close_status_.has_value()) close_status_ = absl::OkStatus();
    }
    WriteOn();
  }
  void OnCancel() override { CloseWith(absl::CancelledError("cancelled")); }
  void OnDone() override {
    port_->Detach();
    engine_->Unwatch(port_.get());
    delete this;
  }

 private:
  class Port final : public WatchPort {
   public:
    explicit Port(Watch* watch) : watch_(watch) {}
    void Send(const v1::JobEvent& event) override {
      MutexLock lock(&mutex_);
      if (watch_ != nullptr) watch_->Enqueue(event);
    }
    void Close(absl::Status status) override {
      MutexLock lock(&mutex_);
      if (watch_ != nullptr) watch_->CloseWith(std::move(status));
    }
    void Detach() {
      MutexLock lock(&mutex_);
      watch_ = nullptr;
    }

   private:
    Mutex mutex_;
    Watch* watch_ ABSL_GUARDED_BY(mutex_);
  };

  void Enqueue(const v1::JobEvent& event) {
    MutexLock lock(&mutex_);
    if (finished_ || close_status_.has_value()) return;
    if (event.has_worker() && queue_.size() >= kMaxQueuedProgress) return;
    if (queue_.size() >= kMaxQueuedEvents) {
      queue_.clear();
      close_status_ = absl::ResourceExhaustedError(
          absl::StrCat("the client left ", kMaxQueuedEvents, " events unread"));
    } else {
      queue_.push_back(event);
    }
    WriteOn();
  }

  void CloseWith(absl::Status status) {
    MutexLock lock(&mutex_);
    if (!close_status_.has_value()) close_status_ = std::move(status);
    WriteOn();
  }

  void WriteOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      outgoing_ = std::move(queue_.front());
      queue_.pop_front();
      writing_ = true;
      StartWrite(&outgoing_);
    } else if (close_status_.has_value()) {
      finished_ = true;
      Finish(ToGrpcStatus(*close_status_));
    }
  }

  Engine* const engine_;
  const std::shared_ptr<Port> port_;  // second owner: the engine

  Mutex mutex_;
  std::deque<v1::JobEvent> queue_ ABSL_GUARDED_BY(mutex_);
  v1::JobEvent outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

grpc::ServerWriteReactor<v1::JobEvent>* StartWatch(
    Engine* engine, const v1::WatchJobRequest& request) {
  auto* reactor = new Watch(engine);
  reactor->Begin(request);
  return reactor;
}

}  // namespace koinon::coordinator
