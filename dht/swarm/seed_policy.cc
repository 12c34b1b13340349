#include "dht/swarm/seed_policy.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/check.h"
#include "base/random.h"

namespace koinon::dht {

struct SeedPolicy::State {
  // A group of peers, as the one who gives sees it.
  struct Group {
    std::vector<uint32_t> holders;  // serving peers that have it or get it now
    std::vector<uint32_t> given;    // by the origin
    size_t serving = 0;             // peers
    size_t scarce = 0;              // pieces with fewer holders than `copies`
  };
  struct Site {
    Group all;
    Group staying;  // those that do not cross sites
  };

  struct PeerState {
    Site* site = nullptr;
    bool crosses = false;
    bool serves = false;
    Bitmap have;
    std::vector<uint32_t> on_the_way;
    size_t refused = 0;  // last resorts, since a peer gave it anything
  };

  explicit State(Options given_options)
      : options(given_options), tie(options.pieces) {
    for (size_t i = 0; i < options.pieces; ++i) {
      tie[i] = static_cast<uint32_t>(RandomAt(options.seed, i));
    }
    Prepare(&crossing);
  }

  void Prepare(Group* group) const {
    group->holders.resize(options.pieces);
    group->given.resize(options.pieces);
    group->scarce = options.copies > 0 ? options.pieces : 0;
  }

  Site* SiteOf(const std::string& name) {
    const auto [it, is_new] = sites.try_emplace(name);
    if (is_new) {
      Prepare(&it->second.all);
      Prepare(&it->second.staying);
    }
    return &it->second;
  }

  // ---- Whom a peer can get pieces from: its home and, if it crosses sites,
  // those of its site that do not. ----

  Group* HomeOf(const PeerState& peer) {
    return peer.crosses ? &crossing : &peer.site->all;
  }
  const Group& HomeOf(const PeerState& peer) const {
    return peer.crosses ? crossing : peer.site->all;
  }
  size_t Holders(const PeerState& peer, uint32_t piece) const {
    const size_t staying = peer.crosses ? peer.site->staying.holders[piece] : 0;
    return HomeOf(peer).holders[piece] + staying;
  }
  bool AnyServes(const PeerState& peer) const {
    return HomeOf(peer).serving > 0 ||
           (peer.crosses && peer.site->staying.serving > 0);
  }

  // ---- Where a peer counts ----

  template <typename Do>
  void ForGroupsOf(PeerState* peer, Do change) {
    change(&peer->site->all);
    change(peer->crosses ? &crossing : &peer->site->staying);
  }
  void Hold(PeerState* peer, uint32_t piece) {
    ForGroupsOf(peer, [&](Group* group) {
      if (++group->holders[piece] == options.copies) --group->scarce;
    });
  }
  void Unhold(PeerState* peer, uint32_t piece) {
    ForGroupsOf(peer, [&](Group* group) {
      if (group->holders[piece]-- == options.copies) ++group->scarce;
    });
  }

  PeerState* Find(Peer id) {
    const auto it = peers.find(id);
    return it == peers.end() ? nullptr : &it->second;
  }

  bool OnTheWay(const PeerState& peer, uint32_t piece) const {
    return std::find(peer.on_the_way.begin(), peer.on_the_way.end(), piece) !=
           peer.on_the_way.end();
  }

  bool Lacks(const PeerState& peer, uint32_t piece) const {
    return !peer.have.Has(piece) && !OnTheWay(peer, piece);
  }

  // False if it was not on its way.
  bool Arrived(PeerState* peer, uint32_t piece) {
    const auto it =
        std::find(peer->on_the_way.begin(), peer->on_the_way.end(), piece);
    if (it == peer->on_the_way.end()) return false;
    peer->on_the_way.erase(it);
    if (peer->serves) Unhold(peer, piece);
    return true;
  }

  void ForgetOnTheWay(PeerState* peer) {
    while (!peer->on_the_way.empty()) Arrived(peer, peer->on_the_way.back());
  }

  void Lose(PeerState* peer) {
    ForgetOnTheWay(peer);
    if (!peer->serves) return;
    ForGroupsOf(peer, [](Group* group) { --group->serving; });
    for (uint32_t i = 0; i < options.pieces; ++i) {
      if (peer->have.Has(i)) Unhold(peer, i);
    }
  }

