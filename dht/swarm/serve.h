#ifndef KOINON_DHT_SWARM_SERVE_H_
#define KOINON_DHT_SWARM_SERVE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/swarm/content_board.h"
#include "dht/swarm/send_slots.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/byte_buffer.h"

namespace koinon::dht {

// Serves what is on a board: the other end of SwarmFetch. As an origin it gives
// out few copies of each piece (SeedPolicy). Few streams send at once, those
// first whose callers have least (SendSlots). Thread-safe.
class Seeder {
 public:
  struct Options {
    bool is_origin = false;
    size_t copies = 2;        // of each piece, of an origin
    size_t max_streams = 64;  // more: RESOURCE_EXHAUSTED, here and below
    // Of one caller, by its certificate: nobody takes the places of all others.
    size_t max_streams_per_caller = 16;
    size_t max_wants = 64;  // pieces asked for and not sent, on a stream
    size_t block_bytes = 256 << 10;
    SendSlots::Options slots = {};
    // New pieces are told to a stream together, at most so often.
    absl::Duration have_every = absl::Milliseconds(50);
    // A stream on which nothing has moved for at least so long is ended, and
    // one that has not said what it wants after a tenth of it.
    absl::Duration idle = absl::Minutes(2);
  };
  Seeder(ContentBoard* board, Options options);
  // No stream may be open any more.
  ~Seeder();

  // Who fetches, as its certificate says. Its address and whether it exchanges
  // with other sites are its own claim, in OpenContent.
  struct Caller {
    // To count by; zero in plaintext, where everybody is the node that they
    // claim to be.
    Key member = {};
    Key node = {};  // zero: none, which can serve nobody
    std::string site = {};
  };
  // Fetch. `allowed`: what the policy says of the caller. The reactor deletes
  // itself. It takes FetchRequests and gives FetchReplies, as bytes: see
  // reply_bytes.h.
  using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;
  Reactor* Serve(const absl::Status& allowed, Caller caller);
  // Ends the streams that are open.
  void Stop();

  struct Counts {
    int64_t streams = 0;  // open
    int64_t pieces = 0;   // sent whole
    int64_t last_resort = 0;
    int64_t refused = 0;
  };
  Counts counts() const;

 private:
  struct State;
  class Stream;
  const std::shared_ptr<State> state_;  // second owners: the streams
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SERVE_H_
