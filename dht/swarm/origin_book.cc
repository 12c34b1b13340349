#include "dht/swarm/origin_book.h"

#include <cstring>
#include <utility>

#include "base/check.h"

namespace koinon::dht {
namespace {

// Two origins of one content should not begin with the same pieces, but nobody
// needs to be surprised: the content's own bytes say.
uint64_t SeedOf(const Digest& root) {
  uint64_t seed = 0;
  std::memcpy(&seed, root.bytes().data(), sizeof(seed));
  return seed;
}

}  // namespace

void OriginBook::Entry::Lose(const Key& node) {
  if (node.IsZero()) return;
  std::erase_if(finished, [&](const Member& member) {
    if (member.node != node) return false;
    policy->RemovePeer(member.peer, /*lost=*/true);
    return true;
  });
  for (auto& [peer, member] : open) {
    if (member.node == node) member.stays = false;
  }
}

void OriginBook::Entry::Supersede(const Key& node) {
  if (node.IsZero()) return;
  Lose(node);
  for (auto& [peer, member] : open) {
    if (member.node == node) member.serves = false;
  }
}

OriginBook::Seat OriginBook::Join(const Digest& root, const Caller& caller,
                                  const Bitmap& have) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[root];
  if (entry.policy == nullptr) {
    entry.policy = std::make_unique<SeedPolicy>(SeedPolicy::Options{
        .pieces = have.size(), .copies = copies_, .seed = SeedOf(root)});
  }
  entry.Supersede(caller.node);
  const Seat seat{.root = root, .peer = next_peer_++};
  entry.open[seat.peer] = {.peer = seat.peer,
                           .node = caller.node,
                           .serves = caller.serves,
                           .stays = caller.serves};
  entry.policy->AddPeer(seat.peer, caller.place, caller.serves, have);
  return seat;
}

void OriginBook::Leave(const Seat& seat, bool whole) {
  MutexLock lock(&mutex_);
  SeedPolicy* const policy = PolicyOf(seat);
  Entry& entry = entries_[seat.root];
  const Member member = entry.open[seat.peer];
  entry.open.erase(seat.peer);
  const bool stays = whole && member.stays;
  policy->RemovePeer(seat.peer, /*lost=*/!stays);
  if (!stays) return;
  entry.finished.push_back(member);
  if (entry.finished.size() <= max_finished_) return;
  policy->RemovePeer(entry.finished.front().peer, /*lost=*/true);
  entry.finished.pop_front();
}

void OriginBook::OnGone(const Key& node) {
  MutexLock lock(&mutex_);
  for (auto& [root, entry] : entries_) entry.Lose(node);
}

std::optional<uint32_t> OriginBook::Choose(const Seat& seat) {
  MutexLock lock(&mutex_);
  return PolicyOf(seat)->Choose(seat.peer);
}

bool OriginBook::Grant(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  SeedPolicy* const policy = PolicyOf(seat);
  Hear(seat);
  return policy->Grant(seat.peer, piece);
}

void OriginBook::OnHave(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  SeedPolicy* const policy = PolicyOf(seat);
  Hear(seat);
  policy->OnHave(seat.peer, piece);
}

void OriginBook::OnBroken(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  PolicyOf(seat)->OnBroken(seat.peer, piece);
}

void OriginBook::Hear(const Seat& seat) {
  auto& open = entries_[seat.root].open;
  const auto it = open.find(seat.peer);
  if (it != open.end()) it->second.stays = it->second.serves;
}

SeedPolicy* OriginBook::PolicyOf(const Seat& seat) {
  const auto it = entries_.find(seat.root);
  KOINON_CHECK(it != entries_.end());  // kept while there are seats
  return it->second.policy.get();
}

}  // namespace koinon::dht