  void Give(PeerState* peer, uint32_t piece) {
    peer->on_the_way.push_back(piece);
    ++HomeOf(*peer)->given[piece];
    if (peer->serves) Hold(peer, piece);
  }

  bool LeftToOthers(const PeerState& peer) const {
    return !peer.serves && AnyServes(peer);
  }

  bool Scarce(const PeerState& peer, uint32_t piece) const {
    return !LeftToOthers(peer) && Holders(peer, piece) < options.copies;
  }

  const Options options;
  std::vector<uint32_t> tie;
  std::map<std::string, Site> sites;  // pointers to them stay good
  Group crossing;                     // peers of all sites
  absl::flat_hash_map<Peer, PeerState> peers;
  int64_t chosen = 0;
  int64_t granted = 0;
};

SeedPolicy::SeedPolicy(Options options)
    : state_(std::make_unique<State>(options)) {}
SeedPolicy::~SeedPolicy() = default;

void SeedPolicy::AddPeer(Peer id, const Place& place, bool serves,
                         const Bitmap& have) {
  KOINON_CHECK(have.size() == state_->options.pieces);
  RemovePeer(id, /*lost=*/true);
  State::PeerState& peer = state_->peers[id];
  peer.site = state_->SiteOf(place.site);
  peer.crosses = place.crosses;
  peer.serves = serves;
  peer.have = have;
  if (!serves) return;
  state_->ForGroupsOf(&peer, [](State::Group* group) { ++group->serving; });
  for (uint32_t i = 0; i < have.size(); ++i) {
    if (have.Has(i)) state_->Hold(&peer, i);
  }
}

void SeedPolicy::RemovePeer(Peer id, bool lost) {
  State::PeerState* peer = state_->Find(id);
  if (peer == nullptr) return;
  if (!lost) {
    state_->ForgetOnTheWay(peer);
    return;
  }
  state_->Lose(peer);
  state_->peers.erase(id);
}

void SeedPolicy::OnHave(Peer id, uint32_t piece) {
  State::PeerState* peer = state_->Find(id);
  if (peer == nullptr || piece >= state_->options.pieces) return;
  if (!state_->Arrived(peer, piece)) peer->refused = 0;
  if (peer->have.Has(piece)) return;
  peer->have.Set(piece);
  if (peer->serves) state_->Hold(peer, piece);
}

std::optional<uint32_t> SeedPolicy::Choose(Peer id) {
  const State& s = *state_;
  State::PeerState* peer = state_->Find(id);
  if (peer == nullptr) return std::nullopt;
  const State::Group& home = s.HomeOf(*peer);
  if (s.LeftToOthers(*peer) || home.scarce == 0) return std::nullopt;
  std::optional<uint32_t> best;
  const auto rank = [&](uint32_t i) {
    return std::tuple(s.Holders(*peer, i), home.given[i], s.tie[i]);
  };
  for (uint32_t i = 0; i < s.options.pieces; ++i) {
    if (s.Holders(*peer, i) >= s.options.copies) continue;
    if (best.has_value() && rank(i) >= rank(*best)) continue;
    if (s.Lacks(*peer, i)) best = i;
  }
  if (!best.has_value()) return std::nullopt;
  state_->Give(peer, *best);
  ++state_->chosen;
  return best;
}

bool SeedPolicy::Grant(Peer id, uint32_t piece) {
  State::PeerState* peer = state_->Find(id);
  if (peer == nullptr || piece >= state_->options.pieces) return false;
  if (!state_->Lacks(*peer, piece)) return false;
  if (!state_->Scarce(*peer, piece) &&
      peer->refused < state_->options.refusals) {
    ++peer->refused;
    return false;
  }
  state_->Give(peer, piece);
  ++state_->granted;
  return true;
}

void SeedPolicy::OnBroken(Peer id, uint32_t piece) {
  State::PeerState* peer = state_->Find(id);
  if (peer != nullptr) state_->Arrived(peer, piece);
}

int64_t SeedPolicy::chosen() const { return state_->chosen; }
int64_t SeedPolicy::granted() const { return state_->granted; }

}  // namespace koinon::dht
