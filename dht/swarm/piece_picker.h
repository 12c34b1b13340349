#ifndef KOINON_DHT_SWARM_PIECE_PICKER_H_
#define KOINON_DHT_SWARM_PIECE_PICKER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "dht/swarm/bitmap.h"

namespace koinon::dht {

// Which piece to fetch from whom: rarest first (ties drawn by seed, so that
// peers do not all want the same), a bounded number in flight from each source,
// and an endgame in which the last pieces are asked of several. Pure: told
// `now`; the same calls give the same choices. Not thread-safe.
//
// Sources are numbers that the caller gives out. The origin chooses what it
// sends, so that its copies are few: it is asked for "any", in numbers. Once it
// gives out no more, it is asked again only by who gets nothing from anybody:
// first for any, then, as a last resort, for one certain piece, and, where that
// was all that came, for more and more of them.
//
// A call costs time in the order of the pieces, divided by 64 where the source
// has none that is wanted.
class PiecePicker {
 public:
  struct Options {
    size_t pieces = 0;
    uint64_t seed = 0;
    // How large pieces are: what is in flight from each source follows from it,
    // unless it is given. Many keep a long line full; few leave more to be
    // chosen late, when it is known what is rare. From a slow source, fewer.
    int64_t piece_bytes = 512 << 10;
    size_t in_flight_per_source = 0;  // 0: 2 MiB, but from 2 to 32 pieces
    size_t endgame_pieces = 3;  // missing; then each may be asked of several
    size_t endgame_copies = 2;
    // A piece that has not come for so long may be asked of another too; sooner
    // where pieces use to come much faster, and where another has no others.
    absl::Duration piece_patience = absl::Seconds(8);
    // The origin has said that it gives out no more: it is asked again when
    // nothing is on its way, and nothing came, for so long.
    absl::Duration last_resort_patience = absl::Seconds(2);
    absl::Duration ban = absl::Seconds(30);
    int strikes = 3;  // bans before a source is never asked again
  };
  using Source = uint64_t;

  // `have`: of as many pieces as `options` says.
  PiecePicker(Options options, Bitmap have, absl::Time now);
  PiecePicker(PiecePicker&&) noexcept;
  ~PiecePicker();

  // A source that was banned stays so when it is removed and comes back.
  void AddSource(Source source, bool origin);
  // Gone: what was in flight from it is wanted again.
  void RemoveSource(Source source);
  // Reports about sources that are not there, or pieces that are none, are
  // ignored, here and below.
  void OnHave(Source source, const Bitmap& have);
  void OnHave(Source source, uint32_t piece);

  // Sources that may give way to others: nothing is on its way from anybody,
  // nothing came for a while, and these have nothing that is missing.
  std::vector<Source> Idle(absl::Time now) const;

  // Whether nobody but origins can be reached, as far as is known: connections
  // are refused, and nobody else is known. An origin that gives out no more is
  // asked again sooner then.
  void SetAlone(bool alone);

  // What to ask of `source` now; counted as asked. Empty: nothing.
  struct Wants {
    std::vector<uint32_t> pieces;  // rarest first
    bool last_resort = false;      // of an origin: these pieces and no others
    uint32_t any = 0;              // of an origin: so many of its choice
    std::vector<uint32_t> cancel;  // came from elsewhere
  };
  Wants Next(Source source, absl::Time now);

  // The piece is here, verified. False: it was here before (wasted).
  bool OnPiece(Source source, uint32_t piece, absl::Time now);
  // The piece begins to arrive: its patience begins anew. What an origin has
  // chosen need not be asked of anybody else.
  void OnStarted(Source source, uint32_t piece, absl::Time now);
  // The source will not send it, or the transfer broke off. It is not asked for
  // this piece again before it says that it has it.
  void OnRefused(Source source, uint32_t piece, absl::Time now);
  // The origin gives out no more for now: no any that was asked is under way.
  void OnNoneForYou(Source source, absl::Time now);
  // It sent bytes that are not the piece's: banned for a while.
  void OnLied(Source source, absl::Time now);
  bool banned(Source source, absl::Time now) const;
  bool banned_for_good(Source source) const;

  const Bitmap& have() const;
  bool done() const { return have().full(); }
  // When Next may answer differently though nothing was reported; after `now`.
  absl::Time next_deadline(absl::Time now) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_PIECE_PICKER_H_
