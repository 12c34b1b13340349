#include "coordinator/service/worker_service.h"

#include "coordinator/service/pull_rpc.h"
#include "coordinator/service/push_rpc.h"
#include "coordinator/service/session_rpc.h"

namespace koinon::coordinator {

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>*
WorkerServiceImpl::Session(grpc::CallbackServerContext* context) {
  return StartSession(engine_, policy_, next_session_++, context);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* WorkerServiceImpl::PullModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartPull(
      catalog_, chunks_,
      policy_->Check(*context->auth_context(), PeerIdentity::Role::kWorker, ""),
      *request);
}

grpc::ServerReadReactor<grpc::ByteBuffer>* WorkerServiceImpl::PushUpdate(
    grpc::CallbackServerContext* context, grpc::ByteBuffer* reply) {
  return StartPush(engine_, desk_, clock_, policy_, context, reply);
}

}  // namespace koinon::coordinator
