#include "dht/transport/grpc_transport.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/tls.h"

namespace koinon::dht {

struct GrpcTransport::Call {
  Contact to;
  Done done;
  std::shared_ptr<Channels::Link> link;
  std::optional<grpc::ClientContext> context{std::in_place};
  v1::AskRequest question;
  absl::StatusOr<v1::AskReply> reply = v1::AskReply();
};

GrpcTransport::GrpcTransport(Contact self, Strand* strand, Channels* channels,
                             const PeerPolicy* policy)
    : self_(std::move(self)),
      sender_(ContactToProto(self_)),
      strand_(strand),
      channels_(channels),
      policy_(policy) {}

GrpcTransport::~GrpcTransport() { Stop(); }

void GrpcTransport::Ask(const Contact& to, v1::AskRequest question,
                        absl::Duration deadline, Done done) {
  auto call = std::make_shared<Call>();  // second owners: see out_
  call->to = to;
  call->done = std::move(done);
  call->link = channels_->To(to.address);
  call->question = std::move(question);
  *call->question.mutable_sender() = sender_;
  call->context->set_deadline(absl::ToChronoTime(absl::Now() + deadline));
  {
    MutexLock lock(&mutex_);
    if (stopped_) return;
    out_.insert(call);
  }
  v1::PeerService::Stub* const stub = call->link->stub.get();
  stub->async()->Ask(
      &*call->context, &call->question, &*call->reply,
      [this, call](grpc::Status status) { OnAnswer(call, status); });
}

void GrpcTransport::OnAnswer(const std::shared_ptr<Call>& call,
                             const grpc::Status& status) {
  absl::Status answered;
  if (status.ok()) {
    answered = CheckAnswer(call.get());
  } else {
    answered = absl::Status(
        static_cast<absl::StatusCode>(status.error_code()),
        absl::StrCat(call->to.address, ": ", status.error_message()));
    // A connection that is still being made may serve the next question.
    if (absl::IsUnavailable(answered)) {
      channels_->Drop(call->to.address, call->link.get());
    }
  }
  if (!answered.ok()) call->reply = std::move(answered);
  strand_->Run([call] { call->done(std::move(call->reply)); });
  MutexLock lock(&mutex_);
  // Once Stop has returned nobody holds a channel: see CallbackThreads.
  call->context.reset();
  call->link.reset();
  out_.erase(call);
  if (out_.empty()) ended_.SignalAll();
}

// The answer's sender becomes what is known of it.
absl::Status GrpcTransport::CheckAnswer(Call* call) const {
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity who,
                        PeerIdentityOf(*call->context->auth_context()));
  ABSL_RETURN_IF_ERROR(policy_->CheckIs(call->to, who));
  absl::StatusOr<Contact> sender =
      policy_->NodeOf(who, (*call->reply).sender());
  if (!sender.ok()) {
    return absl::UnauthenticatedError(
        absl::StrCat(call->to.address, ": ", sender.status().message()));
  }
  if (!call->to.id.IsZero() && sender->id != call->to.id) {
    return absl::UnauthenticatedError(absl::StrCat(
        "expected node ", call->to.id.ToShortHex(), " at ", call->to.address,
        ", found node ", sender->id.ToShortHex()));
  }
  sender->address = call->to.address;
  *call->reply->mutable_sender() = ContactToProto(*sender);
  return absl::OkStatus();
}

void GrpcTransport::Stop() {
  std::vector<std::shared_ptr<Call>> out;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    out.assign(out_.begin(), out_.end());
  }
  for (const std::shared_ptr<Call>& call : out) {
    MutexLock lock(&mutex_);
    if (call->context.has_value()) call->context->TryCancel();
  }
  MutexLock lock(&mutex_);
  while (!out_.empty()) ended_.Wait(&mutex_);
}

}  // namespace koinon::dht
