#include "dht/routing/routing_table.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "base/random.h"

namespace koinon::dht {
namespace {

// Bit `bit` of the key, counted from its first.
bool BitAt(const Key& key, size_t bit) {
  return (key.bytes()[bit / 8] >> (7 - bit % 8) & 1) != 0;
}

Key RandomKey(uint64_t seed) {
  Random random(seed);
  std::string bytes;
  while (bytes.size() < Key::kSizeBytes) {
    const uint64_t word = random.NextUint64();
    for (size_t i = 0; i < sizeof(word); ++i) {
      bytes.push_back(static_cast<char>(word >> (8 * i)));
    }
  }
  return *Key::FromBytes(bytes);
}

}  // namespace

RoutingTable::RoutingTable(const Key& self, Options options)
    : self_(self), options_(options), full_(options.full_table > 0) {}

RoutingTable::Entries::const_iterator RoutingTable::LowerBound(
    const Key& id) const {
  return std::lower_bound(
      alive_.begin(), alive_.end(), id,
      [](const std::unique_ptr<Entry>& entry, const Key& key) {
        return entry->contact.id < key;
      });
}

RoutingTable::Entry* RoutingTable::Find(const Key& id) const {
  const auto found = LowerBound(id);
  return found != alive_.end() && (*found)->contact.id == id ? found->get()
                                                             : nullptr;
}

size_t RoutingTable::BucketOf(const Key& id) const {
  return CommonPrefixBits(self_, id);
}

RoutingTable::Bucket& RoutingTable::GrowTo(size_t bucket) {
  if (buckets_.size() <= bucket) buckets_.resize(bucket + 1);
  return buckets_[bucket];
}

RoutingTable::Waiting* RoutingTable::FindWaiting(Bucket& bucket,
                                                 const Key& id) const {
  const auto found =
      std::find_if(bucket.waiting.begin(), bucket.waiting.end(),
                   [&](const Waiting& w) { return w.contact.id == id; });
  return found == bucket.waiting.end() ? nullptr : &*found;
}

void RoutingTable::Forget(Bucket& bucket, Waiting* waiting) {
  bucket.waiting.erase(bucket.waiting.begin() +
                       (waiting - bucket.waiting.data()));
}

bool RoutingTable::WouldBeSibling(const Key& id) const {
  if (options_.siblings == 0) return false;
  return siblings_.size() < options_.siblings ||
         Closer(self_, id, siblings_.back()->contact.id);
}

bool RoutingTable::HasPlace(size_t bucket, const Key& id) const {
  if (full_) return true;
  const std::vector<Waiting>& waiting = buckets_[bucket].waiting;
  const size_t coming =
      std::count_if(waiting.begin(), waiting.end(),
                    [](const Waiting& w) { return w.pinging; });
  return buckets_[bucket].alive + coming < options_.bucket_size ||
         WouldBeSibling(id);
}

RoutingTable::Waiting* RoutingTable::Wait(Bucket& bucket, Waiting waiting) {
  if (options_.replacements == 0) return nullptr;
  if (bucket.waiting.size() >= options_.replacements) {
    const auto oldest =
        std::find_if(bucket.waiting.begin(), bucket.waiting.end(),
                     [](const Waiting& w) { return !w.pinging; });
    if (oldest == bucket.waiting.end()) return nullptr;
    bucket.waiting.erase(oldest);
  }
  bucket.waiting.push_back(std::move(waiting));
  return &bucket.waiting.back();
}

bool RoutingTable::OnHeard(const Contact& contact, absl::Time now,
                           bool itself) {
  if (contact.id == self_ || contact.address.empty()) return false;
  if (Find(contact.id) != nullptr) return false;
  const size_t index = BucketOf(contact.id);
  Bucket& bucket = GrowTo(index);
  Waiting waiting{.contact = contact, .not_before = now};
  if (Waiting* known = FindWaiting(bucket, contact.id); known != nullptr) {
    const bool too_soon = known->not_before > now;
    const bool is_news = itself || known->contact.address != contact.address;
    if (too_soon && (known->pinging || !is_news)) return false;
    waiting.failures = known->failures;
    Forget(bucket, known);
  }
  Waiting* const kept = Wait(bucket, std::move(waiting));
  if (kept == nullptr || !HasPlace(index, contact.id)) return false;
  StartPing(kept, now);
  return true;
}

bool RoutingTable::OnAnswered(const Contact& contact, absl::Time now) {
  if (contact.id == self_ || contact.address.empty()) return false;
  if (Entry* entry = Find(contact.id); entry != nullptr) {
    if (!(entry->contact == contact)) entry->contact = contact;
    entry->answered = now;
    entry->failures = 0;
    entry->pinging = false;
    return false;
  }
  Bucket& bucket = GrowTo(BucketOf(contact.id));
  if (Waiting* known = FindWaiting(bucket, contact.id); known != nullptr) {
    Forget(bucket, known);
  }
  if (!full_ && bucket.alive >= options_.bucket_size &&
      !WouldBeSibling(contact.id)) {
    Wait(bucket, {.contact = contact, .not_before = now});
    return false;
  }
  Enter(contact, now);
  if (full_ && alive_.size() > options_.full_table) ShrinkToBuckets();
  return Contains(contact.id);
}

void RoutingTable::StartPing(Waiting* waiting, absl::Time now) {
  waiting->pinging = true;
  waiting->not_before = now + options_.patience;
  next_ping_ = std::min(next_ping_, waiting->not_before);
}

void RoutingTable::Enter(const Contact& contact, absl::Time now) {
  Bucket& bucket = buckets_[BucketOf(contact.id)];
  auto entry = std::make_unique<Entry>();
  entry->contact = contact;
  entry->answered = now;
  entry->order = next_order_++;
  entry->in_bucket = full_ || bucket.alive < options_.bucket_size;
  if (entry->in_bucket) ++bucket.alive;
  Entry* const entered = entry.get();
  alive_.insert(LowerBound(contact.id), std::move(entry));
  JoinSiblings(entered);
  next_ping_ = std::min(next_ping_, DueAt(*entered));
}

void RoutingTable::JoinSiblings(Entry* entry) {
  if (!WouldBeSibling(entry->contact.id)) return;
  const auto place =
      std::upper_bound(siblings_.begin(), siblings_.end(), entry,
                       [this](const Entry* a, const Entry* b) {
                         return Closer(self_, a->contact.id, b->contact.id);
                       });
  siblings_.insert(place, entry);
  entry->sibling = true;
  if (siblings_.size() <= options_.siblings) return;
  Entry* const last = siblings_.back();
  siblings_.pop_back();
  last->sibling = false;
  if (!last->in_bucket) Demote(last);
}

void RoutingTable::Demote(Entry* entry) {
  Wait(buckets_[BucketOf(entry->contact.id)],
       {.contact = entry->contact,
        .not_before = entry->pinging ? entry->pinged + options_.patience
                                     : entry->answered,
        .pinging = entry->pinging});
  alive_.erase(LowerBound(entry->contact.id));
}

void RoutingTable::ShrinkToBuckets() {
  full_ = false;
  std::vector<Entry*> oldest_first;
  for (const auto& entry : alive_) oldest_first.push_back(entry.get());
  std::sort(oldest_first.begin(), oldest_first.end(),
            [](const Entry* a, const Entry* b) { return a->order < b->order; });
  for (Bucket& bucket : buckets_) bucket.alive = 0;
  for (Entry* entry : oldest_first) {
    Bucket& bucket = buckets_[BucketOf(entry->contact.id)];
    entry->in_bucket = bucket.alive < options_.bucket_size;
    if (entry->in_bucket) {
      ++bucket.alive;
    } else if (!entry->sibling) {
      Demote(entry);
    }
  }
}

bool RoutingTable::OnFailed(const Key& id, absl::Time now) {
  if (Entry* entry = Find(id); entry != nullptr) {
    entry->pinging = false;
    next_ping_ = std::min(next_ping_, now);
    if (++entry->failures < options_.max_failures) return false;
    Leave(id, now, /*remember=*/true);
    return true;
  }
  const size_t index = BucketOf(id);
  if (index < buckets_.size()) FailWaiting(buckets_[index], id, now);
  return false;
}

void RoutingTable::FailWaiting(Bucket& bucket, const Key& id, absl::Time now) {
  Waiting* const found = FindWaiting(bucket, id);
  if (found == nullptr) return;
  next_ping_ = std::min(next_ping_, now);  // another may have its place
  Waiting waiting = std::move(*found);
  Forget(bucket, found);
  if (waiting.failures >= options_.retries) return;
  absl::Duration delay = options_.retry;
  for (int i = 0; i < waiting.failures; ++i) delay *= 3;
  ++waiting.failures;
  waiting.pinging = false;
  waiting.not_before = now + delay;
  bucket.waiting.insert(bucket.waiting.begin(), std::move(waiting));
}

void RoutingTable::Remove(const Key& id) {
  const size_t index = BucketOf(id);
  if (index >= buckets_.size()) return;
  Bucket& bucket = buckets_[index];
  if (Waiting* waiting = FindWaiting(bucket, id); waiting != nullptr) {
    next_ping_ = std::min(next_ping_, waiting->not_before);
    Forget(bucket, waiting);
  }
  if (const Entry* entry = Find(id); entry != nullptr) {
    Leave(id, entry->answered, /*remember=*/false);
  }
}

void RoutingTable::Leave(const Key& id, absl::Time now, bool remember) {
  const auto found = alive_.begin() + (LowerBound(id) - alive_.begin());
  const std::unique_ptr<Entry> left = std::move(*found);
  alive_.erase(found);
  const size_t index = BucketOf(id);
  Bucket& bucket = buckets_[index];
  if (left->in_bucket) --bucket.alive;
  if (left->sibling) FindSiblings();
  if (!full_) FillPlace(index);
  if (remember && options_.retries > 0 &&
      bucket.waiting.size() < options_.replacements) {
    bucket.waiting.insert(bucket.waiting.begin(),
                          {.contact = left->contact,
                           .not_before = now + options_.retry,
                           .failures = 1});
  }
  next_ping_ = std::min(next_ping_, now);
}

void RoutingTable::FillPlace(size_t bucket) {
  // Those here as siblings only: the oldest of this bucket moves into it.
  if (buckets_[bucket].alive >= options_.bucket_size) return;
  Entry* oldest = nullptr;
  for (Entry* sibling : siblings_) {
    if (sibling->in_bucket || BucketOf(sibling->contact.id) != bucket) continue;
    if (oldest == nullptr || sibling->order < oldest->order) oldest = sibling;
  }
  if (oldest == nullptr) return;
  oldest->in_bucket = true;
  ++buckets_[bucket].alive;
}

void RoutingTable::FindSiblings() {
  siblings_ = Nearest(self_, options_.siblings);
  for (Entry* sibling : siblings_) sibling->sibling = true;
}

void RoutingTable::Collect(Entries::const_iterator begin,
                           Entries::const_iterator end, const Key& target,
                           size_t count, std::vector<Entry*>* nearest) const {
  if (begin == end || nearest->size() >= count) return;
  if (end - begin == 1) {
    nearest->push_back(begin->get());
    return;
  }
  // All between first and last share what these two share; the next bit parts
  // them, and those on the target's side are nearer to it, every one.
  const size_t bit =
      CommonPrefixBits((*begin)->contact.id, (*(end - 1))->contact.id);
  const auto middle = std::partition_point(
      begin, end, [bit](const std::unique_ptr<Entry>& entry) {
        return !BitAt(entry->contact.id, bit);
      });
  if (BitAt(target, bit)) {
    Collect(middle, end, target, count, nearest);
    Collect(begin, middle, target, count, nearest);
  } else {
    Collect(begin, middle, target, count, nearest);
    Collect(middle, end, target, count, nearest);
  }
}

std::vector<RoutingTable::Entry*> RoutingTable::Nearest(const Key& target,
                                                        size_t count) const {
  std::vector<Entry*> nearest;
  nearest.reserve(std::min(count, alive_.size()));
  Collect(alive_.begin(), alive_.end(), target, count, &nearest);
  return nearest;
}

std::vector<Contact> RoutingTable::Closest(const Key& target,
                                           size_t count) const {
  const std::vector<Entry*> nearest = Nearest(target, count);
  std::vector<Contact> closest;
  closest.reserve(nearest.size());
  for (const Entry* entry : nearest) closest.push_back(entry->contact);
  return closest;
}

std::vector<Contact> RoutingTable::Siblings() const {
  return Closest(self_, options_.bucket_size);
}

bool RoutingTable::Contains(const Key& id) const { return Find(id) != nullptr; }

std::string RoutingTable::AddressOf(const Key& id) const {
  if (const Entry* entry = Find(id); entry != nullptr) {
    return entry->contact.address;
  }
  const size_t bucket = BucketOf(id);
  if (bucket >= buckets_.size()) return "";
  for (const Waiting& waiting : buckets_[bucket].waiting) {
    if (waiting.contact.id == id) return waiting.contact.address;
  }
  return "";
}

std::vector<Contact> RoutingTable::All() const {
  std::vector<Contact> all;
  for (const auto& entry : alive_) all.push_back(entry->contact);
  return all;
}

absl::Time RoutingTable::DueAt(const Entry& entry) const {
  if (entry.pinging) return entry.pinged + options_.patience;
  if (entry.failures > 0) return entry.answered;
  return entry.answered +
         (entry.sibling ? options_.sibling_silence : options_.silence);
}

void RoutingTable::PingSilent(absl::Time now, size_t count,
                              std::vector<Contact>* pings) {
  std::vector<Entry*> due;
  for (const auto& entry : alive_) {
    if (DueAt(*entry) <= now) due.push_back(entry.get());
  }
  const auto urgency = [](const Entry* entry) {
    return std::make_tuple(entry->failures == 0, !entry->sibling,
                           entry->answered);
  };
  count = std::min(count, due.size());
  std::partial_sort(
      due.begin(), due.begin() + count, due.end(),
      [&](const Entry* a, const Entry* b) { return urgency(a) < urgency(b); });
  for (size_t i = 0; i < count; ++i) {
    due[i]->pinging = true;
    due[i]->pinged = now;
    pings->push_back(due[i]->contact);
  }
}

void RoutingTable::PingWaiting(absl::Time now, size_t count,
                               std::vector<Contact>* pings) {
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    std::vector<Waiting>& waiting = buckets_[bucket].waiting;
    for (auto w = waiting.rbegin(); w != waiting.rend(); ++w) {
      if (pings->size() >= count) return;
      if (w->not_before > now) continue;
      if (!w->pinging && !HasPlace(bucket, w->contact.id)) continue;
      StartPing(&*w, now);
      pings->push_back(w->contact);
    }
  }
}

