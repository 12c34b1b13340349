#ifndef KOINON_DHT_TRANSPORT_TRANSPORT_H_
#define KOINON_DHT_TRANSPORT_TRANSPORT_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// The one thread (or strand) that a node lives on, and its time. Everything a
// node does happens in functions that its loop runs, one after the other.
class Loop {
 public:
  virtual ~Loop() = default;
  virtual absl::Time Now() const = 0;
  // Runs `run` on the loop once `delay` has passed (zero: soon). Runs it never
  // if the loop ends before.
  virtual void After(absl::Duration delay, std::function<void()> run) = 0;
};

// Bounded questions to other nodes. Real: gRPC. Simulated: a seeded network.
class Transport {
 public:
  virtual ~Transport() = default;

  using Done = std::function<void(absl::StatusOr<v1::AskReply>)>;
  // Asks the node at `to.address` and runs `done` on the loop, exactly once, at
  // the latest after `deadline`: with its answer, or UNAVAILABLE,
  // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED (it has too much to do),
  // UNAUTHENTICATED (over TLS: whoever answered is not `to.id`). A zero `to.id`
  // takes whoever is there: for the first contact. `question.sender` is filled
  // in by the transport; `reply.sender` is what was verified. `done` never
  // runs inside Ask.
  virtual void Ask(const Contact& to, v1::AskRequest question,
                   absl::Duration deadline, Done done) = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_TRANSPORT_H_
