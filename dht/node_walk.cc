#include "dht/node_walk.h"

#include <algorithm>
#include <utility>

namespace koinon::dht {
namespace {

constexpr absl::Duration kShortestWait = absl::Microseconds(100);
// So many are asked on a node's bare word.
constexpr size_t kOnTrust = 4;
// Addresses of one node: those that name a wrong one are few, or all is lost.
constexpr size_t kMaxAddresses = 8;

// Candidates that are dropped unasked are no questions: those are counted here.
Lookup::Options LookupOptions(const Walk::Plan& plan) {
  Lookup::Options options = plan.options;
  options.max_questions += options.max_candidates;
  return options;
}

}  // namespace

void Walk::Start(NodeCore* core, Plan plan) {
  std::erase_if(plan.seeds, [&](const Contact& seed) {
    return plan.exclude.contains(seed.id);
  });
  auto walk = std::make_shared<Walk>(core, std::move(plan));
  if (!walk->lookup_.done()) {
    walk->Proceed();
  } else {
    core->After(absl::ZeroDuration(), [walk] { walk->Finish(); });
  }
}

Walk::Walk(NodeCore* core, Plan plan)
    : core_(core),
      plan_(std::move(plan)),
      lookup_(plan_.target, core->self(), plan_.seeds, LookupOptions(plan_),
              core->Now()),
      max_questions_(plan_.options.max_questions * plan_.options.paths) {
  for (const Contact& seed : plan_.seeds) {
    known_.insert(seed.id);
    HearOf(seed);
  }
}

void Walk::Proceed() {
  if (finished_) return;
  ReviewHeld();
  // What is dropped at once makes place for others.
  while (true) {
    const std::vector<Contact> next = lookup_.Next(core_->Now());
    if (next.empty()) break;
    for (const Contact& contact : next) AskOrHold(contact);
  }
  if (lookup_.done()) {
    Finish();
  } else {
    SetTimer();
  }
}

void Walk::AskOrHold(const Contact& next) {
  switch (TrustIn(next.id)) {
    case Trust::kAsk:
      Send(next);
      break;
    case Trust::kHold:
      held_.push_back(next);
      break;
    case Trust::kDrop:
      lookup_.OnFailure(next.id, core_->Now());
      break;
  }
}

Walk::Trust Walk::TrustIn(const Key& id) const {
  const auto named = named_.find(id);
  if (named == named_.end()) return Trust::kAsk;
  Trust trust = Trust::kDrop;
  for (const Key& by : named->second.by) {
    const Word& word = words_.at(by);
    if (word.good || word.waiting + word.failed < kOnTrust) return Trust::kAsk;
    if (word.waiting > 0) trust = Trust::kHold;
  }
  return trust;
}

void Walk::Send(const Contact& next) {
  if (asked_.size() >= max_questions_) {
    capped_ = true;
    lookup_.Stop();
    return;
  }
  asked_.insert(next.id);
  patience_[next.id] = core_->Now() + core_->times().timeout();
  if (const auto named = named_.find(next.id); named != named_.end()) {
    named->second.charged = named->second.by.size();
    for (const Key& by : named->second.by) ++words_[by].waiting;
  }
  Place& place = places_[next.id];
  if (core_->table().Contains(next.id)) {
    const std::string address = core_->table().AddressOf(next.id);
    std::erase(place.addresses, address);
    place.addresses.insert(place.addresses.begin(), address);
  }
  AskAtNext(next);
}

void Walk::HearOf(const Contact& contact) {
  std::vector<std::string>& addresses = places_[contact.id].addresses;
  if (addresses.size() >= kMaxAddresses) return;
  if (std::find(addresses.begin(), addresses.end(), contact.address) ==
      addresses.end()) {
    addresses.push_back(contact.address);
  }
}

void Walk::AskAtNext(const Contact& node) {
  Place& place = places_.at(node.id);
  Contact at = node;
  at.address = place.addresses[place.tried++];
  ++place.out;
  core_->Ask(
      at, plan_.question,
      {.patience = core_->options().times.max_timeout,
       .max_closer = core_->options().k,
       .hear = false},
      [walk = shared_from_this(), at](const auto& reply, const auto& closer) {
        walk->OnReply(at, reply, closer);
      });
}

bool Walk::TryElsewhere(const Key& id) {
  const Place& place = places_.at(id);
  if (!place.answered.empty() || place.tried >= place.addresses.size() ||
      asked_elsewhere_ >= max_questions_) {
    return false;
  }
  ++asked_elsewhere_;
  if (const auto waited = patience_.find(id); waited != patience_.end()) {
    waited->second = core_->Now() + core_->times().timeout();
  }
  AskAtNext({id, "", ""});
  return true;
}

// Where they answered, and not where somebody said that they are.
void Walk::SayWhere(std::vector<Contact>* contacts) const {
  for (Contact& contact : *contacts) {
    const auto place = places_.find(contact.id);
    if (place != places_.end() && !place->second.answered.empty()) {
      contact.address = place->second.answered;
    }
  }
}

void Walk::Settle(const Key& id, bool answered) {
  // It may have been given up before.
  const bool waited = patience_.erase(id) > 0;
  const auto named = named_.find(id);
  if (named == named_.end()) return;
  for (size_t i = 0; i < named->second.by.size(); ++i) {
    Word& word = words_[named->second.by[i]];
    if (answered) word.good = true;
    if (!waited || i >= named->second.charged) continue;
    --word.waiting;
    if (!answered) ++word.failed;
  }
}

void Walk::ReviewHeld() {
  std::vector<Contact> held;
  held.swap(held_);
  for (const Contact& contact : held) AskOrHold(contact);
}

// It has failed, or is too slow to be waited for.
void Walk::GiveUp(const Key& id) {
  Settle(id, /*answered=*/false);
  lookup_.OnFailure(id, core_->Now());
}

void Walk::Learn(const Key& from, std::vector<Contact> closer) {
  std::erase_if(closer, [&](const Contact& contact) {
    return plan_.exclude.contains(contact.id);
  });
  words_.try_emplace(from);
  std::set<Key> heard;  // one address of each
  for (const Contact& contact : closer) {
    if (!heard.insert(contact.id).second) continue;
    HearOf(contact);
    const bool has_failed =
        asked_.contains(contact.id) && places_.at(contact.id).out == 0;
    if (has_failed) TryElsewhere(contact.id);
    if (known_.contains(contact.id)) continue;
    Named& named = named_[contact.id];
    named.contact = contact;
    named.by.push_back(from);
  }
  lookup_.OnAnswer(from, closer, core_->Now());
}

void Walk::OnReply(const Contact& from,
                   const absl::StatusOr<v1::AskReply>& reply,
                   const std::vector<Contact>& closer) {
  if (finished_) return;
  Place& place = places_.at(from.id);
  --place.out;
  if (!place.answered.empty()) return;  // elsewhere
  Verdict verdict = Verdict::kGoOn;
  if (!reply.ok()) {
    if (place.out > 0 || TryElsewhere(from.id)) return;
    verdict = Verdict::kDistrust;
  } else {
    place.answered = from.address;
    if (plan_.on_answer) verdict = plan_.on_answer(from, *reply);
  }
  if (core_->stopped()) return;
  if (verdict == Verdict::kDistrust) {
    GiveUp(from.id);
  } else {
    Settle(from.id, /*answered=*/true);
    Learn(from.id, closer);
  }
  if (verdict == Verdict::kStop) lookup_.Stop();
  Proceed();
}

// One timer for all that the walk waits for; an earlier one than needed does no
// harm.
void Walk::SetTimer() {
  absl::Time next = lookup_.next_deadline();
  for (const auto& [id, until] : patience_) next = std::min(next, until);
  if (next >= timer_) return;
  timer_ = next;
  core_->After(std::max(next - core_->Now(), kShortestWait),
               [walk = shared_from_this()] { walk->OnTimer(); });
}

void Walk::OnTimer() {
  if (finished_) return;
  const absl::Time now = core_->Now();
  if (now >= timer_) timer_ = absl::InfiniteFuture();
  std::vector<Key> overdue;
  for (const auto& [id, until] : patience_) {
    if (until <= now) overdue.push_back(id);
  }
  for (const Key& id : overdue) {
    if (!TryElsewhere(id)) GiveUp(id);
  }
  Proceed();
}

void Walk::Finish() {
  if (finished_) return;
  finished_ = true;
  Outcome outcome;
  outcome.closest = lookup_.Closest();
  outcome.heard = lookup_.Heard();
  SayWhere(&outcome.closest);
  SayWhere(&outcome.heard);
  for (const Lookup::Step& step : lookup_.steps()) {
    if (asked_.contains(step.contact.id)) outcome.path.push_back(step);
  }
  outcome.depth = lookup_.depth();
  outcome.caps = lookup_.caps() | (capped_ ? Lookup::kQuestions : 0);
  if (outcome.caps & Lookup::kCandidates) core_->Count("lookup_cap_candidates");
  if (outcome.caps & Lookup::kQuestions) core_->Count("lookup_cap_questions");
  if (outcome.caps & Lookup::kDeadline) core_->Count("lookup_cap_deadline");
  // Those that were asked are known by their answers; the others are heard of
  // now, unless nobody vouches for them.
  for (const auto& [id, named] : named_) {
    if (!asked_.contains(id) && TrustIn(id) != Trust::kDrop) {
      outcome.unasked.push_back(named.contact);
    }
  }
  for (const Contact& contact : outcome.unasked) core_->Heard(contact);
  // What waits for answers still holds this walk: the plan's owner is let go.
  const Plan plan = std::move(plan_);
  plan_ = Plan();
  plan.done(std::move(outcome));
}

Walk::Plan FindNodePlan(NodeCore* core, const Key& target, size_t alpha,
                        size_t beta) {
  Walk::Plan plan;
  plan.target = target;
  plan.options = core->WalkOptions(alpha, beta, 1);
  plan.seeds = core->table().Closest(target, core->options().k);
  plan.question.mutable_find_node()->set_target(target.ToBytes());
  plan.question.mutable_find_node()->set_count(
      static_cast<int32_t>(core->options().k));
  return plan;
}

}  // namespace koinon::dht
