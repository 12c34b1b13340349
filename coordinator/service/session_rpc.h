#ifndef KOINON_COORDINATOR_SERVICE_SESSION_RPC_H_
#define KOINON_COORDINATOR_SERVICE_SESSION_RPC_H_

#include "coordinator/engine/engine.h"
#include "coordinator/service/identity.h"
#include "grpcpp/grpcpp.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {

// WorkerService.Session: one worker's long-lived stream. Reads one message at a
// time and hands it to the engine; the next is read when the engine is done
// with it, so that no worker can make the engine's queue grow. The reactor
// deletes itself when the stream is over. `engine` must outlive the server.
using SessionReactor =
    grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>;
SessionReactor* StartSession(Engine* engine, const AccessPolicy* policy,
                             uint64_t session,
                             grpc::CallbackServerContext* context);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_SESSION_RPC_H_
