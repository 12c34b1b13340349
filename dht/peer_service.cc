#include "dht/peer_service.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/node_identity.h"
#include "base/status_macros.h"
#include "base/tls.h"

namespace koinon::dht {
namespace {

// It travels in a header, of which peers take a few KiB; three bytes for each
// that is not plain text.
constexpr size_t kMaxMessageBytes = 2000;

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMaxMessageBytes)));
}

// Ends the call when it is destroyed, if not before: what was to answer may
// have been dropped.
class Ending {
 public:
  explicit Ending(grpc::ServerUnaryReactor* reactor) : reactor_(reactor) {}
  ~Ending() {
    if (reactor_ != nullptr) {
      Finish(absl::UnavailableError("this node is stopping"));
    }
  }
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;

  void Finish(const absl::Status& status) {
    std::exchange(reactor_, nullptr)->Finish(ToGrpc(status));
  }

 private:
  grpc::ServerUnaryReactor* reactor_;
};

// The stream is refused before it says what it wants.
class Refusal final : public Seeder::Reactor {
 public:
  explicit Refusal(const absl::Status& status) { Finish(ToGrpc(status)); }
  void OnDone() override { delete this; }
};

}  // namespace

Key CountedAs(const PeerIdentity& who) {
  if (who.node.has_value()) return NodeIdOf(who.federation, *who.node);
  return Sha256Of(OwnerOf(who));
}

Seeder::Caller CallerOf(const PeerIdentity& who) {
  Seeder::Caller caller;
  if (who.role == PeerIdentity::Role::kAnonymous) return caller;
  caller.member = CountedAs(who);
  if (!who.node.has_value()) return caller;
  caller.node = caller.member;
  caller.site = who.node->site;
  return caller;
}

PeerServiceImpl::PeerServiceImpl(Parts parts)
    : parts_(std::move(parts)), rate_(parts_.rate) {}

absl::Status PeerServiceImpl::CheckRate(const Key& who) {
  const absl::Time now = parts_.clock->Now();
  {
    MutexLock lock(&mutex_);
    if (rate_.Take(who, now)) return absl::OkStatus();
  }
  parts_.rejections->Count(Rejection::kRate);
  return RejectedError(
      Rejection::kRate,
      absl::StrCat("node ", who.ToShortHex(), " asks more than ",
                   parts_.rate.per_second, " questions a second"));
}

absl::StatusOr<Contact> PeerServiceImpl::Admit(
    const grpc::CallbackServerContext& context,
    const v1::AskRequest& question) {
  ABSL_ASSIGN_OR_RETURN(const PeerIdentity who,
                        PeerIdentityOf(*context.auth_context()));
  ABSL_ASSIGN_OR_RETURN(Contact from,
                        parts_.policy->CheckAsker(who, question.sender()));
  ABSL_RETURN_IF_ERROR(CheckRate(from.id));
  return from;
}

grpc::ServerUnaryReactor* PeerServiceImpl::Ask(
    grpc::CallbackServerContext* context, const v1::AskRequest* question,
    v1::AskReply* reply) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  absl::StatusOr<Contact> from = Admit(*context, *question);
  if (!from.ok()) {
    reactor->Finish(ToGrpc(from.status()));
    return reactor;
  }
  auto ending = std::make_shared<Ending>(reactor);  // the strand's
  parts_.strand->Run([this, from = *std::move(from), question, reply, ending] {
    auto answer = parts_.answer(from, *question);
    if (answer.ok()) *reply = *std::move(answer);
    ending->Finish(answer.status());
  });
  return reactor;
}

Seeder::Reactor* PeerServiceImpl::Fetch(grpc::CallbackServerContext* context) {
  const auto who = PeerIdentityOf(*context->auth_context());
  if (!who.ok()) return new Refusal(who.status());
  absl::Status allowed = parts_.policy->CheckFetcher(*who);
  Seeder::Caller caller = CallerOf(*who);
  // Strangers' and plaintext's identities are not worth counting by.
  if (allowed.ok() && !caller.member.IsZero()) {
    allowed = CheckRate(caller.member);
  }
  return parts_.seeder->Serve(allowed, std::move(caller));
}

grpc::ServerUnaryReactor* PeerServiceImpl::GetNodeStatus(
    grpc::CallbackServerContext* context, const v1::NodeStatusRequest*,
    v1::NodeStatus* reply) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const auto who = PeerIdentityOf(*context->auth_context());
  absl::Status admitted =
      who.ok() ? parts_.policy->CheckMember(*who) : who.status();
  if (admitted.ok()) admitted = CheckRate(CountedAs(*who));
  if (!admitted.ok()) {
    reactor->Finish(ToGrpc(admitted));
    return reactor;
  }
  auto ending = std::make_shared<Ending>(reactor);  // the strand's
  parts_.strand->Run([this, reply, ending] {
    *reply = parts_.status();
    ending->Finish(absl::OkStatus());
  });
  return reactor;
}

}  // namespace koinon::dht
