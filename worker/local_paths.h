#ifndef KOINON_WORKER_LOCAL_PATHS_H_
#define KOINON_WORKER_LOCAL_PATHS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace koinon::worker {

// Takes the paths of a worker's files out of what it tells others. Its own
// errors name them, for its log; the coordinator's operator must not read there
// where this site keeps its data (docs/security.md).
//
//   const LocalPaths paths({"/data/ward b/scans.npz", "state"});
//   paths.Hide("state/updates/1.tmp: disk full") == "(local path): disk full"
//
// Immutable; thread-safe.
class LocalPaths {
 public:
  // `known`: files and folders, as errors name them. They may be relative and
  // hold blanks.
  explicit LocalPaths(std::vector<std::string> known);

  // `text` with "(local path)" in place of each known path, with what lies
  // under it, and of whatever else starts as an absolute path does, up to the
  // next blank, quote, bracket, comma, colon or semicolon.
  std::string Hide(absl::string_view text) const;

 private:
  // The length of the path that starts at `at`; 0: none does.
  size_t LengthAt(absl::string_view text, size_t at) const;

  std::vector<std::string> known_;  // longest first
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_LOCAL_PATHS_H_
