#include "dht/query/lookup.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "dht/routing/key_prefix.h"

namespace koinon::dht {

Lookup::Lookup(const Key& target, const Key& self,
               absl::Span<const Contact> seeds, Options options, absl::Time now)
    : target_(target),
      self_(self),
      options_(options),
      started_(now),
      paths_(options.paths) {
  KOINON_CHECK(options_.alpha > 0 && options_.beta > 0 && options_.paths > 0);
  std::vector<Contact> nearest(seeds.begin(), seeds.end());
  std::sort(nearest.begin(), nearest.end(),
            [&](const Contact& a, const Contact& b) {
              return Closer(target_, a.id, b.id);
            });
  size_t dealt = 0;
  for (const Contact& seed : nearest) {
    if (Hear(seed, dealt % paths_.size(), /*depth=*/1)) ++dealt;
  }
  FinishPaths();
}

size_t Lookup::PlaceOf(const Key& id) const {
  const uint64_t prefix = PrefixOf(target_) ^ PrefixOf(id);
  const auto place = std::partition_point(
      candidates_.begin(), candidates_.end(), [&](const Slot& slot) {
        return slot.prefix != prefix
                   ? slot.prefix < prefix
                   : Closer(target_, slot.candidate->contact.id, id);
      });
  return static_cast<size_t>(place - candidates_.begin());
}

bool Lookup::IsAt(size_t place, const Key& id) const {
  return place < candidates_.size() &&
         candidates_[place].candidate->contact.id == id;
}

bool Lookup::Hear(const Contact& contact, size_t path, size_t depth) {
  if (contact.id == self_ || contact.address.empty()) return false;
  const size_t place = PlaceOf(contact.id);
  if (IsAt(place, contact.id)) return false;
  if (paths_[path].candidates >= options_.max_candidates) {
    caps_ |= kCandidates;
    if (!DropFarther(place, path)) return false;
  }
  Slot slot{.prefix = PrefixOf(target_) ^ PrefixOf(contact.id),
            .candidate = std::make_unique<Candidate>()};
  slot.candidate->contact = contact;
  slot.candidate->path = path;
  slot.candidate->depth = depth;
  candidates_.insert(candidates_.begin() + place, std::move(slot));
  ++paths_[path].candidates;
  return true;
}

bool Lookup::DropFarther(size_t place, size_t path) {
  for (size_t i = candidates_.size(); i > place; --i) {
    const Candidate& candidate = *candidates_[i - 1].candidate;
    if (candidate.path != path || candidate.state != Candidate::kHeard) {
      continue;
    }
    candidates_.erase(candidates_.begin() + (i - 1));
    --paths_[path].candidates;
    return true;
  }
  return false;
}

std::vector<Contact> Lookup::Next(absl::Time now) {
  std::vector<Contact> asked;
  if (done()) return asked;
  if (now >= started_ + options_.deadline) {
    caps_ |= kDeadline;
    stopped_ = true;
    return asked;
  }
  MarkLate(now);
  for (size_t path = 0; path < paths_.size(); ++path) {
    if (!paths_[path].done) AskOnPath(path, now, &asked);
  }
  return asked;
}

void Lookup::MarkLate(absl::Time now) {
  for (const Slot& slot : candidates_) {
    Candidate& candidate = *slot.candidate;
    if (candidate.state != Candidate::kWaiting) continue;
    const absl::Duration out = now - steps_[candidate.step].asked;
    candidate.late = (out >= options_.hedge) + (out >= 2 * options_.hedge);
  }
}

void Lookup::AskOnPath(size_t path, absl::Time now,
                       std::vector<Contact>* asked) {
  size_t in_flight = 0;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    in_flight += candidate.path == path &&
                 candidate.state == Candidate::kWaiting && candidate.late == 0;
  }
  // Only the closest k are worth a question; those that are very late may well
  // fail, and then others are among the k.
  size_t closest = 0;
  for (const Slot& slot : candidates_) {
    Candidate& candidate = *slot.candidate;
    if (candidate.path != path) continue;
    if (candidate.state == Candidate::kFailed) continue;
    if (candidate.state == Candidate::kHeard) {
      if (in_flight >= options_.alpha ||
          paths_[path].questions >= options_.max_questions) {
        return;
      }
      candidate.state = Candidate::kWaiting;
      candidate.step = steps_.size();
      steps_.push_back({.contact = candidate.contact,
                        .path = path,
                        .depth = candidate.depth,
                        .asked = now});
      ++in_flight;
      ++paths_[path].questions;
      asked->push_back(candidate.contact);
    }
    const bool doubtful =
        candidate.state == Candidate::kWaiting && candidate.late > 1;
    if (!doubtful && ++closest >= std::max(options_.k, options_.beta)) return;
  }
}

