#include "dht/routing/lost_nodes.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

namespace koinon::dht {
void LostNodes::Add(const Contact& contact, absl::Time now) {
  Remove(contact.id);
  nodes_.push_back({.contact = contact,
                    .left = now,
                    .due = now + options_.pace,
                    .rank = random_.NextUint64()});
  if (nodes_.size() > options_.limit) ForgetOne(now);
}

void LostNodes::ForgetOne(absl::Time now) {
  std::map<std::string, size_t> of_site;
  for (const Lost& lost : nodes_) ++of_site[lost.contact.site];
  const auto expendable = [&](const Lost& lost) {
    return std::make_tuple(of_site.at(lost.contact.site), !IsRecent(lost, now),
                           lost.rank);
  };
  nodes_.erase(std::max_element(nodes_.begin(), nodes_.end(),
                                [&](const Lost& a, const Lost& b) {
                                  return expendable(a) < expendable(b);
                                }));
}

bool LostNodes::Remove(const Key& id) {
  return std::erase_if(nodes_, [&](const Lost& lost) {
           return lost.contact.id == id;
         }) > 0;
}

std::vector<Contact> LostNodes::All() const {
  std::vector<Contact> all;
  all.reserve(nodes_.size());
  for (const Lost& lost : nodes_) all.push_back(lost.contact);
  return all;
}

std::optional<Contact> LostNodes::Next(absl::Time now) {
  if (nodes_.empty() || now < next_) return std::nullopt;
  // Of those that wait for the long pace, too, who has been due for longest.
  const auto turn = [&](const Lost& lost) {
    return std::make_pair(
        IsRecent(lost, now) ? lost.due : std::max(lost.due, next_long_),
        lost.due);
  };
  const auto next = std::min_element(
      nodes_.begin(), nodes_.end(),
      [&](const Lost& a, const Lost& b) { return turn(a) < turn(b); });
  const bool is_long = !IsRecent(*next, now);
  if (next->due > now || (is_long && next_long_ > now)) return std::nullopt;
  next_ = now + options_.pace;
  if (is_long) next_long_ = now + options_.long_pace;
  const absl::Duration away = now - next->left;
  next->due = now + std::clamp(away / 16, options_.pace, options_.longest);
  Contact named = next->contact;
  if (away > options_.forgotten) nodes_.erase(next);
  return named;
}

std::vector<Contact> LostNodes::Recent(absl::Time now) const {
  std::vector<Contact> recent;
  for (const Lost& lost : nodes_) {
    if (IsRecent(lost, now)) recent.push_back(lost.contact);
  }
  return recent;
}

}  // namespace koinon::dht
