// A real coordinator that is asked to stop.

#include <gtest/gtest.h>
#include <signal.h>

#include <memory>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "tests/e2e/coordinator_process.h"
#include "tests/integration/health.grpc.pb.h"

namespace koinon::testing {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;

// A stream that stays open while the coordinator stops, which waits for it a
// little: what is under test happens in that time.
class StopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(
        coordinator_, CoordinatorProcess::Start(
                          {.dir = FreshDir("stop"), .flags = {"--insecure"}}));
    health_ = Health::NewStub(grpc::CreateChannel(
        coordinator_->address(), grpc::InsecureChannelCredentials()));
    context_.set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
    reader_ = health_->Watch(&context_, HealthCheckRequest());
    EXPECT_EQ(NextStatus(), HealthCheckResponse::SERVING);
  }
  void TearDown() override {
    context_.TryCancel();
    reader_->Finish();
  }
  HealthCheckResponse::ServingStatus NextStatus() {
    HealthCheckResponse reply;
    EXPECT_TRUE(reader_->Read(&reply));
    return reply.status();
  }

  std::unique_ptr<CoordinatorProcess> coordinator_;
  std::unique_ptr<Health::Stub> health_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<HealthCheckResponse>> reader_;
};

TEST_F(StopTest, OneSignal_SaysNotServingAndEndsWellDespiteOpenStreams) {
  kill(coordinator_->pid(), SIGTERM);
  EXPECT_EQ(NextStatus(), HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(coordinator_->Wait(), "exit code 0");
}

TEST_F(StopTest, SecondSignal_EndsAtOnce) {
  kill(coordinator_->pid(), SIGTERM);
  EXPECT_EQ(NextStatus(), HealthCheckResponse::NOT_SERVING);
  kill(coordinator_->pid(), SIGTERM);
  EXPECT_EQ(coordinator_->Wait(), "exit code 4");
}

}  // namespace
}  // namespace koinon::testing
