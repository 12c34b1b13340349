#ifndef KOINON_DHT_SWARM_ORIGIN_PATIENCE_H_
#define KOINON_DHT_SWARM_ORIGIN_PATIENCE_H_

#include <cstddef>

#include "absl/time/time.h"

namespace koinon::dht {

// When an origin that gives out no more may be asked again, and for what: first
// for any piece, then for a certain one; and where that is all that comes, for
// more and more of them, until a peer gives something. PiecePicker's; pure. A
// value.
class OriginPatience {
 public:
  // `patience`: how long nothing has come before it is asked again.
  explicit OriginPatience(absl::Duration patience)
      : patience_(patience), wait_(patience) {}

  // It has said that it gives out no more.
  bool dry() const { return dry_; }

  enum class Step {
    kWait,
    kAny,
    kCertain,  // as many pieces at a time as certain() says
  };
  // Of an origin that is dry, and of which no any is under way. `starving`:
  // nothing is on its way from anybody, and nothing came for the patience.
  // `unavailable`: there is a piece that no peer has. `alone`: nobody else can
  // be reached at all; then waits are shorter.
  Step Next(absl::Time now, bool starving, bool unavailable,
            bool alone = false);
  size_t certain() const { return lonely_ > 0 ? lonely_ : 1; }
  // When Next may say something else.
  absl::Time deadline(bool alone = false) const {
    return stepped_ + Wait(alone);
  }
  // The patience of one who is alone.
  static absl::Duration Alone(absl::Duration patience) { return patience / 4; }

  void OnNone(absl::Time now, bool starving);
  void OnRefused(absl::Time now);
  // A piece of its own choice has begun to arrive.
  void OnStarted() { dry_ = false; }
  // A piece that it was asked for as a last resort; at most `most` at a time.
  void OnLastResort(size_t most);
  void OnPeerGave();

 private:
  absl::Duration Wait(bool alone) const {
    return alone ? Alone(patience_) : wait_;
  }

  absl::Duration patience_;
  bool dry_ = false;
  bool probed_ = false;  // for any, since a peer gave something
  size_t lonely_ = 0;  // last resorts at a time, if nobody else gives anything
  absl::Duration wait_;
  absl::Time stepped_ = absl::InfinitePast();  // asked though dry, or answered
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_ORIGIN_PATIENCE_H_
