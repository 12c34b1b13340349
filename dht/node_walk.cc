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
  for (const Contact& seed : plan_.seeds) HearOf(seed)->seed = true;
  // In a small fleet they mostly agree on who the closest are, and twenty
  // answers that name the same twenty nodes cost more than what is asked for.
  if (core_->knows_everybody()) {
    plan_.question.set_closest(core_->DigestOfClosest(plan_.target));
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
  Seen* const node = &seen_.at(next.id);
  switch (TrustIn(*node)) {
    case Trust::kAsk:
      Send(node);
      break;
    case Trust::kHold:
      held_.push_back(next);
      break;
    case Trust::kDrop:
      lookup_.OnFailure(next.id, core_->Now());
      break;
  }
}

Walk::Trust Walk::TrustIn(const Seen& node) {
  if (node.seed || node.by.empty()) return Trust::kAsk;
  Trust trust = Trust::kDrop;
  for (const Seen* by : node.by) {
    if (by->good || by->waiting + by->failed < kOnTrust) return Trust::kAsk;
    if (by->waiting > 0) trust = Trust::kHold;
  }
  return trust;
}

void Walk::Send(Seen* next) {
  if (asked_ >= max_questions_) {
    capped_ = true;
    lookup_.Stop();
    return;
  }
  ++asked_;
  next->asked = true;
  next->patience = core_->Now() + core_->times().timeout();
  waited_.push_back(next);
  next->charged = next->by.size();
  for (Seen* by : next->by) ++by->waiting;
  const Key& id = next->contact.id;
  if (core_->table().Contains(id)) {
    auto& addresses = next->addresses;
    const std::string address = core_->table().AddressOf(id);
    const auto named = std::find(addresses.begin(), addresses.end(), address);
    if (named != addresses.end()) addresses.erase(named);
    addresses.insert(addresses.begin(), address);
  }
  AskAtNext(next);
}

Walk::Seen* Walk::HearOf(const Contact& contact) {
  Seen& node = seen_[contact.id];
  if (node.addresses.empty()) {
    node.contact = contact;
    node.addresses.push_back(contact.address);
  } else if (node.addresses.size() < kMaxAddresses &&
             std::find(node.addresses.begin(), node.addresses.end(),
                       contact.address) == node.addresses.end()) {
    node.addresses.push_back(contact.address);
  }
  return &node;
}

void Walk::AskAtNext(Seen* node) {
  const Contact at = {node->contact.id, node->addresses[node->tried++],
                      node->contact.site};
  ++node->out;
  core_->Ask(at, plan_.question,
             {.patience = core_->options().times.max_timeout,
              .max_closer = core_->options().k,
              .hear = false},
             [walk = shared_from_this(), node, address = at.address](
                 const auto& reply, const auto& closer) {
               walk->OnReply(node, address, reply, closer);
             });
}

bool Walk::TryElsewhere(Seen* node) {
  if (!node->answered.empty() || node->tried >= node->addresses.size() ||
      asked_elsewhere_ >= max_questions_) {
    return false;
  }
  ++asked_elsewhere_;
  if (node->patience < absl::InfiniteFuture()) {
    node->patience = core_->Now() + core_->times().timeout();
  }
  AskAtNext(node);
  return true;
}

// Where they answered, and not where somebody said that they are.
void Walk::SayWhere(std::vector<Contact>* contacts) const {
  for (Contact& contact : *contacts) {
    const Seen& node = seen_.at(contact.id);
    if (!node.answered.empty()) contact.address = node.answered;
  }
}

void Walk::Settle(Seen* node, bool answered) {
  // It may have been given up before.
  const bool waited = node->patience < absl::InfiniteFuture();
  node->patience = absl::InfiniteFuture();
  if (waited) std::erase(waited_, node);
  for (size_t i = 0; i < node->by.size(); ++i) {
    Seen* const by = node->by[i];
    if (answered) by->good = true;
    if (!waited || i >= node->charged) continue;
    --by->waiting;
    if (!answered) ++by->failed;
  }
}

void Walk::ReviewHeld() {
  std::vector<Contact> held;
  held.swap(held_);
  for (const Contact& contact : held) AskOrHold(contact);
}

