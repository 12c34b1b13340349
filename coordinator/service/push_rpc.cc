#include "coordinator/service/push_rpc.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "coordinator/service/push_message.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"

namespace koinon::coordinator {
namespace {

// Steps: 1. read the header, find its grant; 2. read chunks into the spool; 3.
// when all bytes are there, verify them and hand the upload to the engine; 4.
// reply and Finish when the engine has decided.
class Push final : public grpc::ServerReadReactor<grpc::ByteBuffer> {
 public:
  Push(Engine* engine, UploadDesk* desk, const Clock* clock,
       const AccessPolicy* policy, grpc::CallbackServerContext* context,
       grpc::ByteBuffer* reply)
      : engine_(engine),
        desk_(desk),
        clock_(clock),
        policy_(policy),
        context_(context),
        reply_(reply),
        link_(std::make_shared<Link>(this)) {}

  void Begin() { StartRead(&message_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // The stream ended before the last byte, which a broken one does too.
      return FinishOnce(
          absl::AbortedError("the stream ended before the update was whole"));
    }
    absl::Status status = ReadMessage();
    message_.Clear();  // its memory is the transport's: give it back now
    if (!status.ok()) return FinishOnce(status);
    if (upload_->IsWhole()) return HandOver();
    MutexLock lock(&mutex_);
    if (!finished_) StartRead(&message_);
  }

  void OnCancel() override { FinishOnce(absl::CancelledError("cancelled")); }

  void OnDone() override {
    link_->Detach();
    if (upload_ != nullptr) {
      // A superseded stream's charge is its successor's.
      if (upload_->Detach(stream_)) engine_->OnUploadStreamEnded(key_, grant_);
    }
    delete this;
  }

 private:
  // What outlives the reactor: the engine's and the upload's way back to it.
  class Link {
   public:
    explicit Link(Push* push) : push_(push) {}
    void Reply(const v1::PushUpdateReply& reply) {
      MutexLock lock(&mutex_);
      if (push_ != nullptr) push_->FinishWith(reply);
    }
    void Cancel() {
      MutexLock lock(&mutex_);
      if (push_ != nullptr) push_->context_->TryCancel();
    }
    void Detach() {
      MutexLock lock(&mutex_);
      push_ = nullptr;
    }

   private:
    Mutex mutex_;
    Push* push_ ABSL_GUARDED_BY(mutex_);
  };

  absl::Status ReadMessage() {
    grpc::ProtoBufferReader reader(&message_);
    std::optional<v1::UpdateHeader> header;
    // The chunk's pieces, put together: one write of a whole chunk costs the
    // file system half of what one write for each piece does. A buffer for each
    // of gRPC's few threads, not for each stream.
    thread_local std::string chunk;
    chunk.clear();
    uint64_t chunk_offset = 0;
    ABSL_RETURN_IF_ERROR(ReadPushMessage(
        &reader, &header, [&](uint64_t offset, absl::string_view data) {
          if (chunk.empty()) chunk_offset = offset;
          chunk.append(data.data(), data.size());
          return absl::OkStatus();
        }));
    if (header.has_value() && upload_ == nullptr) return Attach(*header);
    if (upload_ == nullptr) {
      return absl::FailedPreconditionError(
          "the first message of a push must be the header");
    }
    if (chunk.empty()) return absl::OkStatus();
    return upload_->Append(stream_, chunk_offset, chunk, clock_->Now());
  }

  absl::Status Attach(const v1::UpdateHeader& header) {
    ABSL_RETURN_IF_ERROR(ValidateId("worker id", header.worker()));
    ABSL_RETURN_IF_ERROR(policy_->Check(*context_->auth_context(),
                                        PeerIdentity::Role::kWorker,
                                        header.worker()));
    key_ = {header.task().job(), header.task().round(), header.worker()};
    ABSL_ASSIGN_OR_RETURN(UploadDesk::Granted granted, desk_->Find(key_));
    if (granted.upload->header().digest() != header.digest()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "worker ", key_.worker, " pushes another update than it announced"));
    }
    stream_ = granted.upload->Attach([link = link_] { link->Cancel(); });
    upload_ = std::move(granted.upload);
    grant_ = granted.grant;
    return absl::OkStatus();
  }

  void HandOver() {
    // The charge pays for bytes on their way: there are none any more.
    const bool current = upload_->Detach(stream_);
    if (!current) {
      return FinishOnce(absl::AbortedError("a newer stream sends this update"));
    }
    const std::shared_ptr<Upload> upload = std::exchange(upload_, nullptr);
    const auto reply = [link = link_](const v1::PushUpdateReply& answer) {
      link->Reply(answer);
    };
    const absl::Status verified = upload->Verify();
    if (verified.ok()) {
      engine_->OnUploadWhole(upload, reply);
    } else {
      engine_->OnUploadUnusable(key_, verified, reply);
    }
    engine_->OnUploadStreamEnded(key_, grant_);
  }

  void FinishWith(const v1::PushUpdateReply& answer) {
    MutexLock lock(&mutex_);
    if (finished_) return;
    finished_ = true;
    const grpc::Slice slice(answer.SerializeAsString());
    *reply_ = grpc::ByteBuffer(&slice, 1);
    Finish(grpc::Status::OK);
  }

  void FinishOnce(const absl::Status& status) {
    MutexLock lock(&mutex_);
    if (finished_) return;
    finished_ = true;
    Finish(ToGrpcStatus(status));
  }

  Engine* const engine_;
  UploadDesk* const desk_;
  const Clock* const clock_;
  const AccessPolicy* const policy_;
  grpc::CallbackServerContext* const context_;
  grpc::ByteBuffer* const reply_;
  const std::shared_ptr<Link> link_;  // second owners: engine and upload
  // Reads are one at a time.
  grpc::ByteBuffer message_;
  UploadKey key_;
  std::shared_ptr<Upload> upload_;  // second owner: the desk
  uint64_t stream_ = 0;
  uint64_t grant_ = 0;

  Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerReadReactor<grpc::ByteBuffer>* StartPush(
    Engine* engine, UploadDesk* desk, const Clock* clock,
    const AccessPolicy* policy, grpc::CallbackServerContext* context,
    grpc::ByteBuffer* reply) {
  auto* reactor = new Push(engine, desk, clock, policy, context, reply);
  reactor->Begin();
  return reactor;
}

}  // namespace koinon::coordinator
