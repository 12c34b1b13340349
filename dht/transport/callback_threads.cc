#include "dht/transport/callback_threads.h"

#include "base/mutex.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::dht {

CallbackThreads::CallbackThreads()
    // Without credentials: a channel that fails every call and connects to
    // nobody. Its first call makes it a user of the threads.
    : channel_(grpc::CreateChannel("", nullptr)) {
  struct Ended {
    Mutex mutex;
    CondVar changed;
    bool yes ABSL_GUARDED_BY(mutex) = false;
  } ended;
  const auto stub = v1::PeerService::NewStub(channel_);
  grpc::ClientContext context;
  const v1::NodeStatusRequest request;
  v1::NodeStatus reply;
  stub->async()->GetNodeStatus(&context, &request, &reply,
                               [&ended](grpc::Status) {
                                 MutexLock lock(&ended.mutex);
                                 ended.yes = true;
                                 ended.changed.SignalAll();
                               });
  MutexLock lock(&ended.mutex);
  while (!ended.yes) ended.changed.Wait(&ended.mutex);
}

}  // namespace koinon::dht
