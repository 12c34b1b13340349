#include "worker/session/session_machine.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/version.h"

namespace koinon::worker {
namespace {

// A coordinator that promises more, or less, is not believed.
constexpr double kMinLeaseSeconds = 0.01;
constexpr double kMaxLeaseSeconds = 7 * 24 * 3600.0;

absl::Status CheckWelcome(const v1::Welcome& welcome) {
  if (welcome.protocol().major() != kProtocolMajor) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the coordinator (version ", welcome.software_version(),
        ") speaks protocol ", welcome.protocol().major(), ".",
        welcome.protocol().minor(), ", this worker (version ", kSoftwareVersion,
        ") speaks ", kProtocolMajor, ".", kProtocolMinor));
  }
  const double lease = welcome.lease_seconds();
  if (!(lease >= kMinLeaseSeconds && lease <= kMaxLeaseSeconds)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the coordinator grants a lease of ", lease, " s, expected ",
        kMinLeaseSeconds, " to ", kMaxLeaseSeconds));
  }
  if (welcome.max_chunk_bytes() <= 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("the coordinator takes chunks of ",
                     welcome.max_chunk_bytes(), " bytes, expected at least 1"));
  }
  return absl::OkStatus();
}

// The task that a message is about, if it is about one.
const v1::TaskRef* TaskOf(const v1::CoordinatorMessage& message) {
  switch (message.message_case()) {
    case v1::CoordinatorMessage::kOfferTask:
      return &message.offer_task().task();
    case v1::CoordinatorMessage::kGrantUpload:
      return &message.grant_upload().task();
    case v1::CoordinatorMessage::kWithdrawTask:
      return &message.withdraw_task().task();
    case v1::CoordinatorMessage::kUpdateSettled:
      return &message.update_settled().task();
    default:
      return nullptr;
  }
}

}  // namespace

bool NeedsOperator(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnimplemented:
      return true;
    default:
      return false;
  }
}

absl::Status SessionMachine::Validate(const Config& config) {
  ABSL_RETURN_IF_ERROR(ValidateId("worker name", config.worker));
  if (config.backoff.base <= absl::ZeroDuration() ||
      config.backoff.max < config.backoff.base) {
    return absl::InvalidArgumentError(
        absl::StrCat("backoff: expected 0 < base <= max, found base ",
                     absl::FormatDuration(config.backoff.base), ", max ",
                     absl::FormatDuration(config.backoff.max)));
  }
  if (config.welcome_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("welcome_timeout: must be over 0");
  }
  if (config.max_held_updates < 1) {
    return absl::InvalidArgumentError("max_held_updates: must be at least 1");
  }
  if (config.max_chunk_bytes < 1) {
    return absl::InvalidArgumentError("max_chunk_bytes: must be at least 1");
  }
  return absl::OkStatus();
}

SessionMachine::SessionMachine(Config config,
                               std::vector<v1::UpdateHeader> held)
    : config_(std::move(config)),
      connection_(config_.backoff, config_.welcome_timeout,
                  Random(DeriveSeed(config_.seed, "connection"))),
      tasks_(TaskQueue::Options{config_.backoff, config_.progress_interval,
                                config_.capabilities, config_.check_offer},
             Random(DeriveSeed(config_.seed, "fetch"))),
      uploads_(UploadQueue::Options{config_.backoff, config_.max_held_updates},
               std::move(held), Random(DeriveSeed(config_.seed, "push"))) {}

Actions SessionMachine::Finish(absl::Time now, Outbox& out) {
  if (connection_.state() != Connection::State::kStopped) {
    uploads_.Pump(now, out);
    tasks_.Pump(now, out);
  }
  return out.Take();
}

