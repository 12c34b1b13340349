#include "dht/node_walk.h"

#include <algorithm>
#include <utility>

namespace koinon::dht {
namespace {

constexpr absl::Duration kShortestWait = absl::Microseconds(100);

}  // namespace

void Walk::Start(NodeCore* core, Plan plan) {
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
      lookup_(plan_.target, core->self(), plan_.seeds, plan_.options,
              core->Now()) {}

void Walk::Proceed() {
  if (finished_) return;
  for (const Contact& next : lookup_.Next(core_->Now())) {
    patience_[next.id] = core_->Now() + core_->times().timeout();
    core_->Ask(next, plan_.question,
               [walk = shared_from_this(), next](const auto& reply,
                                                 const auto& closer) {
                 walk->OnReply(next, reply, closer);
               });
  }
  if (lookup_.done()) {
    Finish();
  } else {
    SetTimer();
  }
}

void Walk::OnReply(const Contact& from,
                   const absl::StatusOr<v1::AskReply>& reply,
                   const std::vector<Contact>& closer) {
  if (finished_) return;
  patience_.erase(from.id);
  Verdict verdict = Verdict::kGoOn;
  if (!reply.ok()) {
    verdict = Verdict::kDistrust;
  } else if (plan_.on_answer) {
    verdict = plan_.on_answer(from, *reply);
  }
  if (core_->stopped()) return;
  if (verdict == Verdict::kDistrust) {
    lookup_.OnFailure(from.id, core_->Now());
  } else {
    lookup_.OnAnswer(from.id, closer, core_->Now());
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
  for (auto it = patience_.begin(); it != patience_.end();) {
    if (it->second > now) {
      ++it;
      continue;
    }
    lookup_.OnFailure(it->first, now);
    it = patience_.erase(it);
  }
  Proceed();
}

void Walk::Finish() {
  if (finished_) return;
  finished_ = true;
  const unsigned caps = lookup_.caps();
  if (caps & Lookup::kCandidates) core_->Count("lookup_cap_candidates");
  if (caps & Lookup::kQuestions) core_->Count("lookup_cap_questions");
  if (caps & Lookup::kDeadline) core_->Count("lookup_cap_deadline");
  // What waits for answers still holds this walk: the plan's owner is let go.
  const Plan plan = std::move(plan_);
  plan_ = Plan();
  plan.done(lookup_);
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
