#include "tools/bench/swarm_simulation.h"

#include <algorithm>
#include <bit>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "base/random.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/piece_picker.h"
#include "dht/swarm/seed_policy.h"
#include "dht/swarm/send_slots.h"

namespace koinon::bench {
namespace {

using ::koinon::dht::Bitmap;
using ::koinon::dht::PiecePicker;
using ::koinon::dht::SeedPolicy;
using ::koinon::dht::SendSlots;

constexpr size_t kSlowSlots = 10;
constexpr size_t kGiveUp = 100;  // times the bound
// What pickers call the origin; peers are called by their index.
constexpr PiecePicker::Source kOrigin = ~uint64_t{0};

class Simulation {
 public:
  explicit Simulation(const SwarmSimulationOptions& options)
      : options_(options),
        random_(options.seed),
        policy_({.pieces = options.pieces,
                 .copies = options.copies,
                 .seed = DeriveSeed(options.seed, "origin")}),
        bound_(options.pieces + std::bit_width(options.peers) - 1),
        peers_(options.peers) {
    for (uint32_t i = 0; i < peers_.size(); ++i) {
      order_.push_back(i);
      Join(i);
    }
    LinkAll();
  }

  SwarmSimulationReport Run() {
    const absl::Time began = absl::Now();
    while (unfinished_ > 0 && slot_ < kGiveUp * bound_) {
      if (slot_ == bound_ / 2) Die();
      random_.Shuffle(&order_);
      for (uint32_t peer : order_) AskSources(peer);
      SendFromOrigin();
      for (uint32_t peer : order_) SendFromPeer(peer);
      ++slot_;
      Arrive();
    }
    SwarmSimulationReport report = Report();
    report.seconds = absl::ToDoubleSeconds(absl::Now() - began);
    return report;
  }

 private:
  struct Link {
    uint32_t peer;
    size_t place;  // of this end among the links of that peer
    // What that peer has asked for here, first asked first.
    std::vector<uint32_t> queue = {};
  };
  struct Peer {
    std::unique_ptr<PiecePicker> picker;
    std::vector<Link> links;
    bool alive = true;
    bool slow = false;
    bool receiving = false;  // in this slot
    size_t finished_at = 0;
    // Asked of the origin.
    uint32_t any = 0;
    std::vector<uint32_t> last_resort;
  };
  struct Transfer {
    PiecePicker::Source from;
    uint32_t to;
    uint32_t piece;
  };

  absl::Time now() const {
    return absl::UnixEpoch() + static_cast<int64_t>(slot_) * options_.slot;
  }

  void Join(uint32_t index) {
    Peer& peer = peers_[index];
    peer.slow = index < options_.slow * static_cast<double>(peers_.size());
    peer.picker = std::make_unique<PiecePicker>(
        PiecePicker::Options{.pieces = options_.pieces,
                             .seed = DeriveSeed(options_.seed, index),
                             .in_flight_per_source = options_.in_flight},
        Bitmap(options_.pieces), now());
    peer.picker->AddSource(kOrigin, /*origin=*/true);
    policy_.AddPeer(index, {}, /*serves=*/true, Bitmap(options_.pieces));
    ++unfinished_;
  }

  // Draws the graph: ends paired at random, without the few loops and doubles.
  void LinkAll() {
    const size_t nodes = peers_.size();
    if (options_.degree + 1 >= nodes) {
      for (uint32_t a = 0; a < nodes; ++a) {
        for (uint32_t b = 0; b < a; ++b) Connect(a, b);
      }
      return;
    }
    std::vector<uint32_t> ends;
    for (uint32_t node = 0; node < nodes; ++node) {
      ends.insert(ends.end(), options_.degree, node);
    }
    random_.Shuffle(&ends);
    for (size_t i = 0; i + 1 < ends.size(); i += 2) {
      if (ends[i] != ends[i + 1]) Connect(ends[i], ends[i + 1]);
    }
  }

  void Die() {
    std::vector<uint32_t> doomed = order_;
    random_.Shuffle(&doomed);
    doomed.resize(static_cast<size_t>(options_.dying *
                                      static_cast<double>(peers_.size())));
    for (uint32_t index : doomed) {
      Peer& peer = peers_[index];
      peer.alive = false;
      if (peer.finished_at == 0) --unfinished_;
      policy_.RemovePeer(index, /*lost=*/true);
      for (const Link& link : peer.links) {
        peers_[link.peer].picker->RemoveSource(index);
        peers_[link.peer].links[link.place].queue.clear();
      }
    }
  }

