#ifndef KOINON_COORDINATOR_SERVICE_PUSH_RPC_H_
#define KOINON_COORDINATOR_SERVICE_PUSH_RPC_H_

#include "coordinator/engine/engine.h"
#include "coordinator/service/identity.h"
#include "coordinator/uploads/upload_desk.h"
#include "grpcpp/grpcpp.h"

namespace koinon::coordinator {

// WorkerService.PushUpdate: one granted upload. Bytes go to the spool as they
// arrive; the reply is sent when the update is durable and in the round. A
// stream that breaks leaves what it brought for the next one. The reactor
// deletes itself when the stream is over.
grpc::ServerReadReactor<grpc::ByteBuffer>* StartPush(
    Engine* engine, UploadDesk* desk, const Clock* clock,
    const AccessPolicy* policy, grpc::CallbackServerContext* context,
    grpc::ByteBuffer* reply);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_PUSH_RPC_H_