Actions SessionMachine::Tick(absl::Time now) {
  Outbox out = NewOutbox();
  switch (connection_.CheckDue(now)) {
    case Connection::Due::kOpen:
      Open(now, out);
      break;
    case Connection::Due::kRenew: {
      v1::WorkerMessage message;
      message.mutable_renew_lease();
      out.Send(std::move(message));
      connection_.OnRenewalSent(now);
      break;
    }
    case Connection::Due::kWelcomeMissing:
      Break(now, "no Welcome came in time", /*permanent=*/false, out);
      break;
    case Connection::Due::kLeaseMissing:
      Break(now, "the lease ran out unconfirmed", /*permanent=*/false, out);
      break;
    case Connection::Due::kNothing:
      break;
  }
  return Finish(now, out);
}

void SessionMachine::Open(absl::Time now, Outbox& out) {
  const uint64_t session = connection_.BeginOpening(now);
  v1::Hello hello;
  hello.mutable_protocol()->set_major(kProtocolMajor);
  hello.mutable_protocol()->set_minor(kProtocolMinor);
  hello.set_software_version(std::string(kSoftwareVersion));
  hello.set_worker(config_.worker);
  *hello.mutable_capabilities() = config_.capabilities;
  if (config_.peer.has_value()) *hello.mutable_peer() = *config_.peer;
  uploads_.Announce(session, hello);
  out.Do(OpenSession{session, std::move(hello)});
}

void SessionMachine::Break(absl::Time now, const std::string& reason,
                           bool permanent, Outbox& out) {
  out.Do(CloseSession{connection_.session(), /*graceful=*/false, reason});
  connection_.OnBroken(now, permanent);
  uploads_.OnSessionBroken();
  Outbox closed = NewOutbox();  // nothing more can be sent in this event
  for (Action& action : out.Take()) closed.Do(std::move(action));
  out = std::move(closed);
}

Actions SessionMachine::OnSessionClosed(absl::Time now, uint64_t session,
                                        const absl::Status& status) {
  const bool current = session == connection_.session() &&
                       (connection_.state() == Connection::State::kOpening ||
                        connection_.state() == Connection::State::kOpen);
  if (current) {
    connection_.OnBroken(now, NeedsOperator(status));
    uploads_.OnSessionBroken();
  }
  Outbox out = NewOutbox();
  return Finish(now, out);
}

Actions SessionMachine::OnMessage(absl::Time now, uint64_t session,
                                  const v1::CoordinatorMessage& message) {
  Outbox out = NewOutbox();
  if (session != connection_.session()) return Finish(now, out);
  if (connection_.state() == Connection::State::kOpening) {
    if (message.has_welcome()) {
      OnWelcome(now, message.welcome(), out);
    } else {
      Break(now, "the coordinator's first message is not Welcome",
            /*permanent=*/true, out);
    }
  } else if (connection_.state() == Connection::State::kOpen) {
    Dispatch(now, message, out);
  }
  return Finish(now, out);
}

void SessionMachine::OnWelcome(absl::Time now, const v1::Welcome& welcome,
                               Outbox& out) {
  const absl::Status status = CheckWelcome(welcome);
  if (!status.ok()) {
    Break(now, std::string(status.message()), /*permanent=*/true, out);
    return;
  }
  connection_.OnWelcome(now, absl::Seconds(welcome.lease_seconds()));
  out = NewOutbox();
  out.Do(UseWelcome{welcome});
  tasks_.OnWelcome(out);
  uploads_.OnWelcome(
      std::min(welcome.max_chunk_bytes(), config_.max_chunk_bytes), out);
}

