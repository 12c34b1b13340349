#include "dht/swarm/testing_swarm.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "base/random.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/origin_book.h"
#include "dht/swarm/piece_picker.h"
#include "dht/swarm/testing_swarm_law.h"

namespace koinon::dht {
namespace {

constexpr PiecePicker::Source kOrigin = ~uint64_t{0};
constexpr absl::Duration kSlot = absl::Milliseconds(20);
constexpr size_t kGiveUp = 60'000;  // slots: 20 minutes
constexpr size_t kSources = 10;     // of each peer
// A slow peer sends one piece in so many slots: later than who waits for it
// asks the origin for it.
constexpr size_t kSlowSlots = 200;
constexpr size_t kToldAfter = 150;  // slots: that somebody has been killed

class RandomSwarm {
 public:
  explicit RandomSwarm(const SwarmMake& make)
      : make_(make),
        random_(make.seed),
        peers_(make.peers),
        law_(DrawPlaces(), make.sites, make.pieces) {}

  SwarmGiven Run() {
    for (slot_ = 0; slot_ < kGiveUp && !given_.all_done; ++slot_) {
      for (size_t i = 0; i < peers_.size(); ++i) Live(i);
      std::vector<size_t> order(peers_.size());
      for (size_t i = 0; i < order.size(); ++i) order[i] = i;
      random_.Shuffle(&order);
      for (const size_t i : order) Ask(i);
      SendFromOrigin(order);
      for (const size_t i : order) SendFrom(i);
      Arrive();
      given_.all_done =
          std::all_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
            return peer.died || (peer.came && peer.have().full());
          });
    }
    for (std::string& surplus : law_.Surplus()) {
      given_.wrong.push_back(std::move(surplus));
    }
    return given_;
  }

 private:
  struct Wanted {
    size_t by;
    uint32_t piece;
  };
  struct Peer {
    SwarmLaw::Place place;
    bool slow = false, cut_off = false;
    size_t comes_at = 0;

    bool came = false, died = false;
    size_t died_at = 0;
    bool origin_knows = false;  // that it died
    std::unique_ptr<PiecePicker> picker;
    std::set<size_t> sources, tried;
    std::vector<Wanted> queue;
    std::optional<OriginBook::Seat> seat;
    std::vector<uint32_t> to_tell;
    absl::Time heard_of_peers;  // when one gave it something

    // Of the origin.
    size_t any = 0;
    std::vector<uint32_t> granted;

    const Bitmap& have() const { return picker->have(); }
    bool here() const { return came && !died; }
  };
  struct Transfer {
    PiecePicker::Source from;
    size_t to;
    uint32_t piece;
  };

  absl::Time now() const {
    return absl::UnixEpoch() + static_cast<int64_t>(slot_) * kSlot;
  }
  bool Happens(double part) { return random_.NextDouble() < part; }

  // ---- Life ----

  std::vector<SwarmLaw::Place> DrawPlaces() {
    std::vector<SwarmLaw::Place> places;
    for (Peer& peer : peers_) {
      peer.place = {.site = random_.NextBelow(make_.sites),
                    .crosses = Happens(make_.crossing),
                    .serves = !Happens(make_.leeches)};
      peer.slow = Happens(make_.slow);
      peer.cut_off = Happens(make_.cut_off);
      if (Happens(make_.late)) peer.comes_at = random_.NextBelow(600);
      places.push_back(peer.place);
    }
    return places;
  }

  void Live(size_t i) {
    Peer& peer = peers_[i];
    if (peer.died && !peer.origin_knows && slot_ >= peer.died_at + kToldAfter) {
      peer.origin_knows = true;
      book_.OnGone(Name(i));
      law_.OnGone(i);
    }
    if (!peer.came && slot_ >= peer.comes_at) Come(i);
    if (!peer.here()) return;
    if (Happens(make_.killed) && SomebodyElseIsHere(i)) return Die(i);
    if (peer.seat.has_value() && Happens(make_.broken)) Break(i);
    FindSources(i);
  }

  static Key Name(size_t i) { return Sha256Of(std::to_string(i)); }

  void Come(size_t i) {
    Peer& peer = peers_[i];
    peer.came = true;
    peer.picker = std::make_unique<PiecePicker>(
        PiecePicker::Options{.pieces = make_.pieces,
                             .seed = DeriveSeed(make_.seed, i + 1),
                             .in_flight_per_source = 2},
        Bitmap(make_.pieces), now());
    peer.heard_of_peers = now();
    Open(i);
  }

  void Open(size_t i) {
    Peer& peer = peers_[i];
    peer.picker->AddSource(kOrigin, /*origin=*/true);
    peer.seat = book_.Join(root_,
                           {.node = Name(i),
                            .place = {.site = std::to_string(peer.place.site),
                                      .crosses = peer.place.crosses},
                            .serves = peer.place.serves},
                           peer.have());
    law_.Join(i, peer.have());
    peer.to_tell.clear();
  }

