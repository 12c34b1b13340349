// What a coordinator that is open to a network tells to anybody who asks.

#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "grpcpp/grpcpp.h"
#include "tests/e2e/coordinator_process.h"
#include "tests/integration/reflection.h"

namespace koinon::testing {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<grpc::Channel> PlainChannel(const CoordinatorProcess& server) {
  return grpc::CreateChannel(server.address(),
                             grpc::InsecureChannelCredentials());
}

TEST(ExposureTest, Reflection_OnAnyAddress_IsThereOnlyIfAskedFor) {
  ASSERT_OK_AND_ASSIGN(auto quiet,
                       CoordinatorProcess::Start({.dir = FreshDir("quiet"),
                                                  .flags = {"--insecure"},
                                                  .host = "0.0.0.0"}));
  EXPECT_THAT(ReflectedServices(PlainChannel(*quiet)),
              StatusIs(absl::StatusCode::kUnimplemented));
  ASSERT_OK_AND_ASSIGN(auto open, CoordinatorProcess::Start(
                                      {.dir = FreshDir("open"),
                                       .flags = {"--insecure", "--reflection"},
                                       .host = "0.0.0.0"}));
  ASSERT_OK_AND_ASSIGN(const auto services,
                       ReflectedServices(PlainChannel(*open)));
  EXPECT_THAT(services, HasSubstr("koinon.v1.ClientService"));
}

}  // namespace
}  // namespace koinon::testing
