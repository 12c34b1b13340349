#include "dht/swarm/testing_swarm_law.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace koinon::dht {
SwarmLaw::SwarmLaw(std::vector<Place> peers, size_t sites, size_t pieces)
    : sites_(sites),
      pieces_(pieces),
      chosen_(sites + 1, std::vector<size_t>(pieces)),
      lost_(sites + 1, std::vector<size_t>(pieces)) {
  for (const Place& place : peers) {
    members_.push_back({.place = place, .have = Bitmap(pieces)});
  }
}

void SwarmLaw::Join(size_t peer, const Bitmap& have) {
  members_[peer].have = have;
  members_[peer].counts = members_[peer].place.serves;
}

void SwarmLaw::Leave(size_t peer) {
  Member& member = members_[peer];
  for (const uint32_t piece : member.on_the_way) CountLost(member, piece);
  member.on_the_way.clear();
  if (!member.have.full()) Uncount(&member);
}

void SwarmLaw::OnGone(size_t peer) {
  if (members_[peer].counts) Uncount(&members_[peer]);
}

void SwarmLaw::OnGiven(size_t peer, uint32_t piece) {
  members_[peer].on_the_way.insert(piece);
}

void SwarmLaw::OnBroken(size_t peer, uint32_t piece) {
  members_[peer].on_the_way.erase(piece);
  CountLost(members_[peer], piece);
}

void SwarmLaw::OnHave(size_t peer, uint32_t piece) {
  members_[peer].on_the_way.erase(piece);
  members_[peer].have.Set(piece);
}

bool SwarmLaw::Knows(size_t peer, uint32_t piece) const {
  const Member& member = members_[peer];
  return member.have.Has(piece) || member.on_the_way.contains(piece);
}

bool SwarmLaw::IsLeftToOthers(const Member& member) const {
  return !member.place.serves &&
         std::any_of(members_.begin(), members_.end(), [&](const Member& m) {
           return m.counts && InReach(member.place, m.place);
         });
}

bool SwarmLaw::IsScarce(size_t peer, uint32_t piece) const {
  const Member& member = members_[peer];
  size_t holders = 0;
  for (size_t other = 0; other < members_.size(); ++other) {
    holders += members_[other].counts &&
               InReach(member.place, members_[other].place) &&
               Knows(other, piece);
  }
  return !IsLeftToOthers(member) && holders < kCopies;
}

std::string SwarmLaw::OnChosen(size_t peer, uint32_t piece) {
  const Place& place = members_[peer].place;
  std::string wrong;
  if (Knows(peer, piece)) {
    wrong = "given twice";
  } else if (!IsScarce(peer, piece)) {
    wrong = "given though others hold it";
  }
  if (place.serves) ++chosen_[place.crosses ? sites_ : place.site][piece];
  OnGiven(peer, piece);
  return wrong;
}

void SwarmLaw::Uncount(Member* member) {
  for (uint32_t piece = 0; piece < pieces_; ++piece) {
    if (member->have.Has(piece)) CountLost(*member, piece);
  }
  member->counts = false;
}

// For those that stay at its site, and for those that cross if it does.
void SwarmLaw::CountLost(const Member& member, uint32_t piece) {
  if (!member.place.serves) return;
  ++lost_[member.place.site][piece];
  if (member.place.crosses) ++lost_[sites_][piece];
}

std::vector<std::string> SwarmLaw::Surplus() const {
  std::vector<std::string> surplus;
  for (size_t group = 0; group < chosen_.size(); ++group) {
    for (uint32_t piece = 0; piece < pieces_; ++piece) {
      const size_t chosen = chosen_[group][piece];
      const size_t lost = lost_[group][piece];
      if (chosen <= kCopies + lost) continue;
      surplus.push_back(absl::StrCat("piece ", piece, " was given ", chosen,
                                     " times in group ", group,
                                     ", which lost it ", lost, " times"));
    }
  }
  return surplus;
}

}  // namespace koinon::dht
