#ifndef KOINON_BASE_STATE_LOCK_H_
#define KOINON_BASE_STATE_LOCK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace koinon {

// Keeps a second process off a state directory for as long as this lives. The
// lock is the kernel's (flock on DIR/lock): it ends with the process, however
// that ends.
class StateLock {
 public:
  // Creates the file, not the directory. FAILED_PRECONDITION if another process
  // holds the lock; otherwise what the file system says, with the path.
  static absl::StatusOr<std::unique_ptr<StateLock>> Acquire(
      const std::string& dir);
  ~StateLock();
  StateLock(const StateLock&) = delete;
  StateLock& operator=(const StateLock&) = delete;

 private:
  explicit StateLock(int descriptor) : descriptor_(descriptor) {}
  const int descriptor_;
};

}  // namespace koinon

#endif  // KOINON_BASE_STATE_LOCK_H_
