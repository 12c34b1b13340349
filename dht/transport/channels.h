#ifndef KOINON_DHT_TRANSPORT_CHANNELS_H_
#define KOINON_DHT_TRANSPORT_CHANNELS_H_

#include <cstddef>
#include <list>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "grpcpp/grpcpp.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {

// Channels to nodes, by address, a bounded number of them: whoever was called
// least lately is let go (calls that are out go on). Thread-safe.
class Channels {
 public:
  struct Options {
    // Null: plaintext.
    std::shared_ptr<grpc::ChannelCredentials> credentials;
    // This address is called by its own name; all others by kNodeDnsName, and
    // whoever calls checks who answers.
    std::string coordinator;
    size_t max_channels = 256;
  };
  struct Link {
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<v1::PeerService::Stub> stub;
  };

  explicit Channels(Options options);

  // The channel to `address` ("host:port"); connects at its first call. One
  // that has failed is not given out again: it answers with its old failure for
  // as long as its own back-off lasts.
  std::shared_ptr<Link> To(const std::string& address);
  // A call over `link` could not be made. The next To opens another.
  void Drop(const std::string& address, const Link* link);

  size_t size() const;

 private:
  struct Entry {
    std::string address;
    std::shared_ptr<Link> link;  // and the calls that use it
  };
  std::shared_ptr<Link> Open(const std::string& address) const;

  const Options options_;
  mutable Mutex mutex_;
  std::list<Entry> by_use_ ABSL_GUARDED_BY(mutex_);  // the last used first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> entries_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_CHANNELS_H_
