#include "base/absl_mutexes.h"

#include "absl/synchronization/mutex.h"

namespace koinon {

void StopSearchForDeadlocks() {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace koinon
