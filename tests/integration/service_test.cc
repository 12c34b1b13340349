// The coordinator as a service: health, reflection, and the bounds on what
// peers may send and hold open.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/integration/coordinator_fixture.h"
#include "tests/integration/health.grpc.pb.h"
#include "tests/integration/reflection.h"

namespace koinon::testing {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using ::testing::HasSubstr;

void SetTimeout(grpc::ClientContext* context, absl::Duration timeout) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// A test that waits for longer than this has failed.
constexpr absl::Duration kPatience = absl::Seconds(60);

// Connects to 127.0.0.1:port; -1 if that fails.
int ConnectTcp(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
      0) {
    return fd;
  }
  close(fd);
  return -1;
}

// A gRPC server speaks first (its HTTP/2 settings). False if the connection was
// closed instead.
bool IsServed(int fd) {
  char byte = 0;
  return recv(fd, &byte, 1, 0) == 1;
}

class ServiceTest : public CoordinatorFixture {
 protected:
  std::unique_ptr<TestWorker> JoinedWorker(const std::string& name) {
    auto worker = NewWorker(name);
    worker->Open();
    EXPECT_THAT(worker->Await(v1::CoordinatorMessage::kWelcome), IsOk());
    return worker;
  }

  // GetJob of a job that is not there, with so much metadata.
  grpc::StatusCode GetNothing(v1::ClientService::Stub* stub,
                              absl::Duration timeout,
                              size_t metadata_bytes = 0) const {
    grpc::ClientContext context;
    SetTimeout(&context, timeout);
    if (metadata_bytes > 0) {
      context.AddMetadata("x-long", std::string(metadata_bytes, 'x'));
    }
    v1::GetJobRequest request;
    request.set_name("nothing");
    v1::JobStatus reply;
    return stub->GetJob(&context, request, &reply).error_code();
  }
};

TEST_F(ServiceTest, Health_WhileServing_SaysServingOfWholeAndParts) {
  Start();
  const auto health = Health::NewStub(NewChannel());
  for (const char* service :
       {"", "koinon.v1.WorkerService", "koinon.v1.ClientService"}) {
    grpc::ClientContext context;
    SetTimeout(&context, kPatience);
    HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse reply;
    EXPECT_TRUE(health->Check(&context, request, &reply).ok()) << service;
    EXPECT_EQ(reply.status(), HealthCheckResponse::SERVING) << service;
  }
}

TEST_F(ServiceTest, Health_WhileStopping_SaysNotServing) {
  Start();
  const auto health = Health::NewStub(NewChannel());
  grpc::ClientContext context;
  SetTimeout(&context, kPatience);
  const auto reader = health->Watch(&context, HealthCheckRequest());
  HealthCheckResponse reply;
  ASSERT_TRUE(reader->Read(&reply));
  EXPECT_EQ(reply.status(), HealthCheckResponse::SERVING);
  std::thread stopping([this] { Stop(); });
  EXPECT_TRUE(reader->Read(&reply));
  EXPECT_EQ(reply.status(), HealthCheckResponse::NOT_SERVING);
  context.TryCancel();
  reader->Finish();
  stopping.join();
}

TEST_F(ServiceTest, Reflection_OnLoopback_KnowsBothServices) {
  Start();
  ASSERT_OK_AND_ASSIGN(const auto services, ReflectedServices(NewChannel()));
  EXPECT_THAT(services, HasSubstr("koinon.v1.WorkerService"));
  EXPECT_THAT(services, HasSubstr("koinon.v1.ClientService"));
  ASSERT_OK_AND_ASSIGN(const auto file,
                       ReflectedFile(NewChannel(), "koinon.v1.WorkerService"));
  EXPECT_THAT(file, HasSubstr("PushUpdate"));
}