  // The origin that gives out no more says who else is there: a peer that has
  // lost half of its links takes new ones.
  void FindOthers(uint32_t index) {
    std::vector<Link>& links = peers_[index].links;
    size_t alive = 0;
    for (const Link& link : links) alive += peers_[link.peer].alive;
    if (2 * alive >= links.size()) return;
    for (; alive < options_.degree; ++alive) {
      const auto other =
          static_cast<uint32_t>(random_.NextBelow(peers_.size()));
      if (other != index && peers_[other].alive) Connect(index, other);
    }
  }

  void Connect(uint32_t a, uint32_t b) {
    for (const Link& link : peers_[a].links) {
      if (link.peer == b) return;
    }
    const size_t place_a = peers_[a].links.size();
    const size_t place_b = peers_[b].links.size();
    peers_[a].links.push_back({b, place_b});
    peers_[b].links.push_back({a, place_a});
    for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
      peers_[from].picker->AddSource(to, /*origin=*/false);
      peers_[from].picker->OnHave(to, peers_[to].picker->have());
    }
  }

  // ---- Asking ----

  void AskSources(uint32_t index) {
    Peer& peer = peers_[index];
    peer.receiving = false;
    if (!peer.alive || peer.finished_at > 0) return;
    const size_t first = random_.NextBelow(peer.links.size() + 1);
    for (size_t i = 0; i < peer.links.size(); ++i) {
      Link& link = peer.links[(first + i) % peer.links.size()];
      if (!peers_[link.peer].alive) continue;
      const PiecePicker::Wants wants = peer.picker->Next(link.peer, now());
      std::vector<uint32_t>& queue = peers_[link.peer].links[link.place].queue;
      for (uint32_t piece : wants.cancel) std::erase(queue, piece);
      queue.insert(queue.end(), wants.pieces.begin(), wants.pieces.end());
    }
    const PiecePicker::Wants wants = peer.picker->Next(kOrigin, now());
    for (uint32_t piece : wants.cancel) std::erase(peer.last_resort, piece);
    peer.any += wants.any;
    peer.last_resort.insert(peer.last_resort.end(), wants.pieces.begin(),
                            wants.pieces.end());
  }

  // ---- Sending ----

  void Send(PiecePicker::Source from, uint32_t to, uint32_t piece) {
    peers_[to].receiving = true;
    transfers_.push_back({from, to, piece});
  }

  double PartOf(uint32_t index) const {
    return static_cast<double>(peers_[index].picker->have().count()) /
           static_cast<double>(options_.pieces);
  }

  // To the peers that have least, until the slot is full.
  void SendFromOrigin() {
    SendSlots slots({.slots = options_.origin_uplink});
    for (uint32_t index : order_) {
      const Peer& peer = peers_[index];
      if (!peer.alive || peer.receiving) continue;
      if (peer.any > 0 || !peer.last_resort.empty()) {
        slots.Ask(index, PartOf(index));
      }
    }
    while (const auto index = slots.Next()) {
      if (!Serve(static_cast<uint32_t>(*index))) slots.Release(*index);
    }
  }

  bool Serve(uint32_t index) {
    Peer& peer = peers_[index];
    if (peer.any > 0) {
      if (const auto piece = policy_.Choose(index); piece.has_value()) {
        --peer.any;
        peer.picker->OnStarted(kOrigin, *piece, now());
        Send(kOrigin, index, *piece);
        return true;
      }
      peer.any = 0;
      peer.picker->OnNoneForYou(kOrigin, now());
      FindOthers(index);
    }
    while (!peer.last_resort.empty()) {
      const uint32_t piece = peer.last_resort.front();
      peer.last_resort.erase(peer.last_resort.begin());
      if (policy_.Grant(index, piece)) {
        Send(kOrigin, index, piece);
        return true;
      }
      peer.picker->OnRefused(kOrigin, piece, now());
    }
    return false;
  }

  // To the one that has least of those that asked and can receive.
  void SendFromPeer(uint32_t index) {
    Peer& peer = peers_[index];
    if (!peer.alive || peer.links.empty()) return;
    if (peer.slow && slot_ % kSlowSlots != index % kSlowSlots) return;
    const size_t first = random_.NextBelow(peer.links.size());
    SendSlots slots({.slots = 1});
    for (size_t i = 0; i < peer.links.size(); ++i) {
      const size_t place = (first + i) % peer.links.size();
      const Link& link = peer.links[place];
      if (link.queue.empty() || peers_[link.peer].receiving) continue;
      slots.Ask(place, PartOf(link.peer));
    }
    const auto place = slots.Next();
    if (!place.has_value()) return;
    Link& link = peer.links[*place];
    Send(index, link.peer, link.queue.front());
    link.queue.erase(link.queue.begin());
  }

  // ---- Arriving ----

