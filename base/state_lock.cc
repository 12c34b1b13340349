#include "base/state_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace koinon {

absl::StatusOr<std::unique_ptr<StateLock>> StateLock::Acquire(
    const std::string& dir) {
  const std::string path = absl::StrCat(dir, "/lock");
  // Not for programs that this one starts: they may outlive it.
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, path);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    close(descriptor);
    if (error != EWOULDBLOCK) return absl::ErrnoToStatus(error, path);
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": another process uses this state directory"));
  }
  return std::unique_ptr<StateLock>(new StateLock(descriptor));
}

StateLock::~StateLock() { close(descriptor_); }

}  // namespace koinon
