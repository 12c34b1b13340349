#ifndef KOINON_COORDINATOR_SERVICE_CLIENT_SERVICE_H_
#define KOINON_COORDINATOR_SERVICE_CLIENT_SERVICE_H_

#include "coordinator/engine/engine.h"
#include "coordinator/models/catalog.h"
#include "coordinator/service/identity.h"
#include "coordinator/service/model_chunks.h"
#include "grpcpp/grpcpp.h"
#include "proto/client.grpc.pb.h"

namespace koinon::coordinator {

// koinon.v1.ClientService: checks who calls, asks the engine, converts.
// Everything given by pointer must outlive the server.
class ClientServiceImpl final
    : public v1::ClientService::WithRawCallbackMethod_PullModel<
          v1::ClientService::WithCallbackMethod_SubmitJob<v1::ClientService::WithCallbackMethod_GetJob<
              v1::ClientService::WithCallbackMethod_ListJobs<
                  v1::ClientService::WithCallbackMethod_WatchJob<
                      v1::ClientService::WithCallbackMethod_CancelJob<
                          v1::ClientService::WithCallbackMethod_PauseJob<
                              v1::ClientService::WithCallbackMethod_ResumeJob<
                                  v1::ClientService::WithCallbackMethod_ListRounds<
                                      v1::ClientService::WithCallbackMethod_ListNodes<
                                          v1::ClientService::
                                              WithCallbackMethod_ListModels<
                                                  v1::ClientService::
                                                      WithCallbackMethod_PinModel<
                                                          v1::ClientService::
                                                              Service>>>>>>>>>>>> {
 public:
  ClientServiceImpl(Engine* engine, const ModelCatalog* catalog,
                    ModelChunks* chunks, const AccessPolicy* policy)
      : engine_(engine), catalog_(catalog), chunks_(chunks), policy_(policy) {}

  grpc::ServerUnaryReactor* SubmitJob(grpc::CallbackServerContext* context,
                                      const v1::SubmitJobRequest* request,
                                      v1::SubmitJobReply* reply) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::JobStatus* reply) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsReply* reply) override;
  grpc::ServerWriteReactor<v1::JobEvent>* WatchJob(
      grpc::CallbackServerContext* context,
      const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::JobStatus* reply) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context,
                                     const v1::PauseJobRequest* request,
                                     v1::JobStatus* reply) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const v1::ResumeJobRequest* request,
                                      v1::JobStatus* reply) override;
  grpc::ServerUnaryReactor* ListRounds(grpc::CallbackServerContext* context,
                                       const v1::ListRoundsRequest* request,
                                       v1::ListRoundsReply* reply) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const v1::ListNodesRequest* request,
                                      v1::ListNodesReply* reply) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsReply* reply) override;
  grpc::ServerUnaryReactor* PinModel(grpc::CallbackServerContext* context,
                                     const v1::PinModelRequest* request,
                                     v1::ModelManifest* reply) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* PullModel(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;

 private:
  absl::Status CheckClient(grpc::CallbackServerContext* context) const;
  // Checks the caller, then lets `ask` start the engine's call whose reply
  // finishes the RPC.
  template <typename T, typename Ask>
  grpc::ServerUnaryReactor* Call(grpc::CallbackServerContext* context, T* reply,
                                 Ask ask);

  Engine* const engine_;
  const ModelCatalog* const catalog_;
  ModelChunks* const chunks_;
  const AccessPolicy* const policy_;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_SERVICE_CLIENT_SERVICE_H_
