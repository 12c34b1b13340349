#include "dht/swarm/fetch_candidates.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace koinon::dht {
namespace {

constexpr size_t kMaxFailuresNamed = 5;

bool IsForGood(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || absl::IsUnauthenticated(status);
}

std::string NameOf(const Contact& contact) {
  if (contact.id.IsZero()) return contact.address;
  return absl::StrCat(contact.id.ToShortHex(), " at ", contact.address);
}

}  // namespace

void FetchCandidates::Insert(const Contact& contact, bool origin) {
  Entry entry;
  entry.candidate = {
      .number = entries_.size() + 1, .contact = contact, .origin = origin};
  entry.wait = options_.retry;
  entry.idle_wait = std::min(options_.idle_retry, options_.longest_retry);
  entries_.push_back(std::move(entry));
}

// Anybody may name a wrong address or site for a node, or a wrong node at an
// address: once that has failed, what others say is tried too.
bool FetchCandidates::IsKnownAs(const Entry& entry, const Contact& contact) {
  const Contact& known = entry.candidate.contact;
  const bool same_address = known.address == contact.address;
  const bool same_id = known.id == contact.id && !contact.id.IsZero();
  if (!same_address && !same_id) return false;
  if (same_address && (entry.candidate.origin || known == contact)) return true;
  if (same_address && (known.id.IsZero() || contact.id.IsZero())) return true;
  if (same_id && entry.strikes > 0) return true;  // a liar, wherever it is
  return entry.connected || entry.failure.ok();
}

bool FetchCandidates::Knows(const Contact& contact) const {
  return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
    return IsKnownAs(entry, contact);
  });
}

void FetchCandidates::SetOrigin(const Contact& contact) {
  if (!contact.address.empty()) Insert(contact, /*origin=*/true);
}

void FetchCandidates::Add(const Contact& contact) {
  if (contact.address.empty() || contact.id == options_.self) return;
  if (entries_.size() >= options_.max_candidates || Knows(contact)) return;
  Insert(contact, /*origin=*/false);
}

std::optional<FetchCandidates::Candidate> FetchCandidates::Next(
    absl::Time now, bool only_origin) {
  Entry* best = nullptr;
  for (Entry& entry : entries_) {
    if (only_origin && !entry.candidate.origin) continue;
    if (!IsDue(entry, now)) continue;
    if (best == nullptr || entry.turn < best->turn) best = &entry;
  }
  if (best == nullptr) return std::nullopt;
  best->connected = true;
  best->turn = ++turns_;
  return best->candidate;
}

size_t FetchCandidates::connected() const {
  return std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) {
    return e.connected && !e.candidate.origin;
  });
}

bool FetchCandidates::alone() const {
  return std::all_of(entries_.begin(), entries_.end(), [](const Entry& e) {
    return e.candidate.origin || (e.turn > 0 && !e.connected);
  });
}

bool FetchCandidates::hopeful() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& e) {
    return e.connected || e.turn == 0 || (!e.never && !e.empty_handed);
  });
}

size_t FetchCandidates::due(absl::Time now) const {
  return std::count_if(entries_.begin(), entries_.end(), [&](const Entry& e) {
    return !e.candidate.origin && IsDue(e, now);
  });
}

absl::Time FetchCandidates::next_attempt(bool only_origin) const {
  absl::Time next = absl::InfiniteFuture();
  for (const Entry& entry : entries_) {
    if (only_origin && !entry.candidate.origin) continue;
    if (!entry.connected && !entry.never) {
      next = std::min(next, entry.not_before);
    }
  }
  return next;
}

FetchCandidates::Entry* FetchCandidates::Find(Number number) {
  return &entries_.at(number - 1);
}

void FetchCandidates::OnFailed(Number number, const absl::Status& why,
                               absl::Time now) {
  Entry* entry = Find(number);
  entry->connected = false;
  entry->failure = why;
  entry->never = entry->never || IsForGood(why);
  entry->empty_handed = absl::IsNotFound(why);
  entry->not_before = std::max(entry->not_before, now + entry->wait);
  entry->wait = std::min(2 * entry->wait, options_.longest_retry);
}

void FetchCandidates::OnWorked(Number number) {
  Find(number)->wait = options_.retry;
}

void FetchCandidates::OnIdle(Number number, absl::Time now) {
  Entry* entry = Find(number);
  entry->connected = false;
  entry->failure =
      absl::UnavailableError("it has nothing that is missing here");
  entry->empty_handed = false;
  entry->not_before = std::max(entry->not_before, now + entry->idle_wait);
  entry->idle_wait = std::min(2 * entry->idle_wait, options_.longest_retry);
}

void FetchCandidates::OnGave(Number number) {
  Find(number)->idle_wait =
      std::min(options_.idle_retry, options_.longest_retry);
}

void FetchCandidates::OnLied(Number number, const absl::Status& why,
                             absl::Time now) {
  Entry* entry = Find(number);
  entry->connected = false;
  entry->failure = why;
  ++entry->strikes;
  entry->never = entry->never || entry->strikes >= options_.strikes;
  entry->not_before = now + options_.ban;
}

std::string FetchCandidates::Failures() const {
  std::vector<std::string> named;
  size_t more = 0;
  for (const Entry& entry : entries_) {
    if (entry.failure.ok()) continue;
    if (named.size() == kMaxFailuresNamed) {
      ++more;
      continue;
    }
    named.push_back(absl::StrCat(NameOf(entry.candidate.contact), ": ",
                                 entry.failure.ToString()));
  }
  if (entries_.empty()) return "nobody is known to have it";
  if (named.empty()) {
    return absl::StrCat(entries_.size(), " asked, none has answered");
  }
  if (more > 0) named.push_back(absl::StrCat("and ", more, " more"));
  return absl::StrJoin(named, "; ");
}

}  // namespace koinon::dht
