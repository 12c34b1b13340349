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

OriginBook::Seat OriginBook::Join(const Digest& root,
                                  const SeedPolicy::Place& place, bool serves,
                                  const Bitmap& have) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[root];
  if (entry.policy == nullptr) {
    entry.policy = std::make_unique<SeedPolicy>(SeedPolicy::Options{
        .pieces = have.size(), .copies = copies_, .seed = SeedOf(root)});
  }
  ++entry.seats;
  const Seat seat{.root = root, .peer = next_peer_++};
  entry.policy->AddPeer(seat.peer, place, serves, have);
  return seat;
}

void OriginBook::Leave(const Seat& seat, bool lost) {
  MutexLock lock(&mutex_);
  SeedPolicy* const policy = PolicyOf(seat);
  policy->RemovePeer(seat.peer, lost);
  Entry& entry = entries_[seat.root];
  --entry.seats;
  if (lost) return;
  entry.finished.push_back(seat.peer);
  if (entry.finished.size() <= max_finished_) return;
  policy->RemovePeer(entry.finished.front(), /*lost=*/true);
  entry.finished.pop_front();
}

std::optional<uint32_t> OriginBook::Choose(const Seat& seat) {
  MutexLock lock(&mutex_);
  return PolicyOf(seat)->Choose(seat.peer);
}

bool OriginBook::Grant(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  return PolicyOf(seat)->Grant(seat.peer, piece);
}

void OriginBook::OnHave(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  PolicyOf(seat)->OnHave(seat.peer, piece);
}

void OriginBook::OnBroken(const Seat& seat, uint32_t piece) {
  MutexLock lock(&mutex_);
  PolicyOf(seat)->OnBroken(seat.peer, piece);
}

SeedPolicy* OriginBook::PolicyOf(const Seat& seat) {
  const auto it = entries_.find(seat.root);
  KOINON_CHECK(it != entries_.end());  // kept while there are seats
  return it->second.policy.get();
}

}  // namespace koinon::dht
