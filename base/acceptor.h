#ifndef KOINON_BASE_ACCEPTOR_H_
#define KOINON_BASE_ACCEPTOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace koinon {

// Listens and hands accepted connections on, in place of gRPC's own listener:
// gRPC 1.51 never accepts again once accept() has failed for want of a file
// descriptor. Here a failed accept is tried again as soon as descriptors are
// free, and connections over a bound are closed before gRPC sees them.
// Thread-safe; owns one thread.
class Acceptor {
 public:
  struct Options {
    std::string host;  // a numeric address, or a name that resolves
    int port = 0;      // 0: any free one
    // Connections open at once. The bound in force is lower where the process's
    // descriptor limit leaves less beside `reserved_descriptors`.
    size_t max_connections = 0;
    size_t reserved_descriptors = 64;
  };
  // Takes ownership of the connected descriptor and closes it in the end.
  // `open`: how many of those handed on are open at most, this one included.
  using Handler = std::function<void(int listener_fd, int fd, size_t open)>;

  // UNAVAILABLE, naming the address, if it cannot be listened on.
  static absl::StatusOr<std::unique_ptr<Acceptor>> Listen(
      const Options& options);
  ~Acceptor();

  // Once: starts accepting.
  void Start(Handler handler);
  // Accepts no more; connections that were handed on live on.
  void Stop();

  int port() const { return port_; }
  size_t max_connections() const { return max_connections_; }
  // Connections closed because the bound was reached.
  uint64_t refused() const { return refused_; }

 private:
  Acceptor(int listener_fd, int wake_fd, int port, size_t max_connections);
  void Run();
  void AcceptPending();
  bool HasRoom();
  // Forgets the connections that are closed.
  void Sweep();

  const int listener_fd_;
  const int wake_fd_;
  const int port_;
  const size_t max_connections_;
  Handler handler_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> refused_{0};
  // Descriptor -> inode of its socket, of the connections that were handed on.
  // One is closed when its descriptor has another inode, or none.
  std::map<int, uint64_t> open_;  // the thread's own
  size_t sweep_at_ = 0;           // how many make the next sweep due
};

// "127.0.0.1:7070", "[::1]:0", "coordinator.example:7070" -> host and port.
// INVALID_ARGUMENT says what is expected.
absl::StatusOr<std::pair<std::string, int>> ParseHostPort(
    absl::string_view text);
// True for 127.0.0.0/8, ::1 and "localhost".
bool IsLoopback(absl::string_view host);

}  // namespace koinon

#endif  // KOINON_BASE_ACCEPTOR_H_