  // Its stream to the origin is over. Who has everything goes on counting.
  void Close(size_t i) {
    Peer& peer = peers_[i];
    peer.any = 0;
    peer.granted.clear();
    std::erase_if(transfers_, [&](const Transfer& transfer) {
      return transfer.from == kOrigin && transfer.to == i;
    });
    law_.Leave(i);
    book_.Leave(*peer.seat, /*whole=*/peer.have().full());
    peer.seat.reset();
  }

  void Break(size_t i) {
    Close(i);
    peers_[i].picker->RemoveSource(kOrigin);
    Open(i);
  }

  void Die(size_t i) {
    Peer& peer = peers_[i];
    peer.died = true;
    peer.died_at = slot_;
    if (peer.seat.has_value()) Close(i);
    peer.queue.clear();
    for (size_t other = 0; other < peers_.size(); ++other) {
      std::erase_if(peers_[other].queue,
                    [&](const Wanted& wanted) { return wanted.by == i; });
      if (peers_[other].sources.erase(i) > 0 && peers_[other].here()) {
        peers_[other].picker->RemoveSource(i);
      }
    }
    std::erase_if(transfers_, [&](const Transfer& transfer) {
      return transfer.from == i || transfer.to == i;
    });
  }

  bool SomebodyElseIsHere(size_t i) const {
    for (size_t other = 0; other < peers_.size(); ++other) {
      if (other != i && peers_[other].here()) return true;
    }
    return false;
  }

  // ---- Who gets at whom ----

  bool CanFetch(size_t to, size_t from) const {
    const Peer& a = peers_[to];
    const Peer& b = peers_[from];
    return to != from && b.here() && b.place.serves && !a.cut_off &&
           !b.cut_off && SwarmLaw::InReach(a.place, b.place);
  }

  // Those that it might fetch from besides, who are new to it first.
  std::vector<size_t> OthersFor(size_t i) {
    const Peer& peer = peers_[i];
    std::vector<size_t> others;
    for (size_t other = 0; other < peers_.size(); ++other) {
      if (CanFetch(i, other) && !peer.sources.contains(other)) {
        others.push_back(other);
      }
    }
    random_.Shuffle(&others);
    std::stable_partition(others.begin(), others.end(), [&](size_t other) {
      return !peer.tried.contains(other);
    });
    return others;
  }

  // It takes others as sources until it has enough, or has done with some.
  void FindSources(size_t i) {
    Peer& peer = peers_[i];
    if (peer.have().full()) return;
    const std::vector<size_t> others = OthersFor(i);
    if (!others.empty() && peer.sources.size() >= kSources) {
      for (const size_t idle : peer.picker->Idle(now())) {
        if (peer.sources.size() <= kSources / 2) break;
        peer.picker->RemoveSource(idle);
        peer.sources.erase(idle);
      }
    }
    for (const size_t other : others) {
      if (peer.sources.size() >= kSources) return;
      peer.tried.insert(other);
      peer.sources.insert(other);
      peer.picker->AddSource(other, /*origin=*/false);
      peer.picker->OnHave(other, peers_[other].have());
    }
    peer.picker->SetAlone(peer.sources.empty());
  }

  // ---- Asking ----

  void Ask(size_t i) {
    Peer& peer = peers_[i];
    if (!peer.here() || peer.have().full()) return;
    for (const size_t source : peer.sources) {
      const PiecePicker::Wants wants = peer.picker->Next(source, now());
      std::vector<Wanted>& queue = peers_[source].queue;
      std::erase_if(queue, [&](const Wanted& wanted) {
        return wanted.by == i && std::count(wants.cancel.begin(),
                                            wants.cancel.end(), wanted.piece);
      });
      for (const uint32_t piece : wants.pieces) queue.push_back({i, piece});
    }
    // What it has is told together, now and then.
    if (slot_ % 3 == i % 3) Tell(i);
    const PiecePicker::Wants wants = peer.picker->Next(kOrigin, now());
    for (const uint32_t piece : wants.cancel) {
      if (std::erase(peer.granted, piece) > 0) {
        book_.OnBroken(*peer.seat, piece);
        law_.OnBroken(i, piece);
      }
    }
    peer.any += wants.any;
    for (const uint32_t piece : wants.pieces) AskForLastResort(i, piece);
  }

  void Tell(size_t i) {
    Peer& peer = peers_[i];
    for (const uint32_t piece : std::exchange(peer.to_tell, {})) {
      book_.OnHave(*peer.seat, piece);
      law_.OnHave(i, piece);
    }
  }

