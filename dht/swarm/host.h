#ifndef KOINON_DHT_SWARM_HOST_H_
#define KOINON_DHT_SWARM_HOST_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "dht/key.h"
#include "dht/swarm/content_board.h"
#include "dht/swarm/liar_book.h"

namespace grpc {
class AuthContext;
class Channel;
}  // namespace grpc

namespace koinon::dht {

// What fetching and keeping contents needs of the process that it runs in:
// dht::Peer is one. Thread-safe.
class SwarmHost {
 public:
  virtual ~SwarmHost() = default;

  // What this process serves; lives as long as this.
  virtual ContentBoard* board() = 0;
  // Who has lied to it; lives as long as this.
  virtual LiarBook* liars() = 0;
  // Without an address if it serves nobody.
  virtual Contact self() const = 0;
  // Whether it exchanges pieces with nodes of other sites that do so too.
  virtual bool cross_site() const = 0;
  virtual const Clock& clock() const = 0;

  // A channel to a node, shared with others; callers check who answers.
  virtual std::shared_ptr<grpc::Channel> ChannelTo(
      const std::string& address) = 0;
  // OK if the peer of this call is the contact, UNAUTHENTICATED otherwise; and
  // as MayFetchFrom of where it is by its own certificate.
  virtual absl::Status CheckIs(const Contact& contact,
                               const grpc::AuthContext& context) const = 0;
  // OK if the policy lets model bytes come from there; PERMISSION_DENIED says
  // why not.
  virtual absl::Status MayFetchFrom(const Contact& contact) const = 0;

  // Who serves the content whose file has this digest; `done` may run on any
  // thread, and does run, once.
  virtual void FindProviders(
      const Key& content, size_t count,
      std::function<void(absl::StatusOr<std::vector<Contact>>)> done) = 0;
  // Announces, or no longer, that this process serves it. What is most
  // important is announced where others do not remember all that this process
  // serves.
  virtual void Provide(const Key& content, int64_t importance = 0) = 0;
  virtual void StopProviding(const Key& content) = 0;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_HOST_H_