Lookup::Candidate* Lookup::FindAsked(const Key& id) {
  const size_t place = PlaceOf(id);
  if (!IsAt(place, id)) return nullptr;
  Candidate* const candidate = candidates_[place].candidate.get();
  return candidate->state == Candidate::kHeard ? nullptr : candidate;
}

void Lookup::OnAnswer(const Key& id, absl::Span<const Contact> closer,
                      absl::Time now) {
  Candidate* const candidate = FindAsked(id);
  if (candidate == nullptr || candidate->state == Candidate::kAnswered) return;
  candidate->state = Candidate::kAnswered;
  Step& step = steps_[candidate->step];
  step.outcome = Step::kAnswered;
  step.took = now - step.asked;
  const size_t path = candidate->path;
  if (stopped_ || paths_[path].done) return;
  for (const Contact& contact : closer.subspan(0, options_.k)) {
    Hear(contact, path, candidate->depth + 1);
  }
  FinishPaths();
}

void Lookup::OnFailure(const Key& id, absl::Time now) {
  Candidate* const candidate = FindAsked(id);
  if (candidate == nullptr || candidate->state != Candidate::kWaiting) return;
  candidate->state = Candidate::kFailed;
  Step& step = steps_[candidate->step];
  step.outcome = Step::kFailed;
  step.took = now - step.asked;
  FinishPaths();
}

void Lookup::FinishPaths() {
  for (size_t path = 0; path < paths_.size(); ++path) {
    if (!paths_[path].done) paths_[path].done = IsOver(path);
  }
}

bool Lookup::IsOver(size_t path) {
  size_t answered = 0;  // of the closest, without a gap
  bool gap = false;
  bool waiting = false;
  bool unasked = false;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    if (candidate.path != path) continue;
    if (candidate.state == Candidate::kFailed) continue;
    if (candidate.state == Candidate::kAnswered) {
      if (!gap && ++answered >= options_.beta) return true;
      continue;
    }
    gap = true;
    waiting |= candidate.state == Candidate::kWaiting;
    unasked |= candidate.state == Candidate::kHeard;
  }
  if (waiting) return false;
  if (!unasked) return true;
  if (paths_[path].questions < options_.max_questions) return false;
  caps_ |= kQuestions;
  return true;
}

bool Lookup::done() const {
  return stopped_ || std::all_of(paths_.begin(), paths_.end(),
                                 [](const Path& path) { return path.done; });
}

absl::Time Lookup::next_deadline() const {
  if (done()) return absl::InfiniteFuture();
  absl::Time next = started_ + options_.deadline;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    if (candidate.state != Candidate::kWaiting || candidate.late > 1) continue;
    if (paths_[candidate.path].done) continue;
    next = std::min(next, steps_[candidate.step].asked +
                              (1 + candidate.late) * options_.hedge);
  }
  return next;
}

std::vector<Contact> Lookup::Closest() const {
  std::vector<Contact> closest;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    if (closest.size() >= options_.k) break;
    if (candidate.state != Candidate::kAnswered) continue;
    closest.push_back(candidate.contact);
  }
  return closest;
}

std::vector<Contact> Lookup::Heard() const {
  std::vector<Contact> heard;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    if (heard.size() >= options_.k) break;
    if (candidate.state == Candidate::kFailed) continue;
    heard.push_back(candidate.contact);
  }
  return heard;
}

size_t Lookup::depth() const {
  size_t depth = 0;
  size_t seen = 0;
  for (const Slot& slot : candidates_) {
    const Candidate& candidate = *slot.candidate;
    if (candidate.state != Candidate::kAnswered) continue;
    if (seen++ >= options_.k) break;
    depth = std::max(depth, candidate.depth);
  }
  return depth;
}

}  // namespace koinon::dht
