#ifndef KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_
#define KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/env.h"

namespace koinon::coordinator {

// A small file that says how many commits the database beside it has had. A
// write-ahead log that is cut short looks to SQLite like one that was never
// longer: only somebody who remembers how far it went can tell. Written without
// a sync after each durable commit, so that it costs no time, may lag after a
// power loss, and is never ahead of what was durable. Not thread-safe.
class CommitMark {
 public:
  // Reads the file, if it is there. Borrows `env`.
  static absl::StatusOr<CommitMark> Open(Env* env, const std::string& path);

  bool exists() const { return file_ != nullptr; }
  // 0 if it was never written, or not whole (a power loss may do that).
  int64_t commits() const { return commits_; }
  // Makes the file, if it is not there. Its name is not durable before its
  // folder is synced.
  absl::Status Create();
  // A failure is logged, once: the commit itself is durable. Requires exists().
  void Write(int64_t commits);

  const std::string& path() const { return path_; }

 private:
  CommitMark(Env* env, std::string path) : env_(env), path_(std::move(path)) {}

  Env* env_;
  std::string path_;
  std::unique_ptr<File> file_;  // null: it is not there
  int64_t commits_ = 0;
  bool failed_ = false;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_
