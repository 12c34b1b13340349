#include "dht/node_core.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "dht/records/rejection.h"

namespace koinon::dht {
namespace {

// Nodes that were heard of and wait to be pinged. More than this are dropped;
// they will be heard of again.
constexpr size_t kMaxChecks = 4'096;
// Who sees the end of a question so long after it was due was itself held up,
// and can say nothing of the other.
constexpr absl::Duration kHeldUp = absl::Milliseconds(250);

}  // namespace

NodeCore::NodeCore(Node::Options options, Loop* loop, Transport* transport,
                   RecordStore* store)
    : options_(std::move(options)),
      loop_(loop),
      transport_(transport),
      store_(store),
      table_(options_.self.id, options_.routing),
      lost_({}, DeriveSeed(options_.seed, "lost")),
      times_(options_.times),
      random_(options_.seed) {}

absl::Status NodeCore::KeepRecord(const Key& key, const v1::Record& record,
                                  const Key& writer) {
  absl::Status kept = store_->Put(key, record, writer, Now());
  if (kept.ok() || RejectionOf(kept).has_value()) return kept;
  Count("unwritten");
  return absl::ResourceExhaustedError("this node cannot write records");
}

void NodeCore::Count(absl::string_view counter, int64_t by) {
  counters_[std::string(counter)] += by;
}

void NodeCore::After(absl::Duration delay, std::function<void()> run) {
  if (stopped_) return;
  loop_->After(delay, [weak = weak_from_this(), run = std::move(run)] {
    const std::shared_ptr<NodeCore> core = weak.lock();
    if (core != nullptr && !core->stopped()) run();
  });
}

void NodeCore::Ask(const Contact& to, v1::AskRequest question, Answered done) {
  Ask(to, std::move(question),
      {.patience = options_.times.max_timeout, .max_closer = options_.k},
      std::move(done));
}

void NodeCore::Ask(const Contact& to, v1::AskRequest question,
                   AskOptions ask_options, Answered done) {
  if (stopped_) return;
  transport_->Ask(to, std::move(question), ask_options.patience,
                  [weak = weak_from_this(), to, asked = Now(), ask_options,
                   done = std::move(done)](absl::StatusOr<v1::AskReply> reply) {
                    const std::shared_ptr<NodeCore> core = weak.lock();
                    if (core == nullptr || core->stopped()) return;
                    core->OnReply(to, asked, ask_options, std::move(reply),
                                  done);
                  });
}

void NodeCore::OnReply(const Contact& to, absl::Time asked,
                       const AskOptions& ask_options,
                       absl::StatusOr<v1::AskReply> reply,
                       const Answered& done) {
  absl::StatusOr<Contact> sender = absl::UnavailableError("no answer");
  if (reply.ok()) {
    sender = ContactFromProto(reply->sender());
    if (sender.ok() && !to.id.IsZero() && sender->id != to.id) {
      sender = absl::UnauthenticatedError(
          absl::StrCat(to.address, " is node ", sender->id.ToShortHex(),
                       ", not ", to.id.ToShortHex()));
    }
    if (!sender.ok()) reply = sender.status();
  }
  if (!reply.ok()) {
    const bool late = Now() - asked > ask_options.patience + kHeldUp;
    OnFailure(to, reply.status(), late);
    done(reply, {});
    return;
  }
  times_.Add(Now() - asked);
  checking_.erase(sender->id);
  // Who gives no address wants to be in no table, though it answers. Where it
  // was reached counts, not where it says it is.
  if (!sender->address.empty() && sender->id != self()) {
    const Contact reached = {sender->id, to.address, sender->site};
    if (table_.OnAnswered(reached, Now()) && on_entered) on_entered(reached);
  }
  const std::vector<Contact> closer =
      ContactsOf(reply->closer(), ask_options.max_closer);
  if (ask_options.hear) {
    for (const Contact& contact : closer) Heard(contact);
  }
  done(reply, closer);
}

void NodeCore::OnFailure(const Contact& to, const absl::Status& status,
                         bool late) {
  Count("failed_questions");
  if (to.id.IsZero()) return;
  checking_.erase(to.id);
  // Anybody can name a node at an address that is not its own.
  if (table_.AddressOf(to.id) != to.address) return;
  // Too much to do, or an answer that we did not like: it is there. Of those
  // that never answered only their answer says so.
  const bool is_there =
      absl::IsResourceExhausted(status) || absl::IsInvalidArgument(status);
  const bool unknown = late && absl::IsDeadlineExceeded(status);
  if (unknown || (is_there && table_.Contains(to.id))) return;
  if (!table_.OnFailed(to.id, Now())) return;
  lost_.Add(to, Now());
  if (on_left) on_left(to);
}

void NodeCore::Heard(const Contact& contact, bool itself) {
  if (stopped_) return;
  if (!table_.OnHeard(contact, Now(), itself)) {
    if (itself) CheckMoved(contact);
    return;
  }
  // The table waits to hear what came of it.
  if (checks_.size() >= kMaxChecks) {
    table_.OnFailed(contact.id, Now());
  } else {
    Check(contact);
  }
}

void NodeCore::Check(const Contact& contact) {
  if (stopped_ || contact.id == self() || contact.address.empty()) return;
  if (checks_.size() >= kMaxChecks || table_.Contains(contact.id)) return;
  PushCheck(contact);
}

void NodeCore::CheckMoved(const Contact& contact) {
  // It has started again at another address: the table takes it once it has
  // answered there.
  if (checks_.size() >= kMaxChecks) return;
  if (!table_.Contains(contact.id)) return;
  if (table_.AddressOf(contact.id) != contact.address) PushCheck(contact);
}

void NodeCore::PushCheck(const Contact& contact) {
  if (!checking_.insert(contact.id).second) return;
  checks_.push_back(contact);
  SendChecks();
}

void NodeCore::SendChecks() {
  while (pings_out_ < options_.pings_at_once && !checks_.empty()) {
    const Contact next = std::move(checks_.front());
    checks_.pop_front();
    // It may have answered another question meanwhile.
    if (checking_.contains(next.id)) Ping(next);
  }
}

void NodeCore::Ping(const Contact& contact) {
  ++pings_out_;
  v1::AskRequest question;
  question.mutable_ping();
  Ask(contact, std::move(question), [this](const auto&, const auto&) {
    --pings_out_;
    SendChecks();
  });
}

std::vector<Contact> NodeCore::ContactsOf(
    const google::protobuf::RepeatedPtrField<v1::Contact>& contacts,
    size_t limit) {
  std::vector<Contact> valid;
  valid.reserve(std::min<size_t>(limit, contacts.size()));
  for (const v1::Contact& proto : contacts) {
    if (valid.size() >= limit) break;
    absl::StatusOr<Contact> contact = ContactFromProto(proto);
    if (!contact.ok()) {
      Count("malformed_contacts");
    } else if (!contact->address.empty() && contact->id != self()) {
      valid.push_back(*std::move(contact));
    }
  }
  return valid;
}

Lookup::Options NodeCore::WalkOptions(size_t alpha, size_t beta,
                                      size_t paths) const {
  Lookup::Options walk;
  walk.k = options_.k;
  walk.alpha = alpha;
  walk.beta = beta;
  walk.paths = paths;
  walk.deadline = options_.lookup_deadline;
  walk.hedge = times_.hedge();
  return walk;
}

bool NodeCore::knows_everybody() const {
  return viewed_ && table_.full() && table_.size() > 0;
}

}  // namespace koinon::dht
