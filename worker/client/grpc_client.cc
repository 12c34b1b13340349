#include "worker/client/grpc_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "proto/worker.grpc.pb.h"
#include "worker/client/grpc_call.h"
#include "worker/client/grpc_session.h"

namespace koinon::worker {
namespace {

// Over a chunk's bytes: a message's own fields, and messages without a chunk.
constexpr int64_t kMessageOverheadBytes = 64 << 10;

absl::Status CheckTarget(absl::string_view target) {
  const size_t colon = target.rfind(':');
  int port = 0;
  if (colon != absl::string_view::npos && colon > 0 &&
      absl::SimpleAtoi(target.substr(colon + 1), &port) && port > 0 &&
      port < 65536) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("coordinator: expected HOST:PORT, found \"", target, "\""));
}

grpc::ChannelArguments ChannelArgumentsFor(const GrpcClient::Options& options) {
  grpc::ChannelArguments arguments;
  const auto max_message =
      static_cast<int>(options.max_chunk_bytes + kMessageOverheadBytes);
  arguments.SetMaxReceiveMessageSize(max_message);
  arguments.SetMaxSendMessageSize(max_message);
  // A dead connection is found within half a minute.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  // The probe grows windows until memory is no longer flat; a fixed window of
  // a chunk or so keeps a fast line busy.
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 1 << 20);
  // Two clients in one process do not share a connection.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // The connection goes where the operator said.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return arguments;
}

}  // namespace

struct GrpcClient::Channel {
  explicit Channel(const Options& options)
      : stub(v1::WorkerService::NewStub(
            grpc::CreateCustomChannel(options.target, options.credentials,
                                      ChannelArgumentsFor(options)))) {}
  const std::unique_ptr<v1::WorkerService::Stub> stub;
};

absl::StatusOr<std::unique_ptr<GrpcClient>> GrpcClient::Create(
    Options options) {
  const absl::Status status = CheckTarget(options.target);
  if (!status.ok()) return status;
  auto channel = std::make_shared<Channel>(options);
  return std::unique_ptr<GrpcClient>(
      new GrpcClient(std::move(options), std::move(channel)));
}

GrpcClient::GrpcClient(Options options, std::shared_ptr<Channel> channel)
    : options_(std::move(options)), channel_(std::move(channel)) {}
GrpcClient::~GrpcClient() = default;

std::shared_ptr<GrpcClient::Channel> GrpcClient::CurrentChannel() const {
  MutexLock lock(&mutex_);
  return channel_;
}

std::unique_ptr<CoordinatorClient::Session> GrpcClient::OpenSession(
    const v1::Hello& hello, SessionCallbacks callbacks) {
  // A channel that has failed answers with that failure for as long as its own
  // back-off and name lookup wait; the session machine has waited already.
  auto channel = std::make_shared<Channel>(options_);
  {
    MutexLock lock(&mutex_);
    channel_ = channel;
  }
  return std::make_unique<GrpcSession>(channel->stub.get(), hello,
                                       std::move(callbacks));
}

PushOutcome GrpcClient::PushUpdate(const StartPush& push, const File& update,
                                   Cancellation* cancellation) {
  PushOutcome outcome;
  GrpcCall call(options_.stall_timeout, cancellation);
  v1::PushUpdateReply reply;
  const std::shared_ptr<Channel> channel = CurrentChannel();
  const auto writer = channel->stub->PrepareAsyncPushUpdate(
      call.context(), &reply, call.queue());
  writer->StartCall(call.tag());
  bool going = call.Wait();
  v1::PushUpdateRequest request;
  *request.mutable_header() = push.header;
  if (going) {
    writer->Write(request, call.tag());
    going = call.Wait();
  }
  v1::Chunk* const chunk = request.mutable_chunk();
  int64_t offset = push.offset;
  while (going && offset < push.header.size_bytes()) {
    const auto size = static_cast<size_t>(
        std::min(push.chunk_bytes, push.header.size_bytes() - offset));
    chunk->set_offset(offset);
    chunk->mutable_data()->resize(size);
    outcome.file_status = update.ReadAt(static_cast<uint64_t>(offset), size,
                                        chunk->mutable_data()->data());
    if (!outcome.file_status.ok()) {
      call.context()->TryCancel();
      break;
    }
    writer->Write(request, call.tag());
    going = call.Wait();
    offset += static_cast<int64_t>(size);
  }
  if (going && outcome.file_status.ok()) {
    writer->WritesDone(call.tag());
    call.Wait();
  }
  // A coordinator that has heard enough answers early: writes fail, and the
  // status tells.
  grpc::Status status;
  writer->Finish(&status, call.tag());
  call.WaitFor(options_.reply_timeout);
  if (!outcome.file_status.ok()) return outcome;
  outcome.status = call.Translate(status);
  outcome.accepted = outcome.status.ok() && reply.accepted();
  outcome.reason = reply.reason();
  return outcome;
}

}  // namespace koinon::worker