TEST_F(ServiceTest, Message_OverTheBound_IsResourceExhausted) {
  spec_.chunk_bytes = 64 << 10;
  Start();
  // The bound leaves 1 MiB beside a chunk.
  const size_t fits = 1 << 20, exceeds = (1 << 20) + (64 << 10) + 1;
  v1::JobSpec spec = SmallJob("job", 1, 1);
  auto& value = (*spec.mutable_training()->mutable_parameters())["x"];
  value.assign(exceeds, 'x');
  EXPECT_THAT(Submit(spec), StatusIs(absl::StatusCode::kResourceExhausted));

  auto talkative = NewWorker("talkative");
  talkative->hello().set_software_version(std::string(exceeds, 'x'));
  talkative->Open();
  EXPECT_THAT(talkative->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kResourceExhausted));
  auto brief = NewWorker("brief");
  brief->hello().set_software_version(std::string(fits, 'x'));
  brief->Open();
  // Read, and then refused by what a Hello may hold.
  EXPECT_THAT(brief->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("Hello of worker brief")));

  v1::UpdateHeader header;
  header.set_worker("brief");
  header.mutable_metrics()->set_loss(1);
  header.mutable_task()->set_job(std::string(exceeds, 'x'));
  EXPECT_THAT(brief->Push(header, "", 0, 64),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(ServiceTest, Metadata_OverTheBound_IsResourceExhausted) {
  Start();
  // gRPC's own default would refuse the first, the coordinator's 16 KiB the
  // second. That may cost the offender its connection, but nobody else's.
  EXPECT_EQ(GetNothing(&client(), kPatience, 12 << 10),
            grpc::StatusCode::NOT_FOUND);
  const auto offender = v1::ClientService::NewStub(NewChannel());
  EXPECT_EQ(GetNothing(offender.get(), kPatience, 20 << 10),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(GetNothing(&client(), kPatience), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, Session_WithoutHello_IsClosedInTime) {
  spec_.handshake_timeout = absl::Milliseconds(100);
  Start();
  const auto stub = v1::WorkerService::NewStub(NewChannel());
  grpc::ClientContext context;
  SetTimeout(&context, kPatience);
  const auto silent = stub->Session(&context);
  v1::CoordinatorMessage message;
  EXPECT_FALSE(silent->Read(&message));
  const grpc::Status status = silent->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(status.error_message(), HasSubstr("Hello"));
}

TEST_F(ServiceTest, Session_FirstMessageIsNoHello_IsRefused) {
  Start();
  const auto stub = v1::WorkerService::NewStub(NewChannel());
  grpc::ClientContext context;
  SetTimeout(&context, kPatience);
  const auto rude = stub->Session(&context);
  v1::WorkerMessage renewal;
  renewal.mutable_renew_lease();
  rude->Write(renewal);
  v1::CoordinatorMessage message;
  EXPECT_FALSE(rude->Read(&message));
  EXPECT_EQ(rude->Finish().error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(ServiceTest, Workers_OverTheBound_AreRefusedUntilOneLeaves) {
  spec_.max_workers = 1;
  Start();
  auto first = JoinedWorker("first");
  auto second = NewWorker("second");
  second->Open();
  EXPECT_THAT(second->Await(v1::CoordinatorMessage::kWelcome),
              StatusIs(absl::StatusCode::kResourceExhausted));
  v1::WorkerMessage goodbye;
  goodbye.mutable_goodbye();
  first->Send(goodbye);
  EXPECT_THAT(first->Await(v1::CoordinatorMessage::kOfferTask),
              StatusIs(absl::StatusCode::kOutOfRange));  // closed in peace
  JoinedWorker("second");
}

TEST_F(ServiceTest, Watchers_OverTheBound_AreRefused) {
  spec_.max_watchers = 1;
  Start();
  ASSERT_OK(Submit(SmallJob("job", 1, 1)));
  v1::WatchJobRequest request;
  request.set_name("job");
  grpc::ClientContext first_context;
  SetTimeout(&first_context, kPatience);
  const auto first = client().WatchJob(&first_context, request);
  v1::JobEvent event;
  ASSERT_TRUE(first->Read(&event));
  EXPECT_THAT(AwaitEnd("job"), StatusIs(absl::StatusCode::kResourceExhausted,
                                        HasSubstr("max_watchers")));
  first_context.TryCancel();
  first->Finish();
}

TEST_F(ServiceTest, Streams_OverTheBound_WaitForOneToEnd) {
  spec_.max_streams_per_connection = 1;
  Start();
  const auto channel = NewChannel();
  auto worker = std::make_unique<TestWorker>(channel, "a");
  worker->Open();
  ASSERT_OK(worker->Await(v1::CoordinatorMessage::kWelcome));
  const auto stub = v1::ClientService::NewStub(channel);
  // Without the bound the answer would come at once.
  EXPECT_EQ(GetNothing(stub.get(), absl::Milliseconds(300)),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  worker = nullptr;
  EXPECT_EQ(GetNothing(stub.get(), kPatience), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ServiceTest, Connections_OverTheBound_AreClosedOnArrival) {
  spec_.max_connections = 2;
  Start();
  EXPECT_EQ(GetNothing(&client(), kPatience), grpc::StatusCode::NOT_FOUND);
  const int second = ConnectTcp(port());
  ASSERT_GE(second, 0);
  EXPECT_TRUE(IsServed(second));
  const int third = ConnectTcp(port());
  ASSERT_GE(third, 0);
  EXPECT_FALSE(IsServed(third));
  close(third);
  // Those that are open go on, and room that becomes free is used.
  EXPECT_EQ(GetNothing(&client(), kPatience), grpc::StatusCode::NOT_FOUND);
  close(second);
  bool served = false;
  for (const absl::Time until = absl::Now() + kPatience;
       !served && absl::Now() < until;) {
    const int again = ConnectTcp(port());
    ASSERT_GE(again, 0);
    served = IsServed(again);
    close(again);
  }
  EXPECT_TRUE(served);
}

}  // namespace
}  // namespace koinon::testing
