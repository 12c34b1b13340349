#include "tools/cli/client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "proto/client.grpc.pb.h"

namespace koinon::cli {
namespace {

// The largest chunk that a coordinator may be configured to send, and its
// frame.
constexpr int kMaxMessageBytes = (64 << 20) + (64 << 10);
constexpr std::chrono::seconds kCallDeadline{30};

using Stub = v1::ClientService::Stub;

}  // namespace

struct Client::State {
  std::string address;
  std::unique_ptr<Stub> stub;

  absl::Status ToStatus(const grpc::Status& status) const {
    if (status.ok()) return absl::OkStatus();
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    if (code == absl::StatusCode::kUnavailable) {
      return absl::UnavailableError(
          absl::StrCat("no connection to the coordinator at ", address, ": ",
                       status.error_message()));
    }
    return absl::Status(code, status.error_message());
  }

  template <typename Request, typename Reply>
  absl::StatusOr<Reply> Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                          const Request&,
                                                          Reply*),
                             const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kCallDeadline);
    Reply reply;
    const grpc::Status status =
        (stub.get()->*method)(&context, request, &reply);
    if (!status.ok()) return ToStatus(status);
    return reply;
  }

  // Reads until the stream ends or the callback has had enough.
  template <typename Reply>
  absl::Status ReadAll(grpc::ClientContext* context,
                       std::unique_ptr<grpc::ClientReader<Reply>> reader,
                       const std::function<bool(const Reply&)>& on_reply) {
    Reply reply;
    bool enough = false;
    while (!enough && reader->Read(&reply)) enough = !on_reply(reply);
    if (enough) context->TryCancel();
    const grpc::Status status = reader->Finish();
    return enough ? absl::OkStatus() : ToStatus(status);
  }
};

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

std::unique_ptr<Client> Client::Create(
    const std::string& address,
    std::shared_ptr<grpc::ChannelCredentials> credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  // After a coordinator's restart the next call must not wait out a back-off of
  // minutes.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A watched coordinator whose machine vanishes is noticed within half a
  // minute.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  auto state = std::make_unique<State>();
  state->address = address;
  state->stub = v1::ClientService::NewStub(
      grpc::CreateCustomChannel(address, credentials, arguments));
  return std::unique_ptr<Client>(new Client(std::move(state)));
}

const std::string& Client::address() const { return state_->address; }

absl::StatusOr<v1::SubmitJobReply> Client::SubmitJob(const v1::JobSpec& spec) {
  v1::SubmitJobRequest request;
  *request.mutable_spec() = spec;
  return state_->Call(&Stub::SubmitJob, request);
}

absl::StatusOr<v1::JobStatus> Client::GetJob(const std::string& name) {
  v1::GetJobRequest request;
  request.set_name(name);
  return state_->Call(&Stub::GetJob, request);
}

absl::StatusOr<v1::ListJobsReply> Client::ListJobs() {
  return state_->Call(&Stub::ListJobs, v1::ListJobsRequest());
}

absl::StatusOr<v1::JobStatus> Client::CancelJob(const std::string& name) {
  v1::CancelJobRequest request;
  request.set_name(name);
  return state_->Call(&Stub::CancelJob, request);
}

absl::StatusOr<v1::JobStatus> Client::PauseJob(const std::string& name) {
  v1::PauseJobRequest request;
  request.set_name(name);
  return state_->Call(&Stub::PauseJob, request);
}

absl::StatusOr<v1::JobStatus> Client::ResumeJob(const std::string& name) {
  v1::ResumeJobRequest request;
  request.set_name(name);
  return state_->Call(&Stub::ResumeJob, request);
}

absl::StatusOr<v1::ListRoundsReply> Client::ListRounds(const std::string& job,
                                                       int64_t after_round,
                                                       int64_t limit) {
  v1::ListRoundsReply all;
  v1::ListRoundsRequest request;
  request.set_job(job);
  request.set_after_round(after_round);
  // One reply is bounded in bytes and may hold fewer rounds than there are.
  while (limit == 0 || all.rounds_size() < limit) {
    request.set_limit(limit == 0 ? 0 : limit - all.rounds_size());
    ABSL_ASSIGN_OR_RETURN(const v1::ListRoundsReply part,
                          state_->Call(&Stub::ListRounds, request));
    if (part.rounds().empty()) break;
    all.mutable_rounds()->MergeFrom(part.rounds());
    request.set_after_round(part.rounds(part.rounds_size() - 1).round());
  }
  return all;
}

absl::StatusOr<v1::ListNodesReply> Client::ListNodes() {
  return state_->Call(&Stub::ListNodes, v1::ListNodesRequest());
}

absl::StatusOr<v1::ListModelsReply> Client::ListModels(const std::string& job) {
  v1::ListModelsRequest request;
  request.set_job(job);
  return state_->Call(&Stub::ListModels, request);
}

absl::StatusOr<v1::ModelManifest> Client::PinModel(const std::string& job,
                                                   int64_t version,
                                                   bool pinned) {
  v1::PinModelRequest request;
  request.set_job(job);
  request.set_version(version);
  request.set_pinned(pinned);
  return state_->Call(&Stub::PinModel, request);
}

absl::Status Client::WatchJob(const std::string& name, bool from_start,
                              const OnEvent& on_event) {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_from_start(from_start);
  return state_->ReadAll<v1::JobEvent>(
      &context, state_->stub->WatchJob(&context, request), on_event);
}

absl::Status Client::PullModel(const v1::PullModelRequest& request,
                               const OnPart& on_part) {
  grpc::ClientContext context;
  return state_->ReadAll<v1::PullModelReply>(
      &context, state_->stub->PullModel(&context, request), on_part);
}

}  // namespace koinon::cli
