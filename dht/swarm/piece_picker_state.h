#ifndef KOINON_DHT_SWARM_PIECE_PICKER_STATE_H_
#define KOINON_DHT_SWARM_PIECE_PICKER_STATE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "absl/time/time.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/origin_patience.h"
#include "dht/swarm/piece_picker.h"
#include "dht/swarm/piece_rarity.h"

namespace koinon::dht {

// The inner part of PiecePicker: what is asked of whom and has become late, and
// what to ask next.
struct PiecePicker::State {
  struct Request {
    uint32_t piece = 0;
    absl::Time since;  // when it was asked for first
    absl::Time asked;  // what its patience counts from
    bool last_resort = false;
    bool late = false;  // others may be asked
  };

  struct SourceState {
    bool origin = false;
    PieceWords has;  // not of an origin: it has all
    std::vector<Request> requests;
    std::vector<uint32_t> cancel;
    size_t window = 0;  // requests that it may have

    // Of an origin.
    uint32_t any = 0;  // asked for and not begun
    OriginPatience patience{absl::ZeroDuration()};
  };

  // The requests for a piece that are not late.
  struct Flight {
    uint32_t on_time = 0;
    absl::Time asked;  // the last one
  };

  // What is known of a source whether or not it is there.
  struct Record {
    int strikes = 0;
    absl::Time until;
  };

  // A request that may become late; in the order of `asked`.
  struct Watch {
    Source source;
    uint32_t piece;
    absl::Time asked;
  };

  State(Options given, Bitmap given_have, absl::Time now);

  size_t Missing() const { return options.pieces - have.count(); }

  // ---- Requests ----

  // A piece came, so long after it was asked for.
  void Learn(absl::Duration took);
  void Ask(Source id, SourceState* source, uint32_t piece, absl::Time now,
           bool last_resort);
  void Ask(Source id, SourceState* source, const Request& request);
  // One request fewer that is on its way and not late.
  void NoLongerOnTime(uint32_t piece);
  static Request* FindRequest(SourceState* source, uint32_t piece);
  // False if there was none.
  bool Drop(SourceState* source, uint32_t piece);
  void DropAll(SourceState* source);
  // The request that is watched, if it is still under way and on time.
  Request* Watched(const Watch& watch);
  // Requests that have become late; forgets those that have ended.
  void Expire(absl::Time now);

  // ---- Choices ----

  static bool Asked(const SourceState& source, uint32_t piece);
  // Pieces that nobody has been asked for, or not lately; of all, or of those
  // that `has` names.
  std::vector<uint32_t> Rarest(const PieceWords* has, const SourceState& source,
                               size_t count) const;
  // Pieces that others have been asked for already: the last ones, and those
  // that come slowly.
  std::vector<uint32_t> Repeat(const SourceState& source, size_t count,
                               absl::Time now) const;
  void AskPeer(Source id, SourceState* source, absl::Time now, Wants* wants);
  void AskOrigin(Source id, SourceState* source, absl::Time now, Wants* wants);
  // Nothing is on its way.
  bool Starving(absl::Time now) const;
  absl::Duration LastResortPatience() const;
  // A piece came; from an origin, or from a peer.
  void TellOrigins(Source from, bool last_resort);

  // ---- Sources ----

  SourceState* Find(Source id);
  // Whether what it has is counted among what can be fetched.
  bool Counted(Source id) const;
  void Gains(Source id, SourceState* source, uint32_t piece);
  void Loses(Source id, SourceState* source, uint32_t piece);
  void LosesAll(Source id, SourceState* source);

  const Options options;
  Bitmap have;
  PieceRarity rarity;  // asked: on its way, and not late; sources but origins
  std::vector<Flight> flights;  // of each piece
  size_t on_time = 0;           // requests that are not late
  std::map<Source, SourceState> sources;
  std::map<Source, Record> records;  // of liars
  std::deque<Watch> watches;
  absl::Duration typical;  // from request, or beginning, to arrival
  absl::Duration late_after = options.piece_patience;
  absl::Duration slow_after = options.piece_patience;
  absl::Time last_progress;
  bool alone = false;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_PIECE_PICKER_STATE_H_
