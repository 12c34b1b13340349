#include "dht/swarm/fetch_candidates.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

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

void FetchCandidates::Insert(const Contact& contact, Namer namer, bool origin) {
  Entry entry;
  entry.candidate = {
      .number = ++last_number_, .contact = contact, .origin = origin};
  entry.namer = namer;
  entry.wait = options_.retry;
  entry.idle_wait = std::min(options_.idle_retry, options_.longest_retry);
  entries_[last_number_] = std::move(entry);
}

// Anybody may name a wrong address or site for a node, or a wrong node at an
// address: that hides nobody from who is believed more, and once it has failed,
// what others say is tried too.
bool FetchCandidates::IsKnownAs(const Entry& entry, const Contact& contact,
                                Namer namer) {
  const Contact& known = entry.candidate.contact;
  const bool same_address = known.address == contact.address;
  const bool same_id = known.id == contact.id && !contact.id.IsZero();
  if (!same_address && !same_id) return false;
  if (same_address && (entry.candidate.origin || known == contact)) return true;
  if (same_id && entry.strikes > 0) return true;  // a liar, wherever it is
  if (entry.namer > namer) return false;
  if (same_address && (known.id.IsZero() || contact.id.IsZero())) return true;
  return entry.connected || entry.failure.ok();
}

bool FetchCandidates::Knows(const Contact& contact, Namer namer) {
  bool knows = false;
  for (auto& [number, entry] : entries_) {
    if (!IsKnownAs(entry, contact, namer)) continue;
    knows = true;
    if (entry.candidate.contact == contact) {
      entry.namer = std::min(entry.namer, namer);
    }
  }
  return knows;
}

bool FetchCandidates::MakeRoomFor(Namer namer) {
  if (entries_.size() < options_.max_candidates) return true;
  const auto gives_way = [&](const Entry& entry) {
    if (entry.connected || entry.candidate.origin) return false;
    return entry.namer > namer || (entry.namer == namer && !entry.failure.ok());
  };
  // Whoever has the largest goes: a liar stays known as long as it can.
  const auto rank = [](const Entry& entry) {
    return std::tuple(entry.namer, !entry.failure.ok(), entry.strikes == 0,
                      ~entry.turn);
  };
  auto last = entries_.end();
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!gives_way(it->second)) continue;
    if (last == entries_.end() || rank(it->second) > rank(last->second)) {
      last = it;
    }
  }
  if (last == entries_.end()) return false;
  entries_.erase(last);
  return true;
}

void FetchCandidates::SetOrigin(const Contact& contact) {
  if (contact.address.empty()) return;
  Insert(contact, Namer::kTask, /*origin=*/true);
}

void FetchCandidates::Add(const Contact& contact, Namer namer) {
  if (contact.address.empty() || contact.id == options_.self) return;
  if (Knows(contact, namer) || !MakeRoomFor(namer)) return;
  Insert(contact, namer, /*origin=*/false);
}

bool FetchCandidates::HoldsUnprovenBack() const {
  const size_t unproven =
      std::count_if(entries_.begin(), entries_.end(), [](const auto& item) {
        return item.second.connected && IsUnproven(item.second);
      });
  return unproven >= options_.max_unproven;
}

std::optional<FetchCandidates::Candidate> FetchCandidates::Next(
    absl::Time now, bool only_origin) {
  const bool held_back = HoldsUnprovenBack();
  Entry* best = nullptr;
  for (auto& [number, entry] : entries_) {
    if (only_origin && !entry.candidate.origin) continue;
    if (!MayBeAsked(entry, held_back) || entry.not_before > now) continue;
    if (best == nullptr || entry.turn < best->turn) best = &entry;
  }
  if (best == nullptr) return std::nullopt;
  best->connected = true;
  best->turn = ++turns_;
  return best->candidate;
}

size_t FetchCandidates::connected() const {
  return std::count_if(entries_.begin(), entries_.end(), [](const auto& e) {
    return e.second.connected && !e.second.candidate.origin;
  });
}

bool FetchCandidates::alone() const {
  return std::all_of(entries_.begin(), entries_.end(), [](const auto& item) {
    const Entry& e = item.second;
    return e.candidate.origin || (e.turn > 0 && !e.connected);
  });
}

bool FetchCandidates::hopeful() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& item) {
    const Entry& e = item.second;
    return e.connected || e.turn == 0 || (!e.never && !e.empty_handed);
  });
}

size_t FetchCandidates::due(absl::Time now) const {
  const bool held_back = HoldsUnprovenBack();
  return std::count_if(entries_.begin(), entries_.end(), [&](const auto& item) {
    const Entry& e = item.second;
    return !e.candidate.origin && MayBeAsked(e, held_back) &&
           e.not_before <= now;
  });
}

absl::Time FetchCandidates::next_attempt(bool only_origin) const {
  const bool held_back = HoldsUnprovenBack();
  absl::Time next = absl::InfiniteFuture();
  for (const auto& [number, entry] : entries_) {
    if (only_origin && !entry.candidate.origin) continue;
    if (MayBeAsked(entry, held_back)) next = std::min(next, entry.not_before);
  }
  return next;
}

bool FetchCandidates::MayBeAsked(const Entry& entry, bool held_back) {
  return !entry.connected && !entry.never && !(held_back && IsUnproven(entry));
}

FetchCandidates::Entry* FetchCandidates::Find(Number number) {
  const auto it = entries_.find(number);
  return it == entries_.end() ? nullptr : &it->second;
}

void FetchCandidates::OnFailed(Number number, const absl::Status& why,
                               absl::Time now) {
  Entry* entry = Find(number);
  if (entry == nullptr) return;
  entry->connected = false;
  entry->failure = why;
  entry->never = entry->never || IsForGood(why);
  entry->empty_handed = absl::IsNotFound(why);
  entry->not_before = std::max(entry->not_before, now + entry->wait);
  entry->wait = std::min(2 * entry->wait, options_.longest_retry);
}

void FetchCandidates::OnWorked(Number number) {
  if (Entry* entry = Find(number)) entry->wait = options_.retry;
}

void FetchCandidates::OnIdle(Number number, absl::Time now) {
  Entry* entry = Find(number);
  if (entry == nullptr) return;
  entry->connected = false;
  entry->failure =
      absl::UnavailableError("it has nothing that is missing here");
  entry->empty_handed = false;
  entry->not_before = std::max(entry->not_before, now + entry->idle_wait);
  entry->idle_wait = std::min(2 * entry->idle_wait, options_.longest_retry);
}

void FetchCandidates::OnGave(Number number) {
  Entry* entry = Find(number);
  if (entry == nullptr) return;
  entry->gave = true;
  entry->idle_wait = std::min(options_.idle_retry, options_.longest_retry);
}

void FetchCandidates::OnLied(Number number, const absl::Status& why,
                             absl::Time now) {
  Entry* entry = Find(number);
  if (entry == nullptr) return;
  entry->connected = false;
  entry->failure = why;
  ++entry->strikes;
  entry->never = entry->never || entry->strikes >= options_.strikes;
  entry->not_before = now + options_.ban;
}

std::string FetchCandidates::Failures() const {
  std::vector<std::string> named;
  size_t more = 0;
  for (const auto& [number, entry] : entries_) {
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
