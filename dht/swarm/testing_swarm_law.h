#ifndef KOINON_DHT_SWARM_TESTING_SWARM_LAW_H_
#define KOINON_DHT_SWARM_TESTING_SWARM_LAW_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "dht/swarm/bitmap.h"

namespace koinon::dht {

// What an origin may give to whom, by counting, for tests of OriginBook: it is
// told the same, and looks at everybody each time. Two copies of each piece
// where others can provide the rest, and one more for each that was lost.
class SwarmLaw {
 public:
  static constexpr size_t kCopies = 2;

  struct Place {
    size_t site = 0;  // below `sites`
    bool crosses = false;
    bool serves = true;
  };
  SwarmLaw(std::vector<Place> peers, size_t sites, size_t pieces);

  static bool InReach(const Place& a, const Place& b) {
    return a.site == b.site || (a.crosses && b.crosses);
  }

  // Peers go by their index. It begins to fetch, and has that.
  void Join(size_t peer, const Bitmap& have);
  // Its stream is over. Who has everything goes on counting, until it is gone.
  void Leave(size_t peer);
  void OnGone(size_t peer);
  void OnGiven(size_t peer, uint32_t piece);  // it is on its way
  void OnBroken(size_t peer, uint32_t piece);
  void OnHave(size_t peer, uint32_t piece);

  // It has the piece, or is being given it.
  bool Knows(size_t peer, uint32_t piece) const;
  // Fewer than two others have it, or get it, from whom the peer can get it; of
  // one that serves nobody: nobody else does.
  bool IsScarce(size_t peer, uint32_t piece) const;

  // The origin has chosen it. Empty, or what is wrong with that.
  std::string OnChosen(size_t peer, uint32_t piece);
  // At the end: copies that were chosen and had no reason, each in words.
  std::vector<std::string> Surplus() const;

 private:
  struct Member {
    Place place;
    Bitmap have;
    std::set<uint32_t> on_the_way = {};
    bool counts = false;
  };
  bool IsLeftToOthers(const Member& member) const;
  void Uncount(Member* member);
  void CountLost(const Member& member, uint32_t piece);

  const size_t sites_;
  const size_t pieces_;
  std::vector<Member> members_;
  // Of each group, of each piece, to those who serve: those that cross, the
  // last one, are together; those that stay by site.
  std::vector<std::vector<size_t>> chosen_;
  std::vector<std::vector<size_t>> lost_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_TESTING_SWARM_LAW_H_