// It has failed, or is too slow to be waited for.
void Walk::GiveUp(Seen* node) {
  Settle(node, /*answered=*/false);
  lookup_.OnFailure(node->contact.id, core_->Now());
}

void Walk::Learn(Seen* from, const std::vector<Contact>& closer) {
  ++answers_;
  const auto excluded = [&](const Contact& contact) {
    return !plan_.exclude.empty() && plan_.exclude.contains(contact.id);
  };
  for (const Contact& contact : closer) {
    if (excluded(contact)) continue;
    Seen* const node = HearOf(contact);
    if (node->heard_in == answers_) continue;  // one address of each
    node->heard_in = answers_;
    if (node->asked && node->out == 0) TryElsewhere(node);
    if (!node->seed) node->by.push_back(from);
  }
  if (plan_.exclude.empty()) {
    lookup_.OnAnswer(from->contact.id, closer, core_->Now());
  } else {
    std::vector<Contact> others = closer;
    std::erase_if(others, excluded);
    lookup_.OnAnswer(from->contact.id, others, core_->Now());
  }
}

void Walk::OnReply(Seen* from, const std::string& address,
                   const absl::StatusOr<v1::AskReply>& reply,
                   const std::vector<Contact>& closer) {
  if (finished_) return;
  --from->out;
  if (!from->answered.empty()) return;  // elsewhere
  Verdict verdict = Verdict::kGoOn;
  if (!reply.ok()) {
    if (plan_.on_failure) plan_.on_failure(reply.status());
    if (from->out > 0 || TryElsewhere(from)) return;
    verdict = Verdict::kDistrust;
  } else {
    from->answered = address;
    if (plan_.on_answer) {
      verdict = plan_.on_answer({from->contact.id, address, from->contact.site},
                                *reply);
    }
  }
  if (core_->stopped()) return;
  if (verdict == Verdict::kDistrust) {
    GiveUp(from);
  } else {
    Settle(from, /*answered=*/true);
    Learn(from, closer);
  }
  if (verdict == Verdict::kStop) lookup_.Stop();
  Proceed();
}

// One timer for all that the walk waits for; an earlier one than needed does no
// harm.
void Walk::SetTimer() {
  absl::Time next = lookup_.next_deadline();
  for (const Seen* node : waited_) next = std::min(next, node->patience);
  if (next >= timer_) return;
  timer_ = next;
  core_->After(std::max(next - core_->Now(), kShortestWait),
               [walk = shared_from_this()] { walk->OnTimer(); });
}

void Walk::OnTimer() {
  if (finished_) return;
  const absl::Time now = core_->Now();
  if (now >= timer_) timer_ = absl::InfiniteFuture();
  std::vector<Seen*> overdue;
  for (Seen* node : waited_) {
    if (node->patience <= now) overdue.push_back(node);
  }
  for (Seen* node : overdue) {
    if (!TryElsewhere(node)) GiveUp(node);
  }
  Proceed();
}

// Those that were asked are known by their answers; the others are to be heard
// of, unless nobody vouches for them. The farthest from the target first: they
// lie apart, and those near it all in one place of a bucket that has not place
// for all.
std::vector<Contact> Walk::Unasked() const {
  std::vector<Contact> unasked;
  for (const auto& [id, node] : seen_) {
    if (!node.seed && !node.asked && TrustIn(node) != Trust::kDrop) {
      unasked.push_back(node.contact);
    }
  }
  std::sort(unasked.begin(), unasked.end(),
            [this](const Contact& a, const Contact& b) {
              return Closer(plan_.target, b.id, a.id);
            });
  return unasked;
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
    if (seen_.at(step.contact.id).asked) outcome.path.push_back(step);
  }
  outcome.depth = lookup_.depth();
  outcome.caps = lookup_.caps() | (capped_ ? Lookup::kQuestions : 0);
  if (outcome.caps & Lookup::kCandidates) core_->Count("lookup_cap_candidates");
  if (outcome.caps & Lookup::kQuestions) core_->Count("lookup_cap_questions");
  if (outcome.caps & Lookup::kDeadline) core_->Count("lookup_cap_deadline");
  outcome.unasked = Unasked();
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
