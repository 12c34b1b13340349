#ifndef KOINON_COORDINATOR_SERVICE_WORKER_SERVICE_H_
#define KOINON_COORDINATOR_SERVICE_WORKER_SERVICE_H_

#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "coordinator/engine/engine.h"
#include "coordinator/models/catalog.h"
#include "coordinator/service/identity.h"
#include "coordinator/service/model_chunks.h"
#include "coordinator/uploads/upload_desk.h"
#include "grpcpp/grpcpp.h"
#include "proto/worker.grpc.pb.h"

namespace koinon::coordinator {

// koinon.v1.WorkerService: each call is a reactor of its own (session_rpc.h,
// pull_rpc.h, push_rpc.h). Everything given by pointer must outlive the server.
class WorkerServiceImpl final
    : public v1::WorkerService::WithRawCallbackMethod_PullModel<
          v1::WorkerService::WithRawCallbackMethod_PushUpdate<
              v1::WorkerService::WithCallbackMethod_Session<
                  v1::WorkerService::Service>>> {
 public:
  WorkerServiceImpl(Engine* engine, UploadDesk* desk,
                    const ModelCatalog* catalog, ModelChunks* chunks,
                    const Clock* clock, const AccessPolicy* policy)
      : engine_(engine),
        desk_(desk),
        catalog_(catalog),
        chunks_(chunks),
        clock_(clock),
        policy_(policy) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Session(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* PullModel(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerReadReactor<grpc::ByteBuffer>* PushUpdate(
      grpc::CallbackServerContext* context, grpc::ByteBuffer* reply) override;

 private:
  Engine* const engine_;
  UploadDesk* const desk_;
  const ModelCatalog* const catalog_;
  ModelChunks* const chunks_;
  const Clock* const clock_;
  const AccessPolicy* const policy_;
  std::atomic<uint64_t> next_session_{1};
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_WORKER_SERVICE_H_
