#ifndef KOINON_DHT_SWARM_PIECE_RARITY_H_
#define KOINON_DHT_SWARM_PIECE_RARITY_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dht/swarm/bitmap.h"

namespace koinon::dht {

// Pieces as bits of words, for loops over those that matter. A value.
using PieceWords = std::vector<uint64_t>;

inline bool HasPiece(const PieceWords& words, uint32_t piece) {
  return (words[piece / 64] >> (piece % 64)) & 1;
}
inline void SetPiece(PieceWords* words, uint32_t piece) {
  (*words)[piece / 64] |= uint64_t{1} << (piece % 64);
}
inline void ClearPiece(PieceWords* words, uint32_t piece) {
  (*words)[piece / 64] &= ~(uint64_t{1} << (piece % 64));
}

// Of the pieces that a fetch lacks, which are asked for, how many sources have
// each, and so which to ask for next: PiecePicker's arithmetic. Not
// thread-safe. Pieces must be some of the content's.
class PieceRarity {
 public:
  // Ties between pieces that are equally rare are drawn by `seed`.
  PieceRarity(const Bitmap& have, uint64_t seed);

  size_t words() const { return missing_.size(); }
  bool missing(uint32_t piece) const { return HasPiece(missing_, piece); }
  bool asked(uint32_t piece) const { return HasPiece(asked_, piece); }

  void Arrived(uint32_t piece) { ClearPiece(&missing_, piece); }
  void SetAsked(uint32_t piece, bool asked);
  // One source more, or one fewer, has it.
  void Gain(uint32_t piece) { ++sources_[piece]; }
  void Lose(uint32_t piece) { --sources_[piece]; }

  // Missing and not asked for.
  size_t open() const;
  // Whether a piece is open that no source has.
  bool AnyUnavailable() const;
  // Open pieces, rarest first, at most `count`: of those that `has` names, or,
  // if it is null, of all; of those that `wanted` says.
  template <typename Wanted>
  std::vector<uint32_t> Rarest(const PieceWords* has, size_t count,
                               Wanted wanted) const;
  // Pieces that are missing and asked for, of those that `has` names, at most
  // `count` of which `wanted` says.
  template <typename Wanted>
  std::vector<uint32_t> Asked(const PieceWords& has, size_t count,
                              Wanted wanted) const;

 private:
  struct Candidate {
    uint64_t rank;
    uint32_t piece;
  };
  uint64_t OpenWord(size_t w) const { return missing_[w] & ~asked_[w]; }
  uint64_t RankOf(uint32_t piece) const {
    return uint64_t{sources_[piece]} << 32 | tie_[piece];
  }
  static void Insert(Candidate candidate, size_t count,
                     std::vector<Candidate>* best);

  PieceWords missing_;
  PieceWords asked_;
  std::vector<uint32_t> sources_;
  std::vector<uint32_t> tie_;
};

template <typename Wanted>
std::vector<uint32_t> PieceRarity::Rarest(const PieceWords* has, size_t count,
                                          Wanted wanted) const {
  std::vector<Candidate> best;  // by rank, ascending
  for (size_t w = 0; w < missing_.size() && count > 0; ++w) {
    uint64_t word = OpenWord(w);
    if (has != nullptr) word &= (*has)[w];
    for (; word != 0; word &= word - 1) {
      const auto piece = static_cast<uint32_t>(64 * w + std::countr_zero(word));
      const uint64_t rank = RankOf(piece);
      if (best.size() == count && rank >= best.back().rank) continue;
      if (wanted(piece)) Insert({rank, piece}, count, &best);
    }
  }
  std::vector<uint32_t> pieces;
  for (const Candidate& candidate : best) pieces.push_back(candidate.piece);
  return pieces;
}

template <typename Wanted>
std::vector<uint32_t> PieceRarity::Asked(const PieceWords& has, size_t count,
                                         Wanted wanted) const {
  std::vector<uint32_t> pieces;
  for (size_t w = 0; w < missing_.size(); ++w) {
    uint64_t word = missing_[w] & asked_[w] & has[w];
    for (; word != 0 && pieces.size() < count; word &= word - 1) {
      const auto piece = static_cast<uint32_t>(64 * w + std::countr_zero(word));
      if (wanted(piece)) pieces.push_back(piece);
    }
  }
  return pieces;
}

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_PIECE_RARITY_H_
