#ifndef KOINON_DHT_TRANSPORT_SIMULATED_H_
#define KOINON_DHT_TRANSPORT_SIMULATED_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/transport/transport.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// A network inside one thread, for thousands of nodes: messages take seeded
// times, get lost and overtake each other; nodes crash, and the network splits
// and heals. Time is simulated and jumps from event to event. The same seed and
// calls give the same events in the same order: log_digest() is over all of
// them. Not thread-safe.
class SimulatedNetwork {
 public:
  struct Options {
    uint64_t seed = 0;
    // One way, exponentially distributed about this mean, beside a fixed part.
    absl::Duration mean_delay = absl::Milliseconds(20);
    absl::Duration min_delay = absl::Milliseconds(5);
    double loss = 0;  // of each message, [0, 1)
  };
  explicit SimulatedNetwork(Options options);
  ~SimulatedNetwork();

  // What answers at an address. CANCELLED is silence; another error is sent
  // back.
  using Answer = std::function<absl::StatusOr<v1::AskReply>(
      const Contact& from, const v1::AskRequest& question)>;

  // A host on the network. Its Loop and Transport live as long as the network.
  class Host {
   public:
    virtual ~Host() = default;
    virtual Loop* loop() = 0;
    virtual Transport* transport() = 0;
    virtual const Contact& contact() const = 0;
    // Until it is set, and after a crash, nothing answers.
    virtual void Serve(Answer answer) = 0;
    // From now on nothing it sends arrives, nothing is answered, and none of
    // its timers run. For ever: who comes back is another host.
    virtual void Crash() = 0;
    virtual bool crashed() const = 0;
  };
  // `self.address` must be free (a crashed host's is) or empty: a client, which
  // asks and cannot be asked.
  Host* AddHost(const Contact& self);

  // Hosts of different groups hear nothing of each other; zero for all: healed.
  void SetGroup(Host* host, int group);

  absl::Time Now() const;
  // Runs events until none is left before `until`, and is then at `until`.
  void RunUntil(absl::Time until);
  void RunFor(absl::Duration duration) { RunUntil(Now() + duration); }
  // Runs events until `done` holds, or `limit` has passed; says whether it
  // does.
  bool RunUntilTrue(const std::function<bool()>& done, absl::Duration limit);

  // Runs on no host's loop: for the simulation's own script.
  void After(absl::Duration delay, std::function<void()> run);

  int64_t messages() const;        // sent so far: questions and answers
  std::string log_digest() const;  // SHA-256 over every event so far, in hex

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_SIMULATED_H_
