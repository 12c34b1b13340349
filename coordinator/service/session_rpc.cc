#include "coordinator/service/session_rpc.h"

#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "base/version.h"

namespace koinon::coordinator {
namespace {

// A worker that does not read what it is sent is cut off.
constexpr size_t kMaxQueuedMessages = 1000;

absl::Status CheckVersion(const v1::Hello& hello) {
  if (hello.protocol().major() == kProtocolMajor) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "protocol ", hello.protocol().major(), ".", hello.protocol().minor(),
      " of worker software ", hello.software_version(),
      " is not spoken here: this coordinator speaks ", kProtocolMajor, ".",
      kProtocolMinor, " (software ", std::string(kSoftwareVersion), ")"));
}

// What is kept of each worker while it is registered is bounded.
absl::Status CheckSize(const v1::Hello& hello) {
  constexpr int kMaxHeldUpdates = 1000;
  constexpr size_t kMaxDescriptionBytes = 64 << 10;
  if (hello.held_updates_size() > kMaxHeldUpdates) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Hello of worker ", hello.worker(), ": ", hello.held_updates_size(),
        " held updates, expected at most ", kMaxHeldUpdates));
  }
  const size_t described =
      hello.capabilities().ByteSizeLong() + hello.software_version().size();
  if (described > kMaxDescriptionBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "Hello of worker ", hello.worker(), ": capabilities and version of ",
        described, " bytes, expected at most ", kMaxDescriptionBytes));
  }
  return absl::OkStatus();
}

// Steps: 1. read Hello and check it; 2. engine.OnHello; 3. read and hand over,
// one message at a time; 4. when reading ends, or Close is called, Finish.
class Session final : public SessionReactor {
 public:
  Session(Engine* engine, const AccessPolicy* policy, uint64_t id,
          grpc::CallbackServerContext* context)
      : engine_(engine),
        policy_(policy),
        id_(id),
        context_(context),
        port_(std::make_shared<Port>(this)) {}

  void Begin() {
    engine_->OnSessionOpened(id_, port_);
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return CloseWith(absl::OkStatus());
    if (!said_hello_) {
      const absl::Status hello = CheckHello();
      if (!hello.ok()) return CloseWith(hello);
      said_hello_ = true;
      engine_->OnHello(id_, std::move(*incoming_.mutable_hello()),
                       context_->peer());
      return ReadNext();
    }
    engine_->OnMessage(id_, std::move(incoming_),
                       [port = port_] { port->ReadOn(); });
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
    engine_->OnSessionClosed(id_);
    delete this;
  }

 private:
  // The engine's handle: outlives the reactor.
  class Port final : public SessionPort {
   public:
    explicit Port(Session* session) : session_(session) {}
    void Send(v1::CoordinatorMessage message) override {
      MutexLock lock(&mutex_);
      if (session_ != nullptr) session_->Enqueue(std::move(message));
    }
    void Close(absl::Status status) override {
      MutexLock lock(&mutex_);
      if (session_ != nullptr) session_->CloseWith(std::move(status));
    }
    void ReadOn() {
      MutexLock lock(&mutex_);
      if (session_ != nullptr) session_->ReadNext();
    }
    void Detach() {
      MutexLock lock(&mutex_);
      session_ = nullptr;
    }

   private:
    Mutex mutex_;
    Session* session_ ABSL_GUARDED_BY(mutex_);
  };

  absl::Status CheckHello() const {
    if (!incoming_.has_hello()) {
      return absl::FailedPreconditionError(
          "the first message of a session must be Hello");
    }
    const v1::Hello& hello = incoming_.hello();
    ABSL_RETURN_IF_ERROR(CheckVersion(hello));
    ABSL_RETURN_IF_ERROR(ValidateId("worker id", hello.worker()));
    ABSL_RETURN_IF_ERROR(CheckSize(hello));
    const auto peer = context_->auth_context();
    ABSL_RETURN_IF_ERROR(
        policy_->Check(*peer, PeerIdentity::Role::kWorker, hello.worker()));
    if (!hello.has_peer()) return absl::OkStatus();
    return policy_->CheckNode(*peer, hello.peer());
  }

  void ReadNext() {
    MutexLock lock(&mutex_);
    if (!finished_) StartRead(&incoming_);
  }

  void Enqueue(v1::CoordinatorMessage message) {
    MutexLock lock(&mutex_);
    if (finished_ || close_status_.has_value()) return;
    if (queue_.size() >= kMaxQueuedMessages) {
      queue_.clear();
      close_status_ = absl::ResourceExhaustedError(absl::StrCat(
          "the worker left ", kMaxQueuedMessages, " messages unread"));
    } else {
      queue_.push_back(std::move(message));
    }
    WriteOn();
  }

  void CloseWith(absl::Status status) {
    MutexLock lock(&mutex_);
    if (!close_status_.has_value()) close_status_ = std::move(status);
    WriteOn();
  }

  // Starts the next write, or finishes when all is written and we are to close.
  void WriteOn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty() && !context_->IsCancelled()) {
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
  const AccessPolicy* const policy_;
  const uint64_t id_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<Port> port_;  // second owner: the engine
  bool said_hello_ = false;           // reads are one at a time
  v1::WorkerMessage incoming_;

  Mutex mutex_;
  std::deque<v1::CoordinatorMessage> queue_ ABSL_GUARDED_BY(mutex_);
  v1::CoordinatorMessage outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

SessionReactor* StartSession(Engine* engine, const AccessPolicy* policy,
                             uint64_t session,
                             grpc::CallbackServerContext* context) {
  auto* reactor = new Session(engine, policy, session, context);
  reactor->Begin();
  return reactor;
}

}  // namespace koinon::coordinator
