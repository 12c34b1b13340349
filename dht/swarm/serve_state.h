#ifndef KOINON_DHT_SWARM_SERVE_STATE_H_
#define KOINON_DHT_SWARM_SERVE_STATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "dht/swarm/origin_book.h"
#include "dht/swarm/send_slots.h"
#include "dht/swarm/serve.h"
#include "dht/swarm/spare_blocks.h"
#include "dht/swarm/upload.h"

namespace koinon::dht {

// The inner part of Seeder: the streams that are open, what they share, and the
// thread that looks after all of them. Thread-safe.
struct Seeder::State {
  State(ContentBoard* board, Options options)
      : board(board),
        options(options),
        book(options.copies),
        slots(options.slots),
        // Who has no slot sends no blocks.
        spare(std::make_shared<SpareBlocks>(options.slots.slots)) {}

  void Pulse();
  std::vector<std::shared_ptr<Stream>> AllStreams();
  absl::Status CheckRoomFor(const Caller& caller)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status Enter(uint64_t id, std::shared_ptr<Stream> stream);
  void Leave(uint64_t id, const Upload* upload);
  // Some stream has pieces to tell of.
  void WantPulse();
  // Changes who has or wants a slot, and tells the streams that get one, but
  // for `asking`: whether that one does.
  bool ChangeSlots(const std::function<void(SendSlots*)>& change,
                   uint64_t asking = 0);

  ContentBoard* const board;
  const Options options;
  OriginBook book;

  Mutex mutex;
  CondVar wake;     // there is something to do
  CondVar stopped;  // and nothing else
  std::map<uint64_t, std::shared_ptr<Stream>> streams ABSL_GUARDED_BY(mutex);
  bool pulse_wanted ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  Counts past ABSL_GUARDED_BY(mutex);  // of streams that are over
  uint64_t next_id ABSL_GUARDED_BY(mutex) = 1;
  std::thread pulse;

  Mutex slots_mutex;
  SendSlots slots ABSL_GUARDED_BY(slots_mutex);

  const std::shared_ptr<SpareBlocks> spare;  // second owners: blocks under way
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SERVE_STATE_H_
