#include "base/rpc_server.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "base/acceptor.h"
#include "base/status_macros.h"
#include "grpc/impl/codegen/grpc_types.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"

namespace koinon {
namespace {

constexpr int kMaxMetadataBytes = 16 << 10;
// What one stream's sender may have under way without our reading it. The
// default of 64 KiB is slow over long links; bandwidth probing instead makes
// gRPC buffer megabytes for each upload.
constexpr int kStreamLookaheadBytes = 256 << 10;
// gRPC lets a connection's read buffer grow to as much as ever came at once,
// and keeps it while the connection is idle, unless its memory quota is short.
// So the quota is: what the uploads under way may take, and a small share for
// each open connection (an idle one takes less than half of it).
constexpr size_t kTransportBytes = size_t{64} << 20;
constexpr size_t kTransportBytesPerConnection = size_t{64} << 10;
// HTTP/2 frames of the default 16 KiB make a chunk arrive in 64 pieces.
constexpr int kMaxFrameBytes = 1 << 20;

// gRPC's reflection library puts itself into every server of a program that it
// is linked into. This takes it out again.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>*
                         plugins) override {
    std::erase_if(*plugins, [](const auto& plugin) {
      return plugin->name() == "proto_server_reflection";
    });
  }
};

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(absl::ToInt64Milliseconds(duration));
}

void SetLimits(const RpcServer::Options& options,
               grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(
      static_cast<int>(options.max_message_bytes));
  builder->AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder->AddChannelArgument(
      GRPC_ARG_MAX_CONCURRENT_STREAMS,
      static_cast<int>(options.max_streams_per_connection));
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                              Milliseconds(options.handshake_timeout));
  builder->AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_FRAME_SIZE, kMaxFrameBytes);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES,
                              kStreamLookaheadBytes);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS,
                              Milliseconds(options.keepalive));
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                              Milliseconds(options.keepalive));
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
}

}  // namespace

// Members are destroyed in the reverse order: what uses goes before what is
// used.
struct RpcServer::State {
  std::unique_ptr<Acceptor> acceptor;
  grpc::ResourceQuota quota{"koinon"};
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::unique_ptr<grpc::Server> server;
  bool stopped = false;

  absl::Status Build(const Options& options, bool reflection,
                     const std::vector<Service>& services);
  void Accept();
};

absl::Status RpcServer::State::Build(const Options& options, bool reflection,
                                     const std::vector<Service>& services) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  if (reflection) {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  } else {
    builder.SetOption(std::make_unique<WithoutReflection>());
  }
  connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
      options.credentials);
  for (const Service& service : services) {
    builder.RegisterService(service.service);
  }
  SetLimits(options, &builder);
  quota.Resize(kTransportBytes);
  builder.SetResourceQuota(quota);
  server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::InternalError("gRPC cannot start a server");
  }
  for (const Service& service : services) {
    server->GetHealthCheckService()->SetServingStatus(service.name, true);
  }
  return absl::OkStatus();
}

void RpcServer::State::Accept() {
  acceptor->Start([this](int listener_fd, int fd, size_t open) {
    quota.Resize(kTransportBytes + open * kTransportBytesPerConnection);
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters p;
    p.listener_fd = listener_fd;
    p.fd = fd;
    connections->HandleNewConnection(&p);
  });
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    Options options, const std::vector<Service>& services) {
  ABSL_ASSIGN_OR_RETURN(const auto address, ParseHostPort(options.listen));
  auto state = std::make_unique<State>();
  ABSL_ASSIGN_OR_RETURN(
      state->acceptor,
      Acceptor::Listen({.host = address.first,
                        .port = address.second,
                        .max_connections = options.max_connections}));
  const bool reflection =
      options.reflection ||
      (options.reflection_on_loopback && IsLoopback(address.first));
  ABSL_RETURN_IF_ERROR(state->Build(options, reflection, services));
  state->Accept();
  return std::unique_ptr<RpcServer>(new RpcServer(std::move(state)));
}

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

RpcServer::~RpcServer() { Stop(absl::ZeroDuration()); }

int RpcServer::port() const { return state_->acceptor->port(); }

uint64_t RpcServer::refused() const { return state_->acceptor->refused(); }

void RpcServer::Drain() {
  state_->server->GetHealthCheckService()->SetServingStatus(false);
  state_->acceptor->Stop();
}

void RpcServer::Stop(absl::Duration grace) {
  if (std::exchange(state_->stopped, true)) return;
  Drain();
  state_->server->Shutdown(absl::ToChronoTime(absl::Now() + grace));
  state_->server->Wait();
}

}  // namespace koinon
