#include "base/rpc_server.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";

class NoMethods final : public grpc::Service {};

RpcServer::Options Loopback() {
  RpcServer::Options options;
  options.listen = "127.0.0.1:0";
  options.credentials = grpc::InsecureServerCredentials();
  return options;
}

std::shared_ptr<grpc::Channel> ChannelTo(const RpcServer& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", server.port()),
                                   grpc::InsecureChannelCredentials(),
                                   arguments);
}

// A call of the health service with these bytes as its request.
struct Called {
  grpc::Status status;
  std::string reply;
};
Called Check(const std::shared_ptr<grpc::Channel>& channel,
             const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(10));
  grpc::CompletionQueue queue;
  const grpc::Slice slice(request);
  const auto call =
      stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                            grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  Called called;
  grpc::ByteBuffer reply;
  call->Finish(&reply, &called.status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  std::vector<grpc::Slice> slices;
  if (called.status.ok() && reply.Dump(&slices).ok()) {
    for (const grpc::Slice& part : slices) {
      called.reply.append(reinterpret_cast<const char*>(part.begin()),
                          part.size());
    }
  }
  return called;
}

// HealthCheckRequest.service.
std::string OfService(const std::string& name) {
  return absl::StrCat(std::string(1, '\x0a'),
                      std::string(1, static_cast<char>(name.size())), name);
}

TEST(RpcServerTest, Health_WhileServing_SaysSoOfEachServiceByName) {
  NoMethods service;
  ASSERT_OK_AND_ASSIGN(
      const auto server,
      RpcServer::Start(Loopback(), {{&service, "test.NoMethods"}}));
  const auto channel = ChannelTo(*server);
  EXPECT_EQ(Check(channel, OfService("test.NoMethods")).reply, kServing);
  EXPECT_EQ(Check(channel, OfService("test.Unknown")).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(RpcServerTest, Drain_SaysNotServing_AndAnswersThoseWhoAreIn) {
  NoMethods service;
  ASSERT_OK_AND_ASSIGN(
      const auto server,
      RpcServer::Start(Loopback(), {{&service, "test.NoMethods"}}));
  const auto channel = ChannelTo(*server);
  ASSERT_EQ(Check(channel, OfService("test.NoMethods")).reply, kServing);
  server->Drain();
  EXPECT_EQ(Check(channel, OfService("test.NoMethods")).reply, kNotServing);
}

TEST(RpcServerTest, Stop_LeavesThePortFree) {
  NoMethods service;
  ASSERT_OK_AND_ASSIGN(
      auto server,
      RpcServer::Start(Loopback(), {{&service, "test.NoMethods"}}));
  RpcServer::Options again = Loopback();
  again.listen = absl::StrCat("127.0.0.1:", server->port());
  EXPECT_THAT(
      RpcServer::Start(again, {}).status(),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr(again.listen)));
  server->Stop(absl::ZeroDuration());
  server->Stop(absl::ZeroDuration());
  server.reset();
  EXPECT_OK(RpcServer::Start(again, {}).status());
}

TEST(RpcServerTest, Message_OverTheBound_IsResourceExhausted) {
  RpcServer::Options options = Loopback();
  options.max_message_bytes = 64;
  ASSERT_OK_AND_ASSIGN(const auto server, RpcServer::Start(options, {}));
  const auto channel = ChannelTo(*server);
  EXPECT_TRUE(Check(channel, "").status.ok());
  EXPECT_EQ(
      Check(channel, OfService(std::string(100, 'a'))).status.error_code(),
      grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(RpcServerTest, Connections_OverTheBound_AreClosedAndCounted) {
  RpcServer::Options options = Loopback();
  options.max_connections = 1;
  ASSERT_OK_AND_ASSIGN(const auto server, RpcServer::Start(options, {}));
  const auto first = ChannelTo(*server);
  ASSERT_TRUE(Check(first, "").status.ok());
  EXPECT_EQ(Check(ChannelTo(*server), "").status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
  EXPECT_GE(server->refused(), 1u);
  EXPECT_TRUE(Check(first, "").status.ok());
}

TEST(RpcServerTest, Start_BadAddress_SaysWhatIsExpected) {
  RpcServer::Options options = Loopback();
  options.listen = "nonsense";
  EXPECT_THAT(
      RpcServer::Start(options, {}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nonsense")));
}

}  // namespace
}  // namespace koinon
