#include "coordinator/service/client_service.h"

#include <atomic>
#include <memory>
#include <utility>

#include "coordinator/service/pull_rpc.h"
#include "coordinator/service/watch_rpc.h"

namespace koinon::coordinator {
namespace {

// A stream that says why it was refused, and ends.
class RefusedWatch final : public grpc::ServerWriteReactor<v1::JobEvent> {
 public:
  explicit RefusedWatch(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

// An engine that has stopped drops what it is asked: the call must end even so,
// or the server would wait for it for ever. Owned by the copies of its reply.
class Answer {
 public:
  explicit Answer(grpc::ServerUnaryReactor* reactor) : reactor_(reactor) {}
  ~Answer() { Finish(absl::UnavailableError("coordinator is stopping")); }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;

  void Finish(const absl::Status& status) {
    if (finished_.exchange(true)) return;
    reactor_->Finish(ToGrpcStatus(status));
  }

 private:
  grpc::ServerUnaryReactor* const reactor_;
  std::atomic<bool> finished_{false};
};

}  // namespace

absl::Status ClientServiceImpl::CheckClient(
    grpc::CallbackServerContext* context) const {
  return policy_->Check(*context->auth_context(), PeerIdentity::Role::kClient,
                        "");
}

template <typename T, typename Ask>
grpc::ServerUnaryReactor* ClientServiceImpl::Call(
    grpc::CallbackServerContext* context, T* reply, Ask ask) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status allowed = CheckClient(context);
  if (!allowed.ok()) {
    reactor->Finish(ToGrpcStatus(allowed));
    return reactor;
  }
  auto answer = std::make_shared<Answer>(reactor);
  ask(Engine::Reply<T>([answer, reply](absl::StatusOr<T> result) {
    if (result.ok()) *reply = *std::move(result);
    answer->Finish(result.status());
  }));
  return reactor;
}

grpc::ServerUnaryReactor* ClientServiceImpl::SubmitJob(
    grpc::CallbackServerContext* context, const v1::SubmitJobRequest* request,
    v1::SubmitJobReply* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::SubmitJobReply> done) {
    engine_->SubmitJob(request->spec(), std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::GetJob(
    grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
    v1::JobStatus* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::JobStatus> done) {
    engine_->GetJob(request->name(), std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListJobs(
    grpc::CallbackServerContext* context, const v1::ListJobsRequest*,
    v1::ListJobsReply* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::ListJobsReply> done) {
    engine_->ListJobs(std::move(done));
  });
}

grpc::ServerWriteReactor<v1::JobEvent>* ClientServiceImpl::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) {
  const absl::Status allowed = CheckClient(context);
  if (!allowed.ok()) return new RefusedWatch(allowed);
  return StartWatch(engine_, *request);
}

grpc::ServerUnaryReactor* ClientServiceImpl::CancelJob(
    grpc::CallbackServerContext* context, const v1::CancelJobRequest* request,
    v1::JobStatus* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::JobStatus> done) {
    engine_->CancelJob(request->name(), std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::PauseJob(
    grpc::CallbackServerContext* context, const v1::PauseJobRequest* request,
    v1::JobStatus* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::JobStatus> done) {
    engine_->PauseJob(request->name(), std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::ResumeJob(
    grpc::CallbackServerContext* context, const v1::ResumeJobRequest* request,
    v1::JobStatus* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::JobStatus> done) {
    engine_->ResumeJob(request->name(), std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListRounds(
    grpc::CallbackServerContext* context, const v1::ListRoundsRequest* request,
    v1::ListRoundsReply* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::ListRoundsReply> done) {
    engine_->ListRounds(*request, std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListNodes(
    grpc::CallbackServerContext* context, const v1::ListNodesRequest*,
    v1::ListNodesReply* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::ListNodesReply> done) {
    engine_->ListNodes(std::move(done));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::ListModels(
    grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
    v1::ListModelsReply* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::ListModelsReply> done) {
    v1::ListModelsReply models;
    for (const auto& manifest : catalog_->List(request->job())) {
      v1::ModelManifest* model = models.add_models();
      *model = *manifest;
      model->clear_chunk_digests();
    }
    done(std::move(models));
  });
}

grpc::ServerUnaryReactor* ClientServiceImpl::PinModel(
    grpc::CallbackServerContext* context, const v1::PinModelRequest* request,
    v1::ModelManifest* reply) {
  return Call(context, reply, [&](Engine::Reply<v1::ModelManifest> done) {
    engine_->PinModel(*request, std::move(done));
  });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ClientServiceImpl::PullModel(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return StartPull(catalog_, chunks_, CheckClient(context), *request);
}

}  // namespace koinon::coordinator
