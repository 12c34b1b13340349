#ifndef KOINON_COORDINATOR_SERVICE_WATCH_RPC_H_
#define KOINON_COORDINATOR_SERVICE_WATCH_RPC_H_

#include "coordinator/engine/engine.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.pb.h"

namespace koinon::coordinator {

// ClientService.WatchJob: a job's events until it ends. A client that reads
// slowly misses progress events first; one that does not read is cut off.
// The reactor deletes itself when the stream is over.
grpc::ServerWriteReactor<v1::JobEvent>* StartWatch(
    Engine* engine, const v1::WatchJobRequest& request);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_WATCH_RPC_H_
