#ifndef KOINON_DHT_SWARM_FETCHER_H_
#define KOINON_DHT_SWARM_FETCHER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/digest.h"
#include "dht/key.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/host.h"
#include "dht/swarm/piece_picker.h"
#include "proto/dht.pb.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// Fetches one content into a file from whoever has it, and serves what it has
// got meanwhile: by Fetch streams to the peers it was told of, to those that
// these name, and to the providers that the DHT knows. A peer that sends a
// wrong leaf is banned, also from later fetches (SwarmHost::liars); one that
// stays silent is dropped. The origin gives what nobody else has.
//
//   SwarmFetch fetch(peer, options);
//   ABSL_RETURN_IF_ERROR(fetch.Run());
//
// Whoever calls puts the file on the board, so that it is served while it
// grows. Memory: at most 64 MiB. One thread runs it; it may be cancelled from
// another.
class SwarmFetch {
 public:
  struct Options {
    v1::Content content;
    Digest file_digest;  // for the DHT's providers
    std::shared_ptr<ContentFile> file;
    std::vector<Contact> peers;     // without the origin
    std::optional<Contact> origin;  // the coordinator
    size_t max_sources = 10;
    PiecePicker::Options picker;  // pieces, their size, seed: filled in
    // Nothing has come from anybody for so long: given up, UNAVAILABLE.
    absl::Duration patience = absl::Seconds(60);
    // Given up at once when all that are known have refused, or have said that
    // they have nothing.
    bool wait_for_sources = true;
    // Asks the DHT for more sources this often while there are too few.
    absl::Duration rediscover = absl::Seconds(5);
    // A source that owes pieces and has sent nothing for so long is dropped.
    absl::Duration silence = absl::Seconds(15);
    // The origin hears of new pieces together, at most so often.
    absl::Duration tell_every = absl::Milliseconds(50);
    // Called with the bytes that are there, and of how many; from its threads.
    std::function<void(int64_t have, int64_t size)> on_progress;
    // Asked now and then by Run; true ends it. May be empty.
    std::function<bool()> cancelled;
  };

  // `host` must outlive it.
  SwarmFetch(SwarmHost* host, Options options);
  ~SwarmFetch();

  // Until every piece is there. UNAVAILABLE, saying who was asked and why
  // nothing came; RESOURCE_EXHAUSTED when the disk is full; CANCELLED. What has
  // come stays in the file and is served for as long as it is on the board.
  absl::Status Run();
  void Cancel();

  // What has moved, and who lied: by node id, in hex (or by address, of one
  // whose id is not known).
  v1::SwarmTraffic traffic() const;
  std::vector<std::string> liars() const;

 private:
  class State;
  const std::shared_ptr<State> state_;  // second owners: the streams
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_FETCHER_H_