  void Arrive() {
    sent_ += transfers_.size();
    for (const Transfer& transfer : transfers_) {
      Peer& peer = peers_[transfer.to];
      if (!peer.picker->OnPiece(transfer.from, transfer.piece, now())) {
        ++wasted_;
        continue;
      }
      policy_.OnHave(transfer.to, transfer.piece);
      for (const Link& link : peer.links) {
        peers_[link.peer].picker->OnHave(transfer.to, transfer.piece);
      }
      if (!peer.picker->done()) continue;
      peer.finished_at = slot_;
      --unfinished_;
      // It leaves those that it asked nothing to send it.
      for (const Link& link : peer.links) {
        peers_[link.peer].links[link.place].queue.clear();
      }
    }
    transfers_.clear();
  }

  // ---- Telling ----

  static double Quantile(std::vector<size_t> slots, double q) {
    if (slots.empty()) return 0;
    std::sort(slots.begin(), slots.end());
    const double place = q * static_cast<double>(slots.size() - 1);
    return static_cast<double>(slots[static_cast<size_t>(place)]);
  }

  SwarmSimulationReport Report() const {
    SwarmSimulationReport report;
    report.options = options_;
    report.bound = static_cast<double>(bound_);
    std::vector<size_t> all, fast;
    for (const Peer& peer : peers_) {
      if (!peer.alive) continue;
      ++report.survivors;
      if (peer.finished_at == 0) continue;
      ++report.finished;
      all.push_back(peer.finished_at);
      if (!peer.slow) fast.push_back(peer.finished_at);
    }
    report.p50 = Quantile(all, 0.5);
    report.p99 = Quantile(all, 0.99);
    report.max = Quantile(all, 1);
    report.fast_p50 = Quantile(fast, 0.5);
    const double pieces = static_cast<double>(options_.pieces);
    report.copies = static_cast<double>(policy_.chosen()) / pieces;
    report.last_resort_copies = static_cast<double>(policy_.granted()) / pieces;
    report.wasted = static_cast<double>(wasted_) /
                    static_cast<double>(std::max<size_t>(sent_, 1));
    return report;
  }

  const SwarmSimulationOptions options_;
  Random random_;
  SeedPolicy policy_;
  const size_t bound_;
  std::vector<Peer> peers_;
  std::vector<uint32_t> order_;  // another one in each slot
  std::vector<Transfer> transfers_;
  size_t slot_ = 0;
  size_t unfinished_ = 0;
  size_t sent_ = 0;
  size_t wasted_ = 0;
};

absl::Status Check(const SwarmSimulationOptions& options) {
  const auto least = [](const char* field, size_t value, size_t bound) {
    return value >= bound
               ? absl::OkStatus()
               : absl::InvalidArgumentError(absl::StrCat(
                     field, ": at least ", bound, " expected, found ", value));
  };
  const auto part = [](const char* field, double value) {
    return value >= 0 && value < 1
               ? absl::OkStatus()
               : absl::InvalidArgumentError(absl::StrCat(
                     field, ": a part in [0, 1) expected, found ", value));
  };
  for (const absl::Status& status :
       {least("peers", options.peers, 1), least("pieces", options.pieces, 1),
        least("degree", options.degree, 1),
        least("origin_uplink", options.origin_uplink, 1),
        least("copies", options.copies, 1),
        least("in_flight", options.in_flight, 1), part("slow", options.slow),
        part("dying", options.dying)}) {
    if (!status.ok()) return status;
  }
  if (options.slot <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("slot: a positive duration expected");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SwarmSimulationReport> RunSwarmSimulation(
    const SwarmSimulationOptions& options) {
  if (const absl::Status status = Check(options); !status.ok()) return status;
  return Simulation(options).Run();
}

std::string SwarmSimulationHeading() {
  return absl::StrFormat(
      "%6s %6s %4s %6s %5s %5s %8s %6s %6s %6s %6s %6s %6s %6s %7s", "peers",
      "pieces", "deg", "uplink", "slow", "dying", "finished", "bound", "p50",
      "p99", "max", "ratio", "copies", "resort", "seconds");
}

std::string SwarmSimulationLine(const SwarmSimulationReport& report) {
  const SwarmSimulationOptions& o = report.options;
  return absl::StrFormat(
      "%6d %6d %4d %5dx %4.0f%% %4.0f%% %7.1f%% %6.0f %6.0f %6.0f %6.0f %6.3f "
      "%6.2f %6.3f %7.1f",
      o.peers, o.pieces, o.degree, o.origin_uplink, 100 * o.slow, 100 * o.dying,
      100.0 * static_cast<double>(report.finished) /
          static_cast<double>(std::max<size_t>(report.survivors, 1)),
      report.bound, report.p50, report.p99, report.max,
      report.max / report.bound, report.copies, report.last_resort_copies,
      report.seconds);
}

}  // namespace koinon::bench
