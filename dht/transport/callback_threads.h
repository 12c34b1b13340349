#ifndef KOINON_DHT_TRANSPORT_CALLBACK_THREADS_H_
#define KOINON_DHT_TRANSPORT_CALLBACK_THREADS_H_

#include <memory>

#include "grpcpp/grpcpp.h"

namespace koinon::dht {

// Keeps gRPC's threads for callbacks alive. gRPC 1.51 joins them when the last
// channel or server that used them goes; if that happens in a callback, a
// thread waits for itself. Whoever lets go of channels in callbacks holds one
// of these, and destroys it on a thread of its own.
class CallbackThreads {
 public:
  CallbackThreads();

 private:
  std::shared_ptr<grpc::Channel> channel_;  // and gRPC's calls
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_TRANSPORT_CALLBACK_THREADS_H_
