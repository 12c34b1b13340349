#include "dht/node_get.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "dht/records/rejection.h"

namespace koinon::dht {
namespace {

// Enough for a handshake with a machine that has many others to make.
constexpr absl::Duration kLastPatience = absl::Seconds(5);
// Of the keys that have signed what was looked for.
constexpr size_t kMostNamed = 8;

}  // namespace

void Get::Start(NodeCore* core, const Key& key, Node::GetOptions options,
                Done done) {
  auto get = std::make_shared<Get>(core, key, options, std::move(done));
  if (get->TakeOwn() && !options.newest) {
    core->After(absl::ZeroDuration(), [get] { get->Finish(); });
  } else {
    get->StartWalk(std::max<size_t>(1, options.paths));
  }
}

Get::Get(NodeCore* core, const Key& key, Node::GetOptions options, Done done)
    : core_(core), key_(key), options_(options), done_(std::move(done)) {}

bool Get::TakeOwn() {
  const auto own = core_->store().Get(key_, core_->Now());
  if (!own.has_value()) return false;
  Take(own->opened, own->record, core_->options().self);
  return true;
}

void Get::StartWalk(size_t paths) {
  const Node::Options& options = core_->options();
  // Who knows everybody asks the closest at once, and a few of them are enough.
  const size_t alpha = core_->knows_everybody() && !options_.newest
                           ? options.store_alpha
                           : options.get_alpha;
  Walk::Plan plan;
  plan.target = key_;
  plan.options = core_->WalkOptions(alpha, options.k, paths);
  plan.seeds = core_->table().Closest(key_, options.k * paths);
  plan.seeds.insert(plan.seeds.end(), unasked_.begin(), unasked_.end());
  plan.exclude = asked_;
  plan.question.mutable_get_record()->set_key(key_.ToBytes());
  plan.on_answer = [get = shared_from_this()](const Contact& from,
                                              const v1::AskReply& reply) {
    return get->OnAnswer(from, reply);
  };
  plan.done = [get = shared_from_this()](const Walk::Outcome& outcome) {
    get->OnWalked(outcome);
  };
  result_.paths = paths;
  deadline_ = core_->Now() + options.lookup_deadline;
  Walk::Start(core_, std::move(plan));
}

Walk::Verdict Get::OnAnswer(const Contact& from, const v1::AskReply& reply) {
  answered_ = true;
  if (!reply.has_record()) {
    heard_.push_back({from, std::nullopt});
    return Walk::Verdict::kGoOn;
  }
  const absl::StatusOr<OpenedRecord> opened =
      OpenRecord(key_, reply.record(), core_->options().trust, core_->Now());
  if (!opened.ok()) {
    OnRefused(from, opened.status());
    return Walk::Verdict::kDistrust;
  }
  heard_.push_back({from, *opened});
  Take(*opened, reply.record(), from);
  return opened->is_mutable && options_.newest ? Walk::Verdict::kGoOn
                                               : Walk::Verdict::kStop;
}

void Get::OnRefused(const Contact& from, const absl::Status& why) {
  const auto reason = RejectionOf(why);
  const std::string name(reason.has_value() ? RejectionName(*reason)
                                            : "unknown");
  ++result_.rejections[name];
  refused_.insert(from.id);
  core_->Count(absl::StrCat("get_refused_", name));
  refusal_ = why;
  // A holder does not look again at what stood when it was stored: record and
  // certificate end without it, and clocks differ. And in plaintext it keeps
  // what anybody has signed.
  if (reason != Rejection::kExpired && reason != Rejection::kUntrustedSigner) {
    core_->table().Remove(from.id);
  }
}

PublicKey Get::SignerOf(const OpenedRecord& opened) const {
  const bool plaintext = core_->options().trust.authority == nullptr;
  return plaintext && opened.is_mutable ? opened.signing_key : PublicKey();
}

void Get::Take(const OpenedRecord& opened, const v1::Record& record,
               const Contact& from) {
  const auto [it, first] =
      found_.try_emplace(SignerOf(opened), Best{opened, record, from});
  if (first) return;
  Best& best = it->second;
  const Newer newer = Compare(opened, best.opened);
  if (newer == Newer::kConflict) best.conflict = true;
  if (newer == Newer::kFirst) best = Best{opened, record, from};
}

void Get::OnWalked(const Walk::Outcome& outcome) {
  result_.path.insert(result_.path.end(), outcome.path.begin(),
                      outcome.path.end());
  for (const Lookup::Step& step : outcome.path) {
    const Key& id = step.contact.id;
    asked_.insert(id);
    if (step.outcome != Lookup::Step::kAnswered && !refused_.contains(id)) {
      silent_.push_back(step.contact);
    }
  }
  unasked_ = outcome.unasked;
  if (found_.empty() && result_.paths < core_->options().paths_on_miss) {
    core_->Count("gets_escalated");
    StartWalk(core_->options().paths_on_miss);
    return;
  }
  // A walk that stopped early has not learnt who the closest are: what it heard
  // of is as near as it knows.
  std::set<Key> closest;
  for (const Contact& contact : outcome.heard) closest.insert(contact.id);
  std::erase_if(heard_, [&](const Heard& heard) {
    return !closest.contains(heard.contact.id);
  });
  if (found_.empty()) AddLostOnes();
  if (found_.empty() && !silent_.empty()) {
    AskSilentOnes();
  } else {
    Finish();
  }
}

void Get::AddLostOnes() {
  // Who knows nobody asks whoever it has ever known.
  const size_t known = core_->table().size();
  std::vector<Contact> lost =
      known == 0 ? core_->lost().All() : core_->lost().Recent(core_->Now());
  if (lost.size() <= known) return;
  for (Contact& contact : lost) {
    if (asked_.insert(contact.id).second) silent_.push_back(std::move(contact));
  }
}

void Get::AskSilentOnes() {
  core_->Count("gets_asked_again");
  std::sort(silent_.begin(), silent_.end(),
            [this](const Contact& a, const Contact& b) {
              return Closer(key_, a.id, b.id);
            });
  silent_.resize(std::min(silent_.size(), 2 * core_->options().k));
  waiting_ = silent_.size();
  // Where the walk took all its time, as long as any question may take.
  const absl::Duration patience =
      std::max(core_->options().times.max_timeout,
               std::min(deadline_ - core_->Now(), kLastPatience));
  v1::AskRequest question;
  question.mutable_get_record()->set_key(key_.ToBytes());
  for (Contact contact : silent_) {
    if (core_->table().Contains(contact.id)) {
      contact.address = core_->table().AddressOf(contact.id);
    }
    core_->Ask(
        contact, question,
        {.patience = patience, .max_closer = 0, .hear = false},
        [get = shared_from_this(), contact](const auto& reply, const auto&) {
          get->OnSilentOne(contact, reply);
        });
  }
}

void Get::OnSilentOne(const Contact& contact,
                      const absl::StatusOr<v1::AskReply>& reply) {
  if (!done_) return;  // another had it
  --waiting_;
  const bool stop =
      reply.ok() && OnAnswer(contact, *reply) == Walk::Verdict::kStop;
  if (stop || waiting_ == 0) Finish();
}

void Get::Finish() {
  const Done done = std::exchange(done_, nullptr);
  absl::StatusOr<Best> best = Choose();
  if (!best.ok()) return done(best.status());
  result_.opened = std::move(best->opened);
  result_.record = std::move(best->record);
  result_.from = best->from;
  WriteBack();
  done(std::move(result_));
}

absl::StatusOr<Get::Best> Get::Choose() {
  if (found_.empty()) return NothingFound();
  auto chosen = found_.begin();
  if (found_.size() > 1) {
    chosen = options_.signer.has_value() ? found_.find(*options_.signer)
                                         : found_.end();
    if (chosen == found_.end()) return SeveralSigners();
  }
  if (!chosen->second.conflict) return chosen->second;
  const OpenedRecord& opened = chosen->second.opened;
  core_->Count("equivocations");
  LogError(
      "equivocation",
      {{"key", key_.ToHex()}, {"owner", opened.owner}, {"name", opened.name}});
  return RejectedError(
      Rejection::kEquivocation,
      absl::StrCat("'", opened.name, "' of ", opened.owner, ", epoch ",
                   opened.epoch, ", sequence ", opened.sequence,
                   ": two different values are signed; the signer's key is "
                   "misused"));
}

absl::Status Get::SeveralSigners() const {
  std::vector<std::string> signers;
  for (const auto& [signer, best] : found_) {
    if (signers.size() == kMostNamed) {
      signers.push_back(absl::StrCat(found_.size() - kMostNamed, " more"));
      break;
    }
    signers.push_back(absl::StrCat(signer.ToHex(), " (epoch ",
                                   best.opened.epoch, ", sequence ",
                                   best.opened.sequence, ")"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "'", found_.begin()->second.opened.name,
      "' is signed by several keys, and in plaintext nothing says which is "
      "right: ",
      absl::StrJoin(signers, ", ")));
}

absl::Status Get::NothingFound() const {
  if (!answered_) {
    return absl::UnavailableError(
        absl::StrCat("no node of the DHT answered (", result_.path.size(),
                     " were asked for record ", key_.ToShortHex(), ")"));
  }
  std::string message =
      absl::StrCat("no node has a valid record ", key_.ToShortHex(), " (",
                   result_.path.size(), " were asked");
  if (!result_.rejections.empty()) {
    absl::StrAppend(
        &message, "; refused: ",
        absl::StrJoin(result_.rejections, ", ", absl::PairFormatter(" by ")),
        ", the last: ", refusal_.message());
  }
  return absl::NotFoundError(absl::StrCat(message, ")"));
}

bool Get::LacksIt(const Heard& heard) const {
  if (!heard.had.has_value()) return true;
  return SignerOf(*heard.had) == SignerOf(result_.opened) &&
         Compare(*heard.had, result_.opened) == Newer::kSecond;
}

void Get::WriteBack() {
  std::vector<Contact> lacking;
  for (const Heard& heard : heard_) {
    if (LacksIt(heard)) lacking.push_back(heard.contact);
  }
  std::sort(lacking.begin(), lacking.end(),
            [&](const Contact& a, const Contact& b) {
              return Closer(key_, a.id, b.id);
            });
  if (!(result_.opened.is_mutable && options_.newest) && !lacking.empty()) {
    // The closest one, and only if it should rather have it than the holder:
    // records belong with the closest, and are not strewn along the way.
    lacking.resize(1);
    if (!Closer(key_, lacking[0].id, result_.from.id)) lacking.clear();
  }
  for (const Contact& contact : lacking) {
    v1::AskRequest question;
    question.mutable_put_record()->set_key(key_.ToBytes());
    *question.mutable_put_record()->mutable_record() = result_.record;
    core_->Count("written_back");
    core_->Ask(contact, std::move(question), [](const auto&, const auto&) {});
  }
}

}  // namespace koinon::dht
