#include "dht/swarm/piece_rarity.h"

#include <algorithm>

#include "base/random.h"

namespace koinon::dht {

PieceRarity::PieceRarity(const Bitmap& have, uint64_t seed)
    : missing_(have.size() / 64 + 1),
      asked_(missing_.size()),
      sources_(have.size()),
      tie_(have.size()) {
  for (uint32_t i = 0; i < have.size(); ++i) {
    if (!have.Has(i)) SetPiece(&missing_, i);
    tie_[i] = static_cast<uint32_t>(RandomAt(seed, i));
  }
}

void PieceRarity::SetAsked(uint32_t piece, bool asked) {
  if (asked) {
    SetPiece(&asked_, piece);
  } else {
    ClearPiece(&asked_, piece);
  }
}

size_t PieceRarity::open() const {
  size_t count = 0;
  for (size_t w = 0; w < missing_.size(); ++w) {
    count += std::popcount(OpenWord(w));
  }
  return count;
}

bool PieceRarity::AnyUnavailable() const {
  for (size_t w = 0; w < missing_.size(); ++w) {
    for (uint64_t word = OpenWord(w); word != 0; word &= word - 1) {
      if (sources_[64 * w + std::countr_zero(word)] == 0) return true;
    }
  }
  return false;
}

void PieceRarity::Insert(Candidate candidate, size_t count,
                         std::vector<Candidate>* best) {
  if (best->size() == count) best->pop_back();
  const auto place = std::upper_bound(
      best->begin(), best->end(), candidate,
      [](const Candidate& a, const Candidate& b) { return a.rank < b.rank; });
  best->insert(place, candidate);
}

}  // namespace koinon::dht
