#ifndef KOINON_COORDINATOR_ROUND_MEMBERS_H_
#define KOINON_COORDINATOR_ROUND_MEMBERS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "base/ids.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// What a round's member is doing.
enum class MemberState {
  kOffered,   // asked, or to be asked when it comes back
  kTraining,  // accepted the task
  kReceived,  // its update is durable and in the round
  kGone,      // refused, failed, lost its lease, or its update was refused
};

// Why a member is kGone, and so whether it may be asked again in this round.
enum class Departure {
  kNone,
  kLost,      // comes back as soon as it registers again; its update is taken
  kDeclined,  // refused or failed the task: asked again in the next attempt
  kUnusable,  // its update could not be aggregated: left out until the next
              // round
};

struct Member {
  MemberState state = MemberState::kOffered;
  std::string reason;                      // when kGone
  v1::Metrics metrics;                     // when kReceived
  Departure departure = Departure::kNone;  // when kGone
  // The round that its task was offered in, and so the base version + 1. 0: the
  // round whose member it is. Earlier only in buffered rounds.
  int64_t task_round = 0;
};
using Members = std::map<WorkerId, Member>;

// A member that has left. The reason, which may come from a peer, is cut to
// kMaxReasonBytes.
constexpr size_t kMaxReasonBytes = 256;
Member Departed(Departure departure, const std::string& reason);

// kOffered or kTraining: may still deliver what it was asked for.
bool IsPending(const Member& member);
// Pending, or lost and so welcome back.
bool MayDeliver(const Member& member);

// How many are in which state, kept up to date as members change.
struct Tally {
  size_t pending = 0;
  size_t received = 0;
  void Add(const Member& member);
  void Remove(const Member& member);
};

// Candidates (ascending) that are no members.
std::vector<WorkerId> NotMembers(absl::Span<const WorkerId> candidates,
                                 const Members& members);
// Candidates (ascending) that have left, but may be asked in another attempt.
std::vector<WorkerId> Askable(absl::Span<const WorkerId> candidates,
                              const Members& members);
// Candidates (ascending) that are not at work as members.
std::vector<WorkerId> NotPending(absl::Span<const WorkerId> candidates,
                                 const Members& members);
bool Contains(absl::Span<const WorkerId> ascending, const WorkerId& worker);

// " (site-a: no such file; site-b: ...)", with the first few reasons; empty if
// there are none.
std::string QuoteReasons(const Members& members);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ROUND_MEMBERS_H_
