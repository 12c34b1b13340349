#include "dht/node_repair.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"

namespace koinon::dht {
namespace {

constexpr size_t kExaminedAtOnce = 512;  // records, each tick
// Those to whom the records go have questions of others to answer, and so has
// this node.
constexpr size_t kSendingAtOnce = 8;
constexpr size_t kSendingBesideOthers = 1;
constexpr int kAttempts = 3;
constexpr int kBusyTicks = 120;  // then it is left to republishing

}  // namespace

void Repair::Tick() {
  if (to_examine_.empty() && to_send_.empty()) BeginPass();
  for (size_t i = 0; i < kExaminedAtOnce && !to_examine_.empty(); ++i) {
    const Key key = to_examine_.front();
    to_examine_.pop_front();
    Examine(key);
  }
  for (auto& [to, waiting] : std::exchange(resting_, {})) {
    if (++busy_[to] >= kBusyTicks) {
      busy_.erase(to);
      continue;
    }
    for (auto& [key, hand_on] : waiting) to_send_.push_back(std::move(hand_on));
  }
  SendSome();
}

void Repair::BeginPass() {
  if (entered_.empty() && left_.empty()) return;
  pass_entered_ = std::move(entered_);
  pass_left_ = std::move(left_);
  entered_.clear();
  left_.clear();
  if (core_->is_client()) return;
  for (const Key& key : core_->store().All()) to_examine_.push_back(key);
}

void Repair::Examine(const Key& key) {
  const size_t k = core_->options().k;
  std::vector<Contact> others = core_->table().Closest(key, k);
  const size_t rank =
      std::count_if(others.begin(), others.end(), [&](const Contact& contact) {
        return Closer(key, contact.id, core_->self()) &&
               !entered_.contains(contact.id) &&
               !pass_entered_.contains(contact.id);
      });
  if (rank >= std::min(kActing, k)) return;
  if (others.size() == k && Closer(key, core_->self(), others.back().id)) {
    others.pop_back();  // this node is one of the k
  }
  if (others.empty()) return;
  // As many have moved up as have left from among the closest.
  const size_t moved_up = std::count_if(
      pass_left_.begin(), pass_left_.end(),
      [&](const Key& left) { return Closer(key, left, others.back().id); });
  for (size_t i = 0; i < others.size(); ++i) {
    const bool entered = pass_entered_.contains(others[i].id);
    if (entered || i + moved_up >= others.size()) {
      to_send_.push_back({key, others[i]});
    }
  }
}

void Repair::SendSome() {
  // Somebody always waits at some nodes: repair slows down, and goes on.
  const size_t at_once =
      core_->is_awaited() ? kSendingBesideOthers : kSendingAtOnce;
  while (sending_ < at_once && !to_send_.empty()) {
    HandOn next = std::move(to_send_.front());
    to_send_.pop_front();
    const auto resting = resting_.find(next.to.id);
    if (resting != resting_.end()) {
      const Key key = next.key;
      resting->second.emplace(key, std::move(next));
      continue;
    }
    const auto stored = core_->store().Get(next.key, core_->Now());
    // Expired, or they have gone as well: the next pass finds another.
    if (!stored.has_value() || !core_->table().Contains(next.to.id)) continue;
    v1::AskRequest question;
    question.mutable_put_record()->set_key(next.key.ToBytes());
    *question.mutable_put_record()->mutable_record() = stored->record;
    ++sending_;
    const Contact to = next.to;
    core_->Ask(to, std::move(question),
               [this, next = std::move(next)](const auto& reply, const auto&) {
                 --sending_;
                 OnHandedOn(next, reply);
               });
  }
}

void Repair::OnHandedOn(HandOn hand_on,
                        const absl::StatusOr<v1::AskReply>& reply) {
  if (reply.ok()) {
    busy_.erase(hand_on.to.id);
    // What it refuses it may refuse: it has a newer one, or no room.
    core_->Count(reply->rejection().empty() ? "repaired" : "repair_refused");
  } else if (absl::IsResourceExhausted(reply.status())) {
    const Key key = hand_on.key;
    resting_[hand_on.to.id].insert_or_assign(key, std::move(hand_on));
  } else if (++hand_on.attempts < kAttempts) {
    to_send_.push_back(std::move(hand_on));
  }
  SendSome();
}

}  // namespace koinon::dht
