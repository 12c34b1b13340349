#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "base/random.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/piece_picker.h"

namespace koinon::dht {
namespace {

constexpr PiecePicker::Source kOrigin = 99;
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

absl::Time At(double seconds) { return kStart + absl::Seconds(seconds); }

Bitmap All(size_t size) {
  Bitmap bitmap(size);
  for (size_t i = 0; i < size; ++i) bitmap.Set(i);
  return bitmap;
}

// A swarm around one picker: peers with parts of the content that come and go,
// serve at their own pace, and may lie.
class Churn {
 public:
  Churn(uint64_t seed, const PiecePicker::Options& options)
      : random_(seed),
        options_(options),
        picker_(options, Bitmap(options.pieces), kStart) {
    for (uint64_t id = 1; id <= 8; ++id) Join(id);
    if (random_.NextBelow(2) == 0) picker_.AddSource(kOrigin, true);
    with_origin_ = IsOriginThere();
  }

  // False if it did not end.
  bool Run() {
    for (int step = 0; step < 200000 && !picker_.done(); ++step) {
      now_ += absl::Milliseconds(1 + random_.NextBelow(40));
      if (random_.NextBelow(50) == 0) Change();
      for (auto& [id, peer] : peers_) Ask(id);
      if (with_origin_) AskOrigin();
      Serve();
    }
    return picker_.done();
  }

  const PiecePicker& picker() const { return picker_; }
  const std::vector<std::tuple<uint64_t, uint32_t>>& log() const {
    return log_;
  }
  absl::Time now() const { return now_; }

 private:
  struct Peer {
    Bitmap has;
    std::vector<uint32_t> queue = {};
    bool liar = false;
    uint64_t pace = 1;  // one answer in so many steps
  };

  bool IsOriginThere() { return picker_.Next(kOrigin, kStart).any > 0; }

  void Join(uint64_t id) {
    Peer& peer = peers_[id];
    peer = Peer{.has = Bitmap(options_.pieces),
                .liar = id == 3,
                .pace = 1 + random_.NextBelow(20)};
    for (uint32_t i = 0; i < options_.pieces; ++i) {
      // Between them two honest ones always have all.
      if (random_.NextBelow(3) == 0 || id == 1 + i % 2) peer.has.Set(i);
    }
    picker_.AddSource(id, false);
    picker_.OnHave(id, peer.has);
  }

  void Change() {
    const uint64_t id = 3 + random_.NextBelow(6);
    if (peers_.erase(id) > 0) {
      picker_.RemoveSource(id);
    } else {
      Join(id);
    }
  }

  void Ask(uint64_t id) {
    Peer& peer = peers_[id];
    const auto wants = picker_.Next(id, now_);
    for (const uint32_t piece : wants.cancel) std::erase(peer.queue, piece);
    EXPECT_EQ(wants.any, 0u);
    for (const uint32_t piece : wants.pieces) {
      EXPECT_FALSE(picker_.have().Has(piece));
      EXPECT_TRUE(peer.has.Has(piece));
      EXPECT_EQ(std::count(peer.queue.begin(), peer.queue.end(), piece), 0);
      peer.queue.push_back(piece);
      log_.push_back({id, piece});
    }
    if (!wants.pieces.empty()) {
      EXPECT_FALSE(picker_.banned(id, now_));
      EXPECT_LE(peer.queue.size(), options_.in_flight_per_source);
    }
  }

  void AskOrigin() {
    const auto wants = picker_.Next(kOrigin, now_);
    EXPECT_LE(wants.any, options_.in_flight_per_source);
    for (const uint32_t piece : wants.pieces) {
      EXPECT_TRUE(wants.last_resort);
      picker_.OnRefused(kOrigin, piece, now_);
    }
    if (wants.any > 0) picker_.OnNoneForYou(kOrigin, now_);
  }

  void Serve() {
    for (auto& [id, peer] : peers_) {
      if (peer.queue.empty() || random_.NextBelow(peer.pace) != 0) continue;
      const uint32_t piece = peer.queue.front();
      peer.queue.erase(peer.queue.begin());
      if (peer.liar) {
        picker_.OnLied(id, now_);
        peer.queue.clear();
      } else if (random_.NextBelow(30) == 0) {
        picker_.OnRefused(id, piece, now_);
        picker_.OnHave(id, piece);  // it has it again
      } else {
        const bool wanted = !picker_.have().Has(piece);
        EXPECT_EQ(picker_.OnPiece(id, piece, now_), wanted);
      }
    }
  }

  Random random_;
  const PiecePicker::Options options_;
  PiecePicker picker_;
  std::map<uint64_t, Peer> peers_;
  bool with_origin_ = false;
  absl::Time now_ = kStart;
  std::vector<std::tuple<uint64_t, uint32_t>> log_;
};

TEST(PiecePickerPropertyTest, RandomSchedules_AlwaysEnd) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const PiecePicker::Options options = {
        .pieces = 1 + random.NextBelow(150),
        .seed = seed,
        .in_flight_per_source = 1 + random.NextBelow(5),
        .endgame_pieces = random.NextBelow(5)};
    Churn churn(seed, options);
    EXPECT_TRUE(churn.Run());
  }
}

TEST(PiecePickerPropertyTest, SameSeed_AsksTheSame) {
  Churn a(7, {.pieces = 100, .seed = 7, .in_flight_per_source = 4});
  Churn b(7, {.pieces = 100, .seed = 7, .in_flight_per_source = 4});
  EXPECT_TRUE(a.Run());
  EXPECT_TRUE(b.Run());
  EXPECT_EQ(a.log(), b.log());
}

TEST(PiecePickerPropertyTest, SteadySources_NoPieceIsAskedForTwice) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    PiecePicker picker({.pieces = 120, .seed = seed, .endgame_pieces = 0},
                       Bitmap(120), kStart);
    for (uint64_t id = 1; id <= 6; ++id) {
      picker.AddSource(id, /*origin=*/false);
      picker.OnHave(id, All(120));
    }
    std::map<uint64_t, std::vector<uint32_t>> queues;
    std::vector<int> asked(120);
    for (double second = 0; !picker.done(); ++second) {
      ASSERT_LT(second, 40);
      for (uint64_t id = 1; id <= 6; ++id) {
        for (const uint32_t piece : picker.Next(id, At(second)).pieces) {
          EXPECT_EQ(++asked[piece], 1);
          queues[id].push_back(piece);
        }
      }
      for (auto& [id, queue] : queues) {
        if (queue.empty()) continue;
        picker.OnPiece(id, queue.front(), At(second + 1));
        queue.erase(queue.begin());
      }
    }
  }
}

}  // namespace
}  // namespace koinon::dht