std::vector<Contact> RoutingTable::ToPing(absl::Time now, size_t count) {
  std::vector<Contact> pings;
  if (now < next_ping_ || count == 0) return pings;
  PingSilent(now, count, &pings);
  PingWaiting(now, count, &pings);
  next_ping_ = FindNextPing();
  return pings;
}

absl::Time RoutingTable::FindNextPing() const {
  absl::Time next = absl::InfiniteFuture();
  for (const auto& entry : alive_) next = std::min(next, DueAt(*entry));
  for (size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    for (const Waiting& w : buckets_[bucket].waiting) {
      if (w.not_before >= next) continue;
      if (w.pinging || HasPlace(bucket, w.contact.id)) next = w.not_before;
    }
  }
  return next;
}

size_t RoutingTable::RefreshedBuckets() const {
  const std::vector<Entry*> nearest = Nearest(self_, 1);
  if (nearest.empty()) return 0;
  return std::min<size_t>(BucketOf(nearest.front()->contact.id) + 2,
                          8 * Key::kSizeBytes);
}

std::vector<Key> RoutingTable::ToRefresh(absl::Time now, uint64_t seed) {
  std::vector<Key> places;
  const size_t buckets = RefreshedBuckets();
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    absl::Time& refreshed = GrowTo(bucket).refreshed;
    if (now < refreshed + options_.refresh) continue;
    refreshed = now;
    places.push_back(
        KeyInBucket(self_, bucket, RandomKey(DeriveSeed(seed, bucket))));
  }
  return places;
}

absl::Time RoutingTable::next_deadline() const {
  absl::Time next = next_ping_;
  const size_t buckets = RefreshedBuckets();
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    const absl::Time refreshed = bucket < buckets_.size()
                                     ? buckets_[bucket].refreshed
                                     : absl::InfinitePast();
    next = std::min(next, refreshed + options_.refresh);
  }
  return next;
}

}  // namespace koinon::dht
