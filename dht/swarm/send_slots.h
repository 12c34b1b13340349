#ifndef KOINON_DHT_SWARM_SEND_SLOTS_H_
#define KOINON_DHT_SWARM_SEND_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>

#include "absl/time/time.h"

namespace koinon::dht {

// Who may send a piece now, of many streams that share an uplink: few at a
// time, so that whole pieces arrive early and are passed on, and the receiver
// that has least first, so that nobody falls behind because others are asked
// more often. Who has waited long goes before all others. A slot whose receiver
// takes nothing is given to another. Pure: told how time goes by. Not
// thread-safe.
class SendSlots {
 public:
  struct Options {
    size_t slots = 4;
    // A slot on which nothing has moved for so long is lost; who has waited for
    // so long is next.
    absl::Duration patience = absl::Seconds(2);
  };
  explicit SendSlots(Options options) : options_(options) {}

  using Stream = uint64_t;

  // `stream` has a piece to send, to a receiver that has such a part of the
  // content, in [0, 1]. It waits until Next names it; asking anew only says
  // what the receiver has by now. Ignored of one that has a slot.
  void Ask(Stream stream, double has);
  // Gives a free slot to the one that is next; none if none is free, or nobody
  // waits.
  std::optional<Stream> Next();
  // Something went out on it.
  void OnMoved(Stream stream);
  // It needs no slot: its piece is over, or it has gone. It does not wait.
  void Release(Stream stream);
  // So much time has gone by since the last call.
  void Pass(absl::Duration passed);

  size_t taken() const { return holders_.size(); }
  size_t waiting() const { return waiting_.size(); }

 private:
  struct Waiting {
    uint64_t turn = 0;  // in the order of asking
    double has = 0;
    absl::Duration waited;
  };
  struct Holder {
    bool moved = true;  // since the last Pass
    absl::Duration idle;
  };
  bool GoesBefore(const Waiting& a, const Waiting& b) const;

  const Options options_;
  std::map<Stream, Waiting> waiting_;
  uint64_t turns_ = 0;
  std::map<Stream, Holder> holders_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SEND_SLOTS_H_
