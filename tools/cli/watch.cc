#include "tools/cli/watch.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tools/cli/proto_json.h"

namespace koinon::cli {
namespace {

// Progress of a thousand workers must not become a thousand redraws.
constexpr absl::Duration kRedrawInterval = absl::Milliseconds(100);

}  // namespace

WatchStyle WatchStyleFor(std::FILE* out, bool json) {
  if (json) return WatchStyle::kJson;
  return isatty(fileno(out)) == 1 ? WatchStyle::kTerminal : WatchStyle::kPlain;
}

WatchPrinter::WatchPrinter(std::FILE* out, WatchStyle style, bool detail)
    : out_(out), style_(style), view_(detail) {}

v1::JobStatus WatchPrinter::status() const {
  MutexLock lock(&mutex_);
  return view_.status();
}

void WatchPrinter::OnEvent(const v1::JobEvent& event) {
  MutexLock lock(&mutex_);
  const std::vector<std::string> lines = view_.Apply(event);
  if (style_ == WatchStyle::kJson) {
    Print({ToJsonLine(event)});
    return;
  }
  if (!header_printed_) {
    header_printed_ = true;
    Print({view_.Header()});
  }
  Print(lines);
  // Of a worker's progress there is soon more; of the job's state there may
  // not be.
  DrawLive(/*now_or_never=*/!event.has_worker());
}

void WatchPrinter::Note(const std::string& line) {
  if (style_ == WatchStyle::kJson) return;
  MutexLock lock(&mutex_);
  Print({line});
}

void WatchPrinter::Finish() {
  MutexLock lock(&mutex_);
  EraseLive();
  if (style_ == WatchStyle::kJson) return;
  Print(view_.Finish());
  Print({view_.Summary()});
}

void WatchPrinter::Print(const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  EraseLive();
  for (const std::string& line : lines) {
    std::fprintf(out_, "%s\n", line.c_str());
  }
  std::fflush(out_);
}

void WatchPrinter::EraseLive() {
  // Up to the first live line, then clear to the end of the screen.
  if (live_lines_ > 0) std::fprintf(out_, "\x1b[%zuF\x1b[J", live_lines_);
  live_lines_ = 0;
}

void WatchPrinter::DrawLive(bool now_or_never) {
  if (style_ != WatchStyle::kTerminal) return;
  const absl::Time now = absl::Now();
  if (!now_or_never && live_lines_ > 0 && now - last_draw_ < kRedrawInterval) {
    return;
  }
  last_draw_ = now;
  EraseLive();
  for (const std::string& line : view_.LiveLines()) {
    std::fprintf(out_, "%s\n", line.c_str());
    ++live_lines_;
  }
  std::fflush(out_);
}

bool IsFinal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED ||
         state == v1::CANCELLED;
}

absl::StatusOr<v1::JobStatus> WatchUntilEnd(
    Client* client, const std::string& job, const WatchOptions& options,
    const std::function<void(const v1::JobEvent&)>& on_event) {
  v1::JobStatus last;
  int failures = 0;
  while (true) {
    const absl::Status status = client->WatchJob(
        job, options.from_start, [&](const v1::JobEvent& event) {
          failures = 0;
          if (event.has_status()) last = event.status();
          on_event(event);
          return true;
        });
    if (IsFinal(last.state())) return last;
    // A coordinator that stops ends the stream without an error.
    const bool broken =
        status.ok() || status.code() == absl::StatusCode::kUnavailable;
    if (!broken) return status;
    if (++failures > options.retries) {
      return status.ok() ? absl::UnavailableError(absl::StrCat(
                               "the coordinator at ", client->address(),
                               " keeps ending the stream of job ", job))
                         : status;
    }
    absl::SleepFor(options.retry_delay);
  }
}

}  // namespace koinon::cli
