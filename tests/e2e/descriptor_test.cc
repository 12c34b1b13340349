// A real coordinator with few descriptors under a burst of connections: from
// peers that show nothing, no certificate and no word of any protocol.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "base/env.h"
#include "base/status_matchers.h"
#include "base/tls.h"
#include "grpcpp/grpcpp.h"
#include "tests/e2e/coordinator_process.h"
#include "tests/integration/health.grpc.pb.h"

namespace koinon::testing {
namespace {

using ::grpc::health::v1::Health;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;

constexpr int kMaxDescriptors = 256;
constexpr absl::Duration kRecovery = absl::Seconds(30);

// A burst of connections that stay open and say nothing.
class Burst {
 public:
  Burst(int port, int count) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    for (int i = 0; i < count; ++i) {
      const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      EXPECT_GE(fd, 0);
      // Those that come when the backlog is full may be refused.
      if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) ==
          0) {
        fds_.push_back(fd);
      } else {
        close(fd);
      }
    }
  }
  ~Burst() { Reset(); }

  size_t size() const { return fds_.size(); }

  // Closes all at once, with a reset in place of TCP's goodbye.
  void Reset() {
    const linger abort_on_close = {1, 0};
    for (const int fd : fds_) {
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_on_close,
                 sizeof(abort_on_close));
      close(fd);
    }
    fds_.clear();
  }

  // How many the other side has closed by `until`.
  size_t ClosedBy(absl::Time until) const {
    size_t closed = 0;
    for (const int fd : fds_) {
      pollfd wait = {fd, POLLIN, 0};
      const auto left = absl::ToInt64Milliseconds(until - absl::Now());
      if (poll(&wait, 1, std::max<int>(0, static_cast<int>(left))) != 1) break;
      char byte = 0;
      if (recv(fd, &byte, 1, MSG_DONTWAIT) <= 0) ++closed;
    }
    return closed;
  }

 private:
  std::vector<int> fds_;
};

std::shared_ptr<grpc::Channel> NewChannel(
    const CoordinatorProcess& coordinator,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(coordinator.address(), credentials,
                                   arguments);
}

bool IsServing(const std::shared_ptr<grpc::Channel>& channel,
               absl::Duration timeout) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  HealthCheckResponse reply;
  const grpc::Status status =
      Health::NewStub(channel)->Check(&context, HealthCheckRequest(), &reply);
  return status.ok() && reply.status() == HealthCheckResponse::SERVING;
}

// How long it takes until a new connection is served, at most `limit`.
absl::Duration TimeToServe(
    const CoordinatorProcess& coordinator,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    absl::Duration limit) {
  const absl::Time start = absl::Now();
  while (absl::Now() - start < limit) {
    if (IsServing(NewChannel(coordinator, credentials),
                  limit - (absl::Now() - start))) {
      return absl::Now() - start;
    }
  }
  return absl::InfiniteDuration();
}

bool HasDescriptorLimit(pid_t pid, int limit) {
  std::ifstream in(absl::StrCat("/proc/", pid, "/limits"));
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("Max open files", 0) != 0) continue;
    std::istringstream words(line.substr(std::string("Max open files").size()));
    int soft = 0;
    return words >> soft && soft == limit;
  }
  return false;
}

TEST(DescriptorTest, SixHundredConnectionsReset_ServesAgain) {
  ASSERT_OK_AND_ASSIGN(
      auto coordinator,
      CoordinatorProcess::Start({.dir = FreshDir("reset"),
                                 .flags = {"--insecure"},
                                 .max_descriptors = kMaxDescriptors}));
  ASSERT_TRUE(HasDescriptorLimit(coordinator->pid(), kMaxDescriptors));
  const auto plain = grpc::InsecureChannelCredentials();
  const auto before = NewChannel(*coordinator, plain);
  ASSERT_TRUE(IsServing(before, absl::Seconds(30)));
  const int idle_descriptors = coordinator->open_descriptors();

  for (int wave = 0; wave < 3; ++wave) {
    Burst burst(coordinator->port(), 600);
    ASSERT_GT(burst.size(), static_cast<size_t>(kMaxDescriptors));
    // Who was connected before the burst does not notice it.
    EXPECT_TRUE(IsServing(before, absl::Seconds(30)));
    burst.Reset();
  }
  const absl::Duration recovery = TimeToServe(*coordinator, plain, kRecovery);
  EXPECT_LT(recovery, kRecovery);
  std::cout << "served again after " << recovery << std::endl;

  // Nothing of the bursts is kept; one more connection may not be closed yet.
  const absl::Time until = absl::Now() + absl::Seconds(30);
  while (coordinator->open_descriptors() > idle_descriptors + 1 &&
         absl::Now() < until) {
  }
  EXPECT_LE(coordinator->open_descriptors(), idle_descriptors + 1);
  EXPECT_EQ(coordinator->Stop(), "exit code 0");
}

TEST(DescriptorTest, HalfOpenTls_IsClosedInTimeAndRealClientsAreServed) {
  const std::string dir = FreshDir("half-open"), certs = dir + "/certs";
  ASSERT_OK_AND_ASSIGN(
      auto made, cli::ChildProcess::Start(
                     {Runfile("tools/koinon"), "certs", certs}, dir + "/log"));
  ASSERT_EQ(made->Wait(absl::Minutes(1)), "exit code 0");
  constexpr absl::Duration kHandshake = absl::Seconds(1);
  ASSERT_OK_AND_ASSIGN(
      auto coordinator,
      CoordinatorProcess::Start(
          {.dir = dir,
           .flags = {"--tls-cert", certs + "/server.pem", "--tls-key",
                     certs + "/server.key", "--tls-ca", certs + "/ca.pem",
                     "--handshake-seconds", "1"},
           .max_descriptors = kMaxDescriptors}));
  ASSERT_OK_AND_ASSIGN(const auto credentials,
                       MakeChannelCredentials(
                           RealEnv(),
                           {certs + "/client-operator.pem",
                            certs + "/client-operator.key", certs + "/ca.pem"},
                           RealClock().Now()));

  const Burst burst(coordinator->port(), 300);
  ASSERT_EQ(burst.size(), 300u);
  const absl::Duration served =
      TimeToServe(*coordinator, credentials, kHandshake + kRecovery);
  EXPECT_LT(served, kHandshake + kRecovery);
  std::cout << "served after " << served << std::endl;
  EXPECT_EQ(burst.ClosedBy(absl::Now() + kRecovery), burst.size());
  EXPECT_EQ(coordinator->Stop(), "exit code 0");
}

}  // namespace
}  // namespace koinon::testing
