#include "dht/routing/known_nodes.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/check.h"
#include "dht/routing/key_prefix.h"

namespace koinon::dht {
namespace {

size_t CommonBits(const KnownNodes::Slot& a, const KnownNodes::Slot& b) {
  return a.prefix != b.prefix
             ? static_cast<size_t>(std::countl_zero(a.prefix ^ b.prefix))
             : CommonPrefixBits(a.node->contact.id, b.node->contact.id);
}

bool SlotBitAt(const KnownNodes::Slot& slot, size_t bit) {
  constexpr size_t kPrefixBits = 64;
  return bit < kPrefixBits ? (slot.prefix >> (kPrefixBits - 1 - bit) & 1) != 0
                           : BitAt(slot.node->contact.id, bit);
}

}  // namespace

size_t KnownNodes::PlaceOf(const Key& id) const {
  const uint64_t prefix = PrefixOf(id);
  const auto place =
      std::partition_point(slots_.begin(), slots_.end(), [&](const Slot& slot) {
        return slot.prefix != prefix ? slot.prefix < prefix
                                     : slot.node->contact.id < id;
      });
  return static_cast<size_t>(place - slots_.begin());
}

KnownNodes::Slot* KnownNodes::FindSlot(const Key& id) {
  const size_t place = PlaceOf(id);
  const bool here =
      place < slots_.size() && slots_[place].node->contact.id == id;
  return here ? &slots_[place] : nullptr;
}

KnownNode* KnownNodes::Find(const Key& id) const {
  const size_t place = PlaceOf(id);
  const bool here =
      place < slots_.size() && slots_[place].node->contact.id == id;
  return here ? slots_[place].node.get() : nullptr;
}

void KnownNodes::Insert(std::unique_ptr<KnownNode> node, absl::Time due) {
  const Key& id = node->contact.id;
  const size_t place = PlaceOf(id);
  Slot slot{.prefix = PrefixOf(id), .due = due, .node = std::move(node)};
  slots_.insert(slots_.begin() + place, std::move(slot));
}

std::unique_ptr<KnownNode> KnownNodes::Take(const Key& id) {
  const size_t place = PlaceOf(id);
  KOINON_CHECK(place < slots_.size() && slots_[place].node->contact.id == id);
  std::unique_ptr<KnownNode> taken = std::move(slots_[place].node);
  slots_.erase(slots_.begin() + place);
  return taken;
}

std::vector<KnownNode*> KnownNodes::Nearest(const Key& target,
                                            size_t count) const {
  std::vector<KnownNode*> nearest;
  nearest.reserve(std::min(count, slots_.size()));
  Collect(slots_.begin(), slots_.end(), target, count, &nearest);
  return nearest;
}

void KnownNodes::Collect(Iterator begin, Iterator end, const Key& target,
                         size_t count, std::vector<KnownNode*>* nearest) {
  if (begin == end || nearest->size() >= count) return;
  if (end - begin == 1) {
    nearest->push_back(begin->node.get());
    return;
  }
  // All between first and last share what these two share; the next bit parts
  // them, and those on the target's side are nearer to it, every one.
  const size_t bit = CommonBits(*begin, *(end - 1));
  const auto middle = std::partition_point(
      begin, end, [bit](const Slot& slot) { return !SlotBitAt(slot, bit); });
  if (BitAt(target, bit)) {
    Collect(middle, end, target, count, nearest);
    Collect(begin, middle, target, count, nearest);
  } else {
    Collect(begin, middle, target, count, nearest);
    Collect(middle, end, target, count, nearest);
  }
}

}  // namespace koinon::dht