  void AskForLastResort(size_t i, uint32_t piece) {
    Peer& peer = peers_[i];
    const bool scarce = law_.IsScarce(i, piece);
    if (!book_.Grant(*peer.seat, piece)) {
      if (scarce && !law_.Knows(i, piece)) {
        Wrong(i, piece, "refused though nobody else has it");
      }
      return peer.picker->OnRefused(kOrigin, piece, now());
    }
    bool reachable = false;
    for (size_t other = 0; other < peers_.size(); ++other) {
      reachable |= CanFetch(i, other) && peers_[other].have().Has(piece);
    }
    if (scarce) {
      ++given_.scarce;
    } else if (!reachable) {
      ++given_.out_of_reach;
    } else {
      ++given_.starved;
      // Nothing has come from them for longer than the shortest patience.
      if (now() - peer.heard_of_peers < absl::Milliseconds(500)) {
        Wrong(i, piece, "given to one whom others feed");
      }
    }
    law_.OnGiven(i, piece);
    peer.granted.push_back(piece);
  }

  void Wrong(size_t i, uint32_t piece, const std::string& what) {
    given_.wrong.push_back(absl::StrCat("slot ", slot_, ", peer ", i,
                                        ", piece ", piece, ": ", what));
  }

  // ---- Sending ----

  void SendFromOrigin(const std::vector<size_t>& order) {
    size_t room = make_.uplink;
    for (const size_t i : order) {
      if (room == 0) return;
      Peer& peer = peers_[i];
      if (!peer.here() || !peer.seat.has_value()) continue;
      if (!peer.granted.empty()) {
        transfers_.push_back({kOrigin, i, peer.granted.front()});
        peer.granted.erase(peer.granted.begin());
        --room;
      } else if (peer.any > 0 && Choose(i)) {
        --room;
      }
    }
  }

  bool Choose(size_t i) {
    Peer& peer = peers_[i];
    const auto piece = book_.Choose(*peer.seat);
    if (!piece.has_value()) {
      for (uint32_t p = 0; p < make_.pieces; ++p) {
        if (!law_.Knows(i, p) && law_.IsScarce(i, p)) {
          Wrong(i, p, "not given though nobody else has it");
          break;
        }
      }
      peer.any = 0;
      peer.picker->OnNoneForYou(kOrigin, now());
      return false;
    }
    const std::string wrong = law_.OnChosen(i, *piece);
    if (!wrong.empty()) Wrong(i, *piece, wrong);
    ++given_.chosen;
    given_.to_leeches += !peer.place.serves;
    --peer.any;
    peer.picker->OnStarted(kOrigin, *piece, now());
    transfers_.push_back({kOrigin, i, *piece});
    return true;
  }

  void SendFrom(size_t i) {
    Peer& peer = peers_[i];
    if (!peer.here() || peer.queue.empty()) return;
    if (peer.slow && slot_ % kSlowSlots != i % kSlowSlots) return;
    const Wanted wanted = peer.queue.front();
    peer.queue.erase(peer.queue.begin());
    transfers_.push_back({i, wanted.by, wanted.piece});
  }

  void Arrive() {
    for (const Transfer& transfer : std::exchange(transfers_, {})) {
      Peer& peer = peers_[transfer.to];
      if (peer.have().full()) continue;
      const bool is_new =
          peer.picker->OnPiece(transfer.from, transfer.piece, now());
      if (is_new || transfer.from == kOrigin) {
        peer.to_tell.push_back(transfer.piece);
      }
      if (!is_new) continue;
      if (transfer.from != kOrigin) peer.heard_of_peers = now();
      for (Peer& other : peers_) {
        if (other.here() && other.sources.contains(transfer.to)) {
          other.picker->OnHave(transfer.to, transfer.piece);
        }
      }
      if (!peer.have().full()) continue;
      Finish(transfer.to);
    }
  }

  // It leaves the origin, and those that it fetched from; it goes on serving.
  void Finish(size_t i) {
    Peer& peer = peers_[i];
    for (const size_t source : peer.sources) {
      std::erase_if(peers_[source].queue,
                    [&](const Wanted& wanted) { return wanted.by == i; });
    }
    Tell(i);
    Close(i);
  }

  const SwarmMake make_;
  Random random_;
  OriginBook book_{SwarmLaw::kCopies};
  const Digest root_ = Sha256Of("content");
  std::vector<Peer> peers_;
  SwarmLaw law_;
  std::vector<Transfer> transfers_;
  size_t slot_ = 0;
  SwarmGiven given_;
};

}  // namespace

std::ostream& operator<<(std::ostream& out, const SwarmMake& make) {
  return out << "seed " << make.seed << ": " << make.peers << " peers, "
             << make.pieces << " pieces, " << make.sites << " sites, uplink "
             << make.uplink << ", crossing " << make.crossing << ", leeches "
             << make.leeches << ", slow " << make.slow << ", cut off "
             << make.cut_off << ", late " << make.late << ", killed "
             << make.killed << ", broken " << make.broken;
}

SwarmGiven SpreadInRandomSwarm(const SwarmMake& make) {
  return RandomSwarm(make).Run();
}

}  // namespace koinon::dht