void SessionMachine::Dispatch(absl::Time now,
                              const v1::CoordinatorMessage& message,
                              Outbox& out) {
  TaskId task;
  if (const v1::TaskRef* ref = TaskOf(message); ref != nullptr) {
    absl::StatusOr<TaskId> id = TaskIdFromRef(*ref);
    if (!id.ok()) {
      out.Do(Warn{absl::StrCat("message about a task that cannot be: ",
                               id.status().message())});
      return;
    }
    task = *std::move(id);
  }
  switch (message.message_case()) {
    case v1::CoordinatorMessage::kLeaseRenewed:
      connection_.OnLeaseRenewed(now);
      return;
    case v1::CoordinatorMessage::kOfferTask:
      OnOffer(now, message.offer_task(), out);
      return;
    case v1::CoordinatorMessage::kGrantUpload:
      // A grant for what is still being trained is a mistake of the peer's.
      if (!tasks_.Has(task)) {
        uploads_.OnGrant(now, task, message.grant_upload(), out);
      }
      return;
    case v1::CoordinatorMessage::kWithdrawTask:
      tasks_.OnWithdrawn(task, out);
      uploads_.OnWithdrawn(task, out);
      return;
    case v1::CoordinatorMessage::kUpdateSettled:
      uploads_.OnSettled(task, message.update_settled(), out);
      return;
    case v1::CoordinatorMessage::kWelcome:
    case v1::CoordinatorMessage::MESSAGE_NOT_SET:
      return;  // said twice, or of a newer minor version
  }
}

void SessionMachine::OnOffer(absl::Time now, const v1::OfferTask& offer,
                             Outbox& out) {
  const TaskId task = *TaskIdFromRef(offer.task());  // checked by Dispatch
  const v1::UpdateHeader* held = uploads_.Find(task);
  if (held != nullptr && held->base_digest() == offer.base_digest()) {
    uploads_.OnOffered(task, out);
    return;
  }
  if (held != nullptr) {
    uploads_.Forget(task, "the task is offered with another base", out);
  }
  tasks_.OnOffer(now, task, offer, out);
}

Actions SessionMachine::OnFetched(
    absl::Time now, uint64_t run,
    const absl::StatusOr<v1::SwarmTraffic>& fetched) {
  Outbox out = NewOutbox();
  tasks_.OnFetched(now, run, fetched, out);
  return Finish(now, out);
}

Actions SessionMachine::OnProgress(absl::Time now, uint64_t run,
                                   double fraction, double loss) {
  Outbox out = NewOutbox();
  tasks_.OnProgress(now, run, fraction, loss, out);
  return Finish(now, out);
}

Actions SessionMachine::OnTrained(
    absl::Time now, uint64_t run,
    const absl::StatusOr<v1::UpdateHeader>& result) {
  Outbox out = NewOutbox();
  const auto header = tasks_.OnTrained(run, result, out);
  if (header.has_value()) uploads_.Add(*header, out);
  return Finish(now, out);
}

Actions SessionMachine::OnEvaluated(absl::Time now, uint64_t run,
                                    const absl::StatusOr<v1::Metrics>& result) {
  Outbox out = NewOutbox();
  tasks_.OnEvaluated(run, result, out);
  return Finish(now, out);
}

Actions SessionMachine::OnPushed(absl::Time now, uint64_t push,
                                 const PushOutcome& outcome) {
  Outbox out = NewOutbox();
  uploads_.OnPushed(now, push, outcome, out);
  return Finish(now, out);
}

Actions SessionMachine::Stop(absl::Time now, const std::string& reason) {
  Outbox out = NewOutbox();
  const bool has_session = connection_.state() == Connection::State::kOpening ||
                           connection_.state() == Connection::State::kOpen;
  const bool welcomed = out.session().has_value();
  tasks_.StopAll(out);
  uploads_.Stop(out);
  v1::WorkerMessage message;
  message.mutable_goodbye()->set_reason(reason);
  out.Send(std::move(message));
  if (has_session) {
    out.Do(CloseSession{connection_.session(), /*graceful=*/welcomed, reason});
  }
  connection_.Stop();
  return Finish(now, out);
}

absl::Time SessionMachine::next_deadline() const {
  absl::Time next = connection_.next_deadline();
  if (connection_.state() == Connection::State::kStopped) return next;
  next = std::min(next, tasks_.next_deadline());
  if (connection_.open_session().has_value()) {
    next = std::min(next, uploads_.next_deadline());
  }
  return next;
}

}  // namespace koinon::worker
