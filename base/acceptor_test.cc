#include "base/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <vector>

#include "base/mutex.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using ::testing::HasSubstr;

// Connects to 127.0.0.1:port; -1 if that fails.
int Connect(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) !=
      0) {
    close(fd);
    return -1;
  }
  return fd;
}

void Reset(int fd) {
  const linger abort_on_close = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_on_close,
             sizeof(abort_on_close));
  close(fd);
}

// Keeps what it is handed until told to drop it.
class Sink {
 public:
  Acceptor::Handler Handler() {
    return [this](int, int fd, size_t) {
      MutexLock lock(&mutex_);
      fds_.push_back(fd);
      changed_.SignalAll();
    };
  }
  // Waits until `count` have come in all.
  void Await(size_t count) {
    MutexLock lock(&mutex_);
    while (fds_.size() + dropped_ < count) changed_.Wait(&mutex_);
  }
  void DropAll() {
    MutexLock lock(&mutex_);
    for (const int fd : fds_) close(fd);
    dropped_ += fds_.size();
    fds_.clear();
  }
  ~Sink() { DropAll(); }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<int> fds_ ABSL_GUARDED_BY(mutex_);
  size_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(AcceptorTest, Listen_PortZero_GetsAPortAndHandsConnectionsOn) {
  Sink sink;
  ASSERT_OK_AND_ASSIGN(
      auto acceptor,
      Acceptor::Listen({.host = "127.0.0.1", .max_connections = 10}));
  acceptor->Start(sink.Handler());
  EXPECT_GT(acceptor->port(), 0);
  const int fd = Connect(acceptor->port());
  ASSERT_GE(fd, 0);
  sink.Await(1);
  close(fd);
}

TEST(AcceptorTest, Listen_BusyPort_NamesTheAddress) {
  ASSERT_OK_AND_ASSIGN(auto first, Acceptor::Listen({.host = "127.0.0.1",
                                                     .max_connections = 10}));
  EXPECT_THAT(
      Acceptor::Listen(
          {.host = "127.0.0.1", .port = first->port(), .max_connections = 10}),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("127.0.0.1:")));
}

TEST(AcceptorTest, OverTheBound_IsClosedUntilSomeAreGone) {
  Sink sink;
  ASSERT_OK_AND_ASSIGN(auto acceptor, Acceptor::Listen({.host = "127.0.0.1",
                                                        .max_connections = 2}));
  acceptor->Start(sink.Handler());
  const int a = Connect(acceptor->port());
  const int b = Connect(acceptor->port());
  sink.Await(2);
  const int c = Connect(acceptor->port());
  char byte;
  EXPECT_EQ(read(c, &byte, 1), 0);  // closed by the other side
  EXPECT_EQ(acceptor->refused(), 1u);
  sink.DropAll();
  const int d = Connect(acceptor->port());
  sink.Await(3);
  for (const int fd : {a, b, c, d}) close(fd);
}

TEST(AcceptorTest, DescriptorsExhausted_AcceptsAgainWhenTheyAreFree) {
  Sink sink;
  ASSERT_OK_AND_ASSIGN(
      auto acceptor,
      Acceptor::Listen({.host = "127.0.0.1", .max_connections = 10'000}));
  acceptor->Start(sink.Handler());
  // A limit that leaves no descriptor at all: the client's own socket takes the
  // last one, so accept() fails until that is raised again.
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  rlimit before = {};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;
  setrlimit(RLIMIT_NOFILE, &none);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(acceptor->port()));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  ASSERT_EQ(
      connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)),
      0);
  setrlimit(RLIMIT_NOFILE, &before);
  sink.Await(1);
  Reset(client);
}

TEST(AcceptorTest, Listen_LowDescriptorLimit_LowersTheBound) {
  rlimit before = {};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit low = before;
  low.rlim_cur = 256;
  setrlimit(RLIMIT_NOFILE, &low);
  const auto acceptor = Acceptor::Listen({.host = "127.0.0.1",
                                          .max_connections = 10'000,
                                          .reserved_descriptors = 64});
  setrlimit(RLIMIT_NOFILE, &before);
  ASSERT_THAT(acceptor, IsOk());
  EXPECT_EQ((*acceptor)->max_connections(), 192u);
}

TEST(ParseHostPortTest, GoodAndBad) {
  EXPECT_THAT(ParseHostPort("127.0.0.1:7070"),
              IsOkAndHolds(std::make_pair(std::string("127.0.0.1"), 7070)));
  EXPECT_THAT(ParseHostPort("[::1]:0"),
              IsOkAndHolds(std::make_pair(std::string("::1"), 0)));
  for (const char* bad : {"", "host", ":1", "host:", "host:x", "host:70000"}) {
    EXPECT_THAT(ParseHostPort(bad),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << bad;
  }
}

TEST(IsLoopbackTest, OnlyLoopbackAddresses) {
  EXPECT_TRUE(IsLoopback("127.0.0.1"));
  EXPECT_TRUE(IsLoopback("127.8.9.1"));
  EXPECT_TRUE(IsLoopback("::1"));
  EXPECT_TRUE(IsLoopback("localhost"));
  EXPECT_FALSE(IsLoopback("0.0.0.0"));
  EXPECT_FALSE(IsLoopback("127.example.com"));
  EXPECT_FALSE(IsLoopback("10.0.0.1"));
}

}  // namespace
}  // namespace koinon
