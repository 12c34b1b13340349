#ifndef KOINON_BASE_TESTING_ENV_H_
#define KOINON_BASE_TESTING_ENV_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/env.h"
#include "base/mutex.h"

namespace koinon {

// A file system in memory that can lose power. For tests.
//
//   MemoryEnv env;
//   ... code under test writes below "/data" ...
//   env.CrashAndLoseUnsynced();
//   ... code under test opens "/data" again ...
//
// It keeps no more than POSIX promises: a file's data is durable after Sync,
// and a name (new, renamed, removed, a directory's too) after SyncDir of the
// directory that holds it. "/" and "." always exist. Thread-safe. Renames files
// only.
class MemoryEnv final : public Env {
 public:
  MemoryEnv();
  ~MemoryEnv() override;

  // What was not durable is gone; files that are open fail from now on.
  void CrashAndLoseUnsynced();

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             OpenMode mode) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDir(const std::string& dir) override;
  absl::Status MakeDirs(const std::string& dir) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override;
  bool Exists(const std::string& path) override;
  absl::StatusOr<bool> IsPrivate(const std::string& path) override;

 private:
  struct State;
  class MemoryFile;

  // Shared with the files that are open, which may outlive this object.
  std::shared_ptr<State> state_;
};

// Passes everything on to another Env, and fails on demand. For tests.
//
//   FaultInjectingEnv env(&memory);
//   env.FailAt(Operation::kSync, 2, absl::DataLossError("broken disk"));
//
// A write that fails has written the first half of its bytes; any other
// operation that fails has done nothing. Exists and IsPrivate never fail.
// Thread-safe. `base` must outlive this object, and this object its files.
class FaultInjectingEnv final : public Env {
 public:
  enum class Operation {
    kOpen,
    kRead,
    kWrite,
    kSync,
    kResize,
    kRename,
    kRemove,
    kSyncDir,
    kMakeDirs,
    kList,
  };
  static constexpr size_t kOperations = 10;

  explicit FaultInjectingEnv(Env* base) : base_(base) {}

  // The k-th operation of the kind from now fails, once; 1 is the next.
  void FailAt(Operation operation, int64_t k, absl::Status status);
  // Every operation of the kind fails.
  void FailAlways(Operation operation, absl::Status status);
  // The k-th operation of any kind from now and all after it fail, as after the
  // death of a process: for sweeps over every place where one can die.
  void FailAllFrom(int64_t k, absl::Status status);
  // Nothing fails any more; the counts go on.
  void StopFailing();
  // From now on what needs room on the disk fails with RESOURCE_EXHAUSTED.
  void FillDisk();

  // How many operations there were since the construction, failed ones too.
  int64_t count(Operation operation) const;
  int64_t total_count() const;

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             OpenMode mode) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDir(const std::string& dir) override;
  absl::Status MakeDirs(const std::string& dir) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override;
  bool Exists(const std::string& path) override { return base_->Exists(path); }
  absl::StatusOr<bool> IsPrivate(const std::string& path) override {
    return base_->IsPrivate(path);
  }

 private:
  class FaultInjectingFile;
  // For one kind of operation.
  struct Plan {
    int64_t count = 0;
    int64_t fail_at = 0;  // the count to fail at; 0 is never
    absl::Status at_status;
    absl::Status always_status;
  };

  // Counts one operation; not OK if it is to fail.
  absl::Status Enter(const std::string& path, Operation operation);

  Env* const base_;
  mutable Mutex mutex_;
  std::array<Plan, kOperations> plans_ ABSL_GUARDED_BY(mutex_);
  int64_t total_count_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t fail_all_from_ ABSL_GUARDED_BY(mutex_) = 0;  // 0 is never
  absl::Status fail_all_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon

#endif  // KOINON_BASE_TESTING_ENV_H_
