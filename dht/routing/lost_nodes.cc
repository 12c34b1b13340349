#include "dht/routing/lost_nodes.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace koinon::dht {

void LostNodes::Add(const Contact& contact, absl::Time now) {
  Remove(contact.id);
  nodes_.push_back({contact, now});
  if (nodes_.size() > limit_) nodes_.pop_front();
}

bool LostNodes::Remove(const Key& id) {
  return std::erase_if(nodes_, [&](const Lost& lost) {
           return lost.contact.id == id;
         }) > 0;
}

Contact LostNodes::Next(absl::Time forgotten) {
  KOINON_CHECK(!nodes_.empty());
  Lost next = std::move(nodes_.front());
  nodes_.pop_front();
  if (next.left >= forgotten) nodes_.push_back(next);
  return std::move(next.contact);
}

std::vector<Contact> LostNodes::Nearest(const Key& target, size_t count) const {
  std::vector<Contact> nearest;
  nearest.reserve(nodes_.size());
  for (const Lost& lost : nodes_) nearest.push_back(lost.contact);
  count = std::min(count, nearest.size());
  std::partial_sort(nearest.begin(), nearest.begin() + count, nearest.end(),
                    [&](const Contact& a, const Contact& b) {
                      return Closer(target, a.id, b.id);
                    });
  nearest.resize(count);
  return nearest;
}

}  // namespace koinon::dht
