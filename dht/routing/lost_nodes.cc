#include "dht/routing/lost_nodes.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace koinon::dht {

void LostNodes::Add(const Contact& contact) {
  Remove(contact.id);
  nodes_.push_back(contact);
  if (nodes_.size() > limit_) nodes_.pop_front();
}

bool LostNodes::Remove(const Key& id) {
  return std::erase_if(nodes_, [&](const Contact& contact) {
           return contact.id == id;
         }) > 0;
}

Contact LostNodes::Next() {
  KOINON_CHECK(!nodes_.empty());
  Contact next = std::move(nodes_.front());
  nodes_.pop_front();
  nodes_.push_back(next);
  return next;
}

std::vector<Contact> LostNodes::Nearest(const Key& target, size_t count) const {
  std::vector<Contact> nearest(nodes_.begin(), nodes_.end());
  count = std::min(count, nearest.size());
  std::partial_sort(nearest.begin(), nearest.begin() + count, nearest.end(),
                    [&](const Contact& a, const Contact& b) {
                      return Closer(target, a.id, b.id);
                    });
  nearest.resize(count);
  return nearest;
}

}  // namespace koinon::dht
