#include "dht/node_spread.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dht/records/rejection.h"
#include "dht/records/signed.h"

namespace koinon::dht {

void Spread::Start(NodeCore* core, Plan plan) {
  auto spread = std::make_shared<Spread>(core, std::move(plan));
  if (core->knows_everybody()) {
    spread->GiveWhileWalking();
  } else {
    spread->FindThenGive();
  }
}

void Spread::FindThenGive() {
  const Node::Options& options = core_->options();
  Walk::Plan walk =
      FindNodePlan(core_, plan_.key, options.store_alpha, options.k);
  walk.done = [spread = shared_from_this()](Walk::Outcome outcome) {
    spread->OnFound(std::move(outcome));
  };
  Walk::Start(core_, std::move(walk));
}

void Spread::OnFound(Walk::Outcome outcome) {
  std::vector<Contact> closest = std::move(outcome.closest);
  result_.path = std::move(outcome.path);
  const bool here = IsAmong(closest);
  if (here && closest.size() == core_->options().k) closest.pop_back();
  targets_ = closest.size() + here;
  result_.asked = targets_;
  waiting_ = closest.size();
  if (here) KeepHere();
  for (const Contact& contact : closest) {
    core_->Ask(contact, plan_.question,
               [spread = shared_from_this()](const auto& reply, const auto&) {
                 --spread->waiting_;
                 spread->OnGiven(reply);
                 spread->Conclude(spread->waiting_ == 0);
               });
  }
  Conclude(waiting_ == 0);
}

void Spread::GiveWhileWalking() {
  const size_t k = core_->options().k;
  const std::vector<Contact> known = core_->table().Closest(plan_.key, 2 * k);
  std::vector<Contact> closest = known;
  if (closest.size() > k) closest.resize(k);
  const bool here = IsAmong(closest);
  targets_ = std::min(k, closest.size() + here);

  Walk::Plan walk;
  walk.target = plan_.key;
  walk.seeds = known;  // more than k: in the place of those that do not answer
  walk.question = plan_.question;
  walk.options = core_->WalkOptions(k, k, 1);
  if (here && k > 1) walk.options.k = walk.options.beta = k - 1;
  // A quorum bears with a slow node; another copy elsewhere does not help it.
  walk.options.hedge = core_->times().timeout();
  walk.on_answer = [spread = shared_from_this()](const Contact&,
                                                 const v1::AskReply& reply) {
    ++spread->result_.asked;
    spread->OnGiven(reply);
    spread->Conclude(false);
    return Walk::Verdict::kGoOn;
  };
  walk.on_failure = [spread = shared_from_this()](const absl::Status& status) {
    ++spread->failed_;
    spread->failure_ = status;
  };
  walk.done = [spread = shared_from_this()](Walk::Outcome outcome) {
    spread->OnWalked(std::move(outcome));
  };
  Walk::Start(core_, std::move(walk));
  if (here) {
    ++result_.asked;
    // Not inside Start: `done` may run.
    core_->After(absl::ZeroDuration(), [spread = shared_from_this()] {
      spread->KeepHere();
      spread->Conclude(false);
    });
  }
}

void Spread::OnWalked(Walk::Outcome outcome) {
  const size_t heard = result_.kept + refused_ + failed_;
  const size_t silent = targets_ - std::min(targets_, heard);
  const size_t wanted = Wanted(true);
  if (!done_ && result_.kept < wanted && result_.kept + silent >= wanted) {
    // A walk does not wait long, and a machine that is held up for a moment
    // gives up on all of them at once: once more, for as long as is waited for
    // anybody.
    outcome.closest = core_->table().Closest(plan_.key, core_->options().k);
    result_ = {};
    refused_ = failed_ = 0;
    return OnFound(std::move(outcome));
  }
  result_.path = std::move(outcome.path);
  Conclude(true);
}

bool Spread::IsAmong(const std::vector<Contact>& closest) const {
  if (core_->is_client()) return false;
  return closest.size() < core_->options().k ||
         Closer(plan_.key, core_->self(), closest.back().id);
}

void Spread::KeepHere() {
  const absl::Status kept = plan_.keep();
  if (kept.ok()) {
    ++result_.kept;
  } else if (const std::optional<Rejection> reason = RejectionOf(kept)) {
    Rejected(std::string(RejectionName(*reason)));
  } else {
    ++failed_;
    failure_ = kept;
  }
}

void Spread::OnGiven(const absl::StatusOr<v1::AskReply>& reply) {
  if (!reply.ok()) {
    failure_ = reply.status();
    return;
  }
  if (reply->rejection().empty()) {
    ++result_.kept;
  } else {
    // What it says is its own, and may be anything: only known reasons count.
    const bool known = RejectionFromName(reply->rejection()).has_value();
    Rejected(known ? reply->rejection() : "unknown");
  }
}

void Spread::Rejected(const std::string& reason) {
  ++refused_;
  ++result_.rejections[reason];
}

void Spread::Conclude(bool finished) {
  if (done_) return;
  const bool reached = result_.kept > 0 && result_.kept >= Wanted(finished);
  if (!reached && !finished) return;
  done_ = true;
  const auto done = std::move(plan_.done);
  if (reached) {
    done(result_);
  } else {
    done(Failure());
  }
}

size_t Spread::Wanted(bool finished) const {
  // Of a fleet smaller than the quorum, all; in the end a majority will do: one
  // that has just died is in the tables for a while yet.
  return std::min(plan_.quorum, finished ? targets_ / 2 + 1 : targets_);
}

absl::Status Spread::Failure() const {
  if (targets_ == 0) {
    return absl::UnavailableError("no node of the DHT is known");
  }
  std::string message = absl::StrCat("kept by ", result_.kept, " of ", targets_,
                                     " nodes, ", Wanted(true), " wanted");
  if (!failure_.ok()) {
    absl::StrAppend(&message,
                    "; the last that could not: ", failure_.message());
  }
  if (result_.rejections.empty()) return absl::UnavailableError(message);
  absl::StrAppend(
      &message, "; refused: ",
      absl::StrJoin(result_.rejections, ", ", absl::PairFormatter(" by ")));
  const auto most = std::max_element(
      result_.rejections.begin(), result_.rejections.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  const std::optional<Rejection> reason = RejectionFromName(most->first);
  if (2 * refused_ >= targets_ && reason.has_value()) {
    return RejectedError(*reason, message);
  }
  return absl::UnavailableError(message);
}

void PutRecord(NodeCore* core, const Key& key, v1::Record record, size_t quorum,
               std::function<void(absl::StatusOr<Node::PutResult>)> done) {
  RecordTrust trust = core->options().trust;
  trust.pinned.clear();  // what is kept for others is handed on too
  const absl::StatusOr<OpenedRecord> opened =
      OpenRecord(key, record, trust, core->Now());
  if (!opened.ok()) {
    core->After(
        absl::ZeroDuration(),
        [done = std::move(done), status = opened.status()] { done(status); });
    return;
  }
  Spread::Plan plan;
  plan.key = key;
  plan.quorum = quorum;
  plan.question.mutable_put_record()->set_key(key.ToBytes());
  *plan.question.mutable_put_record()->mutable_record() = record;
  plan.keep = [core, key, record = std::move(record)] {
    return core->KeepRecord(key, record, core->self());
  };
  plan.done = std::move(done);
  Spread::Start(core, std::move(plan));
}

}  // namespace koinon::dht
