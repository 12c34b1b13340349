#include "base/acceptor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

constexpr int kBacklog = 1024;
// How soon accept() is tried again after it failed for want of descriptors.
constexpr int kRetryMs = 50;

absl::Status CannotListen(absl::string_view host, int port,
                          absl::string_view why) {
  return absl::UnavailableError(
      absl::StrCat("cannot listen on ", host, ":", port, ": ", why));
}

absl::StatusOr<int> OpenListener(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(host.c_str(), absl::StrCat(port).c_str(), &hints, &found);
  if (error != 0) return CannotListen(host, port, gai_strerror(error));
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  std::string why;
  if (fd < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
      listen(fd, kBacklog) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
    why = std::strerror(errno);
    if (fd >= 0) close(fd);
  }
  freeaddrinfo(found);
  if (!why.empty()) return CannotListen(host, port, why);
  return fd;
}

int BoundPort(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

// Zero if the descriptor is closed.
uint64_t InodeOf(int fd) {
  struct stat info = {};
  return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

size_t EffectiveBound(const Acceptor::Options& options) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return options.max_connections;
  const size_t descriptors = limit.rlim_cur;
  const size_t room = descriptors > options.reserved_descriptors
                          ? descriptors - options.reserved_descriptors
                          : 1;
  return std::min(options.max_connections, room);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(
    const Options& options) {
  ABSL_ASSIGN_OR_RETURN(const int fd, OpenListener(options.host, options.port));
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    close(fd);
    return CannotListen(options.host, options.port, std::strerror(errno));
  }
  return std::unique_ptr<Acceptor>(
      new Acceptor(fd, wake_fd, BoundPort(fd), EffectiveBound(options)));
}

Acceptor::Acceptor(int listener_fd, int wake_fd, int port,
                   size_t max_connections)
    : listener_fd_(listener_fd),
      wake_fd_(wake_fd),
      port_(port),
      max_connections_(max_connections) {}

Acceptor::~Acceptor() {
  Stop();
  close(listener_fd_);
  close(wake_fd_);
}

void Acceptor::Start(Handler handler) {
  handler_ = std::move(handler);
  thread_ = std::thread([this] { Run(); });
}

void Acceptor::Stop() {
  if (stopping_.exchange(true)) return;
  const uint64_t one = 1;
  if (write(wake_fd_, &one, sizeof(one)) < 0) {
    LogError("cannot wake the acceptor", {{"error", std::strerror(errno)}});
  }
  if (thread_.joinable()) thread_.join();
}

void Acceptor::Run() {
  while (!stopping_) {
    pollfd fds[2] = {{listener_fd_, POLLIN, 0}, {wake_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) {
      LogError("poll failed", {{"error", std::strerror(errno)}});
    }
    if (!stopping_ && (fds[0].revents & POLLIN) != 0) AcceptPending();
  }
}

void Acceptor::AcceptPending() {
  while (!stopping_) {
    const int fd =
        accept4(listener_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      // EMFILE and its kin: the connection stays in the backlog.
      pollfd wake = {wake_fd_, POLLIN, 0};
      poll(&wake, 1, kRetryMs);
      return;
    }
    if (!HasRoom()) {
      ++refused_;
      close(fd);
      continue;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    open_[fd] = InodeOf(fd);
    handler_(listener_fd_, fd, open_.size());
  }
}

bool Acceptor::HasRoom() {
  if (open_.size() >= max_connections_ || open_.size() >= sweep_at_) Sweep();
  return open_.size() < max_connections_;
}

void Acceptor::Sweep() {
  for (auto it = open_.begin(); it != open_.end();) {
    it = InodeOf(it->first) == it->second ? std::next(it) : open_.erase(it);
  }
  // So that sweeping costs a constant per connection, and the count is never
  // more than twice the truth.
  constexpr size_t kLeast = 64;
  sweep_at_ = std::max(kLeast, 2 * open_.size());
}

absl::StatusOr<std::pair<std::string, int>> ParseHostPort(
    absl::string_view text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070"));
  }
  absl::string_view host = text.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) absl::ConsumeSuffix(&host, "]");
  return std::make_pair(std::string(host), port);
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4 = {};
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6 = {};
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace koinon
