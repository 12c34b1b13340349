#ifndef KOINON_TOOLS_CLI_WATCH_H_
#define KOINON_TOOLS_CLI_WATCH_H_

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "proto/client.pb.h"
#include "tools/cli/client.h"
#include "tools/cli/watch_view.h"

namespace koinon::cli {

// How a watched job is shown: a table with live bars for a terminal, the table
// alone for a pipe or a file, or one JSON object for each event.
enum class WatchStyle { kTerminal, kPlain, kJson };

// kJson if wanted, else by what `out` is.
WatchStyle WatchStyleFor(std::FILE* out, bool json);

// Prints a watched job. Thread-safe.
class WatchPrinter {
 public:
  // `out` must outlive the printer. detail: below each round what its rule
  // decided; in JSON it always stands.
  WatchPrinter(std::FILE* out, WatchStyle style, bool detail = false);
  // Prints what the event adds.
  void OnEvent(const v1::JobEvent& event);
  // A line of the caller's own, in between; nothing in JSON.
  void Note(const std::string& line);
  // What is still to say at the end of the job.
  void Finish();
  v1::JobStatus status() const;

 private:
  void Print(const std::vector<std::string>& lines)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseLive() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DrawLive(bool now_or_never) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::FILE* const out_;
  const WatchStyle style_;

  mutable Mutex mutex_;
  WatchView view_ ABSL_GUARDED_BY(mutex_);
  bool header_printed_ ABSL_GUARDED_BY(mutex_) = false;
  size_t live_lines_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time last_draw_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

struct WatchOptions {
  bool from_start = true;
  // A stream that breaks off is opened again, so many times without an event in
  // between, `retry_delay` apart.
  int retries = 60;
  absl::Duration retry_delay = absl::Seconds(1);
};

// Hands `on_event` every event of the job until it ends; returns its last
// status. UNAVAILABLE once the retries are used up; NOT_FOUND and the
// coordinator's other errors at once. After a broken stream the coordinator
// repeats what it told before.
absl::StatusOr<v1::JobStatus> WatchUntilEnd(
    Client* client, const std::string& job, const WatchOptions& options,
    const std::function<void(const v1::JobEvent&)>& on_event);

bool IsFinal(v1::JobState state);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_WATCH_H_
