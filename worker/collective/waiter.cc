#include "worker/collective/waiter.h"

#include <sched.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace koinon::worker {
namespace {

// Between two looks at whether the other is alive.
constexpr absl::Duration kSlice = absl::Milliseconds(100);
// While messages of this rank's own need its help to move.
constexpr absl::Duration kProgressSlice = absl::Microseconds(50);
// Polls without a pause between, then with one that is a part of what was
// waited: what is late by much may be noticed late by little.
constexpr int kEagerPolls = 200;
constexpr int kAwakePolls = 2000;  // of a rank that has a processor to itself
constexpr absl::Duration kFirstPause = absl::Microseconds(20);
constexpr absl::Duration kLongestPause = absl::Milliseconds(2);
constexpr int kPartOfWait = 8;

void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

absl::Status NoProgress(absl::string_view whom, absl::Duration waited) {
  return absl::UnavailableError(absl::StrCat(whom, " made no progress for ",
                                             absl::FormatDuration(waited)));
}

}  // namespace

absl::Status Waiter::Await(const SharedFlag& flag, uint32_t target, int whom,
                           absl::Duration grace) {
  if (flag.Reached(target)) return absl::OkStatus();
  for (int i = 0; i < options_.spins; ++i) {
    Pause();
    if (flag.Reached(target)) return absl::OkStatus();
  }
  return Sleep(flag, target, whom, grace);
}

absl::Status Waiter::Sleep(const SharedFlag& flag, uint32_t target, int whom,
                           absl::Duration grace) {
  absl::Duration slept, checked;
  while (true) {
    const bool soon = options_.progress && options_.progress();
    const absl::Duration slice = soon ? kProgressSlice : kSlice;
    if (flag.WaitFor(target, slice)) return absl::OkStatus();
    slept += slice;
    if (slept - checked < kSlice) continue;
    checked = slept;
    if (options_.alive && !options_.alive(whom)) {
      return absl::UnavailableError(absl::StrCat(options_.name(whom), " died"));
    }
    if (slept >= options_.limit + grace) {
      return NoProgress(options_.name(whom), slept);
    }
  }
}

absl::Status Waiter::AwaitPoll(absl::FunctionRef<absl::StatusOr<bool>()> done,
                               absl::FunctionRef<std::string()> whom,
                               absl::Duration grace) {
  absl::Duration slept;
  const bool yields = options_.spins == 0;
  for (int64_t polls = 0;; ++polls) {
    ABSL_ASSIGN_OR_RETURN(const bool is_done, done());
    if (is_done) return absl::OkStatus();
    if (polls < (yields ? kEagerPolls : kAwakePolls)) {
      if (yields) sched_yield();
      continue;
    }
    const absl::Duration pause =
        std::clamp(slept / kPartOfWait, kFirstPause, kLongestPause);
    absl::SleepFor(pause);
    slept += pause;
    if (slept >= options_.limit + grace) return NoProgress(whom(), slept);
  }
}

}  // namespace koinon::worker
