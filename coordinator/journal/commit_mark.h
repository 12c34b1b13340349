#ifndef KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_
#define KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_

#include <cstdint>
#include <memory>
#include <string>

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
  // Opens or creates the file.
  static absl::StatusOr<CommitMark> Open(Env* env, const std::string& path);

  // Whether Open has created it.
  bool is_new() const { return is_new_; }
  // 0 if it was never written, or not whole (a power loss may do that).
  int64_t commits() const { return commits_; }
  // A failure is logged, once: the commit itself is durable.
  void Write(int64_t commits);

  const std::string& path() const { return path_; }

 private:
  CommitMark(std::string path, std::unique_ptr<File> file, bool is_new,
             int64_t commits)
      : path_(std::move(path)),
        file_(std::move(file)),
        is_new_(is_new),
        commits_(commits) {}

  std::string path_;
  std::unique_ptr<File> file_;
  bool is_new_;
  int64_t commits_;
  bool failed_ = false;
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_JOURNAL_COMMIT_MARK_H_
