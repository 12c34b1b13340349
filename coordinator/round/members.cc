#include "coordinator/round/members.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace koinon::coordinator {
namespace {

// How many members' reasons a message quotes.
constexpr size_t kQuotedReasons = 3;

// At most kMaxReasonBytes, without half a UTF-8 character at the end.
std::string CutReason(const std::string& reason) {
  if (reason.size() <= kMaxReasonBytes) return reason;
  size_t end = kMaxReasonBytes;
  while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0) == 0x80) {
    --end;
  }
  return reason.substr(0, end);
}

}  // namespace

Member Departed(Departure departure, const std::string& reason) {
  Member member;
  member.state = MemberState::kGone;
  member.departure = departure;
  member.reason = CutReason(reason);
  return member;
}

bool IsPending(const Member& member) {
  return member.state == MemberState::kOffered ||
         member.state == MemberState::kTraining;
}

bool MayDeliver(const Member& member) {
  return IsPending(member) || (member.state == MemberState::kGone &&
                               member.departure == Departure::kLost);
}

void Tally::Add(const Member& member) {
  if (IsPending(member)) ++pending;
  if (member.state == MemberState::kReceived) ++received;
}

void Tally::Remove(const Member& member) {
  if (IsPending(member)) --pending;
  if (member.state == MemberState::kReceived) --received;
}

std::vector<WorkerId> NotMembers(absl::Span<const WorkerId> candidates,
                                 const Members& members) {
  std::vector<WorkerId> fresh;
  for (const WorkerId& worker : candidates) {
    if (members.count(worker) == 0) fresh.push_back(worker);
  }
  return fresh;
}

std::vector<WorkerId> Askable(absl::Span<const WorkerId> candidates,
                              const Members& members) {
  std::vector<WorkerId> askable;
  for (const WorkerId& worker : candidates) {
    auto it = members.find(worker);
    if (it != members.end() && it->second.state == MemberState::kGone &&
        it->second.departure != Departure::kUnusable) {
      askable.push_back(worker);
    }
  }
  return askable;
}

std::vector<WorkerId> NotPending(absl::Span<const WorkerId> candidates,
                                 const Members& members) {
  std::vector<WorkerId> idle;
  for (const WorkerId& worker : candidates) {
    const auto it = members.find(worker);
    if (it == members.end() || !IsPending(it->second)) idle.push_back(worker);
  }
  return idle;
}

bool Contains(absl::Span<const WorkerId> ascending, const WorkerId& worker) {
  return std::binary_search(ascending.begin(), ascending.end(), worker);
}

std::string QuoteReasons(const Members& members) {
  std::vector<std::string> quoted;
  for (const auto& [worker, member] : members) {
    if (member.reason.empty()) continue;
    if (quoted.size() == kQuotedReasons) {
      quoted.push_back("...");
      break;
    }
    quoted.push_back(absl::StrCat(worker, ": ", member.reason));
  }
  if (quoted.empty()) return "";
  return absl::StrCat(" (", absl::StrJoin(quoted, "; "), ")");
}

}  // namespace koinon::coordinator
