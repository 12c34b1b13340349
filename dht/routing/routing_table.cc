#include "dht/routing/routing_table.h"

#include <algorithm>
#include <bit>
#include <string>
#include <tuple>
#include <utility>

#include "base/random.h"
#include "dht/routing/key_prefix.h"

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

size_t RoutingTable::PlaceOf(const Key& id) const {
  const uint64_t prefix = PrefixOf(id);
  const auto place =
      std::partition_point(alive_.begin(), alive_.end(), [&](const Slot& slot) {
        return slot.prefix != prefix ? slot.prefix < prefix
                                     : slot.entry->contact.id < id;
      });
  return static_cast<size_t>(place - alive_.begin());
}

RoutingTable::Slot* RoutingTable::FindSlot(const Key& id) {
  const size_t place = PlaceOf(id);
  const bool here =
      place < alive_.size() && alive_[place].entry->contact.id == id;
  return here ? &alive_[place] : nullptr;
}

RoutingTable::Entry* RoutingTable::Find(const Key& id) const {
  const size_t place = PlaceOf(id);
  const bool here =
      place < alive_.size() && alive_[place].entry->contact.id == id;
  return here ? alive_[place].entry.get() : nullptr;
}

size_t RoutingTable::CommonBits(const Slot& a, const Slot& b) {
  return a.prefix != b.prefix
             ? static_cast<size_t>(std::countl_zero(a.prefix ^ b.prefix))
             : CommonPrefixBits(a.entry->contact.id, b.entry->contact.id);
}

bool RoutingTable::SlotBitAt(const Slot& slot, size_t bit) {
  constexpr size_t kPrefixBits = 64;
  return bit < kPrefixBits ? (slot.prefix >> (kPrefixBits - 1 - bit) & 1) != 0
                           : BitAt(slot.entry->contact.id, bit);
}

size_t RoutingTable::BucketOf(const Key& id) const {
  return CommonPrefixBits(self_, id);
}

size_t RoutingTable::CellOf(size_t bucket, const Key& id) {
  size_t cell = 0;
  for (size_t bit = bucket + 1; bit <= bucket + kCellBits; ++bit) {
    cell = 2 * cell + (bit < 8 * Key::kSizeBytes && BitAt(id, bit));
  }
  return cell;
}

RoutingTable::Bucket& RoutingTable::GrowTo(size_t bucket) {
  if (buckets_.size() <= bucket) buckets_.resize(bucket + 1);
  return buckets_[bucket];
}

RoutingTable::Waiting* RoutingTable::FindWaiting(Bucket& bucket,
                                                 const Key& id) const {
  const uint64_t prefix = PrefixOf(id);
  const auto found = std::find_if(
      bucket.waiting.begin(), bucket.waiting.end(), [&](const Waiting& w) {
        return PrefixOf(w.contact.id) == prefix && w.contact.id == id;
      });
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

bool RoutingTable::IsOpen(size_t bucket, const Key& id) const {
  return buckets_[bucket].alive < options_.bucket_size ||
         buckets_[bucket].in_cell[CellOf(bucket, id)] < options_.cell_size;
}

bool RoutingTable::HasPlace(size_t index, const Key& id) const {
  if (full_ || WouldBeSibling(id)) return true;
  if (!IsOpen(index, id)) return false;
  const Bucket& bucket = buckets_[index];
  const size_t cell = CellOf(index, id);
  size_t alive = bucket.alive;  // and those that may be soon
  size_t in_cell = bucket.in_cell[cell];
  for (const Waiting& waiting : bucket.waiting) {
    if (!waiting.pinging) continue;
    ++alive;
    in_cell += CellOf(index, waiting.contact.id) == cell;
  }
  return alive < options_.bucket_size || in_cell < options_.cell_size;
}

void RoutingTable::PutInBucket(Entry* entry) {
  const size_t index = BucketOf(entry->contact.id);
  entry->in_bucket = true;
  ++buckets_[index].alive;
  ++buckets_[index].in_cell[CellOf(index, entry->contact.id)];
}

void RoutingTable::LookAgain(Bucket& bucket, absl::Time when) {
  bucket.next_ping = std::min(bucket.next_ping, when);
  next_ping_ = std::min(next_ping_, when);
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
  if (Slot* const slot = FindSlot(contact.id); slot != nullptr) {
    if (itself && slot->entry->contact.address == contact.address) {
      slot->entry->asked = now;
      slot->due = DueAt(*slot->entry);
    }
    return false;
  }
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
  StartPing(bucket, kept, now);
  return true;
}

bool RoutingTable::OnAnswered(const Contact& contact, absl::Time now) {
  if (contact.id == self_ || contact.address.empty()) return false;
  if (Slot* const slot = FindSlot(contact.id); slot != nullptr) {
    Entry* const entry = slot->entry.get();
    if (!(entry->contact == contact)) entry->contact = contact;
    entry->answered = now;
    entry->failures = 0;
    entry->pinging = false;
    slot->due = DueAt(*entry);
    next_ping_ = std::min(next_ping_, slot->due);
    return false;
  }
  const size_t index = BucketOf(contact.id);
  Bucket& bucket = GrowTo(index);
  if (Waiting* known = FindWaiting(bucket, contact.id); known != nullptr) {
    Forget(bucket, known);
  }
  if (!full_ && !IsOpen(index, contact.id) && !WouldBeSibling(contact.id)) {
    Wait(bucket, {.contact = contact, .not_before = now});
    return false;
  }
  Enter(contact, now);
  if (full_ && alive_.size() > options_.full_table) ShrinkToBuckets();
  return Contains(contact.id);
}

void RoutingTable::StartPing(Bucket& bucket, Waiting* waiting, absl::Time now) {
  waiting->pinging = true;
  waiting->not_before = now + options_.patience;
  LookAgain(bucket, waiting->not_before);
}

void RoutingTable::Enter(const Contact& contact, absl::Time now) {
  auto entry = std::make_unique<Entry>();
  entry->contact = contact;
  entry->answered = now;
  entry->order = next_order_++;
  Entry* const entered = entry.get();
  if (full_ || IsOpen(BucketOf(contact.id), contact.id)) PutInBucket(entered);
  alive_.insert(alive_.begin() + PlaceOf(contact.id),
                {.prefix = PrefixOf(contact.id),
                 .due = DueAt(*entry),
                 .entry = std::move(entry)});
  JoinSiblings(entered);
  SetDue(*entered);
  if (RefreshedBuckets() != refreshed_buckets_) FindNextRefresh();
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
  Bucket& bucket = buckets_[BucketOf(entry->contact.id)];
  Wait(bucket, {.contact = entry->contact,
                .not_before = entry->pinging ? entry->pinged + options_.patience
                                             : entry->answered,
                .pinging = entry->pinging});
  LookAgain(bucket, entry->answered);
  alive_.erase(alive_.begin() + PlaceOf(entry->contact.id));
}

void RoutingTable::ShrinkToBuckets() {
  full_ = false;
  std::vector<Entry*> oldest_first;
  for (const Slot& slot : alive_) oldest_first.push_back(slot.entry.get());
  std::sort(oldest_first.begin(), oldest_first.end(),
            [](const Entry* a, const Entry* b) { return a->order < b->order; });
  for (Bucket& bucket : buckets_) {
    bucket.alive = 0;
    bucket.in_cell.fill(0);
  }
  for (Entry* entry : oldest_first) {
    entry->in_bucket = false;
    if (IsOpen(BucketOf(entry->contact.id), entry->contact.id)) {
      PutInBucket(entry);
    } else if (!entry->sibling) {
      Demote(entry);
    }
  }
}

bool RoutingTable::OnFailed(const Key& id, absl::Time now) {
  if (Entry* entry = Find(id); entry != nullptr) {
    entry->pinging = false;
    if (++entry->failures < options_.max_failures) {
      SetDue(*entry);
      return false;
    }
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
  LookAgain(bucket, now);  // another may have its place
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
    LookAgain(bucket, waiting->not_before);
    Forget(bucket, waiting);
  }
  if (const Entry* entry = Find(id); entry != nullptr) {
    Leave(id, entry->answered, /*remember=*/false);
  }
}

void RoutingTable::Leave(const Key& id, absl::Time now, bool remember) {
  const auto found = alive_.begin() + PlaceOf(id);
  const std::unique_ptr<Entry> left = std::move(found->entry);
  alive_.erase(found);
  const size_t index = BucketOf(id);
  Bucket& bucket = buckets_[index];
  if (left->in_bucket) {
    --bucket.alive;
    --bucket.in_cell[CellOf(index, id)];
  }
  if (left->sibling) {
    FindSiblings();
    // Those that wait in any of them may now be near enough.
    for (Bucket& any : buckets_) LookAgain(any, now);
  }
  if (!full_) FillPlace(index);
  if (remember && options_.retries > 0 &&
      bucket.waiting.size() < options_.replacements) {
    bucket.waiting.insert(bucket.waiting.begin(),
                          {.contact = left->contact,
                           .not_before = now + options_.retry,
                           .failures = 1});
  }
  LookAgain(bucket, now);
  if (RefreshedBuckets() != refreshed_buckets_) FindNextRefresh();
}

void RoutingTable::FillPlace(size_t bucket) {
  // Those here as siblings only: the oldest of this bucket moves into it.
  Entry* oldest = nullptr;
  for (Entry* sibling : siblings_) {
    const Key& id = sibling->contact.id;
    if (sibling->in_bucket || BucketOf(id) != bucket) continue;
    if (!IsOpen(bucket, id)) continue;
    if (oldest == nullptr || sibling->order < oldest->order) oldest = sibling;
  }
  if (oldest != nullptr) PutInBucket(oldest);
}

void RoutingTable::FindSiblings() {
  siblings_ = Nearest(self_, options_.siblings);
  for (Entry* sibling : siblings_) {
    if (sibling->sibling) continue;
    sibling->sibling = true;
    SetDue(*sibling);
  }
}

void RoutingTable::Collect(Entries::const_iterator begin,
                           Entries::const_iterator end, const Key& target,
                           size_t count, std::vector<Entry*>* nearest) const {
  if (begin == end || nearest->size() >= count) return;
  if (end - begin == 1) {
    nearest->push_back(begin->entry.get());
    return;
  }
  // All between first and last share what these two share; the next bit parts
  // them, and those on the target's side are nearer to it, every one.
  const size_t bit = CommonBits(*begin, *(end - 1));
  const auto middle = std::partition_point(
      begin, end, [bit](const Slot& slot) { return !SlotBitAt(slot, bit); });
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
  all.reserve(alive_.size());
  for (const Slot& slot : alive_) all.push_back(slot.entry->contact);
  return all;
}

absl::Time RoutingTable::DueAt(const Entry& entry) const {
  if (entry.pinging) return entry.pinged + options_.patience;
  if (entry.failures > 0) return entry.answered;
  const absl::Time silent = entry.answered + options_.silence;
  if (!entry.sibling) return silent;
  const absl::Time heard = std::max(entry.answered, entry.asked);
  return std::min(silent, heard + options_.sibling_silence);
}

void RoutingTable::SetDue(const Entry& entry) {
  absl::Time& due = alive_[PlaceOf(entry.contact.id)].due;
  due = std::min(due, DueAt(entry));
  next_ping_ = std::min(next_ping_, due);
}

void RoutingTable::PingSilent(absl::Time now, size_t count,
                              std::vector<Contact>* pings) {
  std::vector<Slot*> due;
  for (Slot& slot : alive_) {
    if (slot.due > now) continue;
    slot.due = DueAt(*slot.entry);
    if (slot.due <= now) due.push_back(&slot);
  }
  const auto urgency = [](const Slot* slot) {
    const Entry& entry = *slot->entry;
    return std::make_tuple(entry.failures == 0, !entry.sibling, entry.answered);
  };
  count = std::min(count, due.size());
  std::partial_sort(
      due.begin(), due.begin() + count, due.end(),
      [&](const Slot* a, const Slot* b) { return urgency(a) < urgency(b); });
  for (size_t i = 0; i < count; ++i) {
    Entry* const entry = due[i]->entry.get();
    entry->pinging = true;
    entry->pinged = now;
    due[i]->due = DueAt(*entry);
    pings->push_back(entry->contact);
  }
}

void RoutingTable::PingWaiting(absl::Time now, size_t count,
                               std::vector<Contact>* pings) {
  for (size_t index = 0; index < buckets_.size(); ++index) {
    Bucket& bucket = buckets_[index];
    if (bucket.next_ping > now) continue;
    for (auto w = bucket.waiting.rbegin(); w != bucket.waiting.rend(); ++w) {
      if (pings->size() >= count) return;
      if (w->not_before > now) continue;
      if (!w->pinging && !HasPlace(index, w->contact.id)) continue;
      StartPing(bucket, &*w, now);
      pings->push_back(w->contact);
    }
    bucket.next_ping = NextPingIn(index);
  }
}

std::vector<Contact> RoutingTable::ToPing(absl::Time now, size_t count) {
  std::vector<Contact> pings;
  if (now < next_ping_ || count == 0) return pings;
  PingSilent(now, count, &pings);
  PingWaiting(now, count, &pings);
  next_ping_ = absl::InfiniteFuture();
  for (const Slot& slot : alive_) next_ping_ = std::min(next_ping_, slot.due);
  for (const Bucket& bucket : buckets_) {
    next_ping_ = std::min(next_ping_, bucket.next_ping);
  }
  return pings;
}

absl::Time RoutingTable::NextPingIn(size_t bucket) const {
  absl::Time next = absl::InfiniteFuture();
  for (const Waiting& w : buckets_[bucket].waiting) {
    if (w.not_before >= next) continue;
    if (w.pinging || HasPlace(bucket, w.contact.id)) next = w.not_before;
  }
  return next;
}

size_t RoutingTable::RefreshedBuckets() const {
  if (alive_.empty()) return 0;
  const Entry* const nearest =
      siblings_.empty() ? Nearest(self_, 1).front() : siblings_.front();
  return std::min<size_t>(BucketOf(nearest->contact.id) + 2,
                          8 * Key::kSizeBytes);
}

std::vector<Key> RoutingTable::ToRefresh(absl::Time now, uint64_t seed) {
  std::vector<Key> places;
  if (now < next_refresh_) return places;
  const size_t buckets = RefreshedBuckets();
  for (size_t bucket = 0; bucket < buckets; ++bucket) {
    absl::Time& refreshed = GrowTo(bucket).refreshed;
    if (now < refreshed + options_.refresh) continue;
    refreshed = now;
    places.push_back(
        KeyInBucket(self_, bucket, RandomKey(DeriveSeed(seed, bucket))));
  }
  FindNextRefresh();
  return places;
}

void RoutingTable::FindNextRefresh() {
  refreshed_buckets_ = RefreshedBuckets();
  next_refresh_ = absl::InfiniteFuture();
  for (size_t bucket = 0; bucket < refreshed_buckets_; ++bucket) {
    const absl::Time refreshed = bucket < buckets_.size()
                                     ? buckets_[bucket].refreshed
                                     : absl::InfinitePast();
    next_refresh_ = std::min(next_refresh_, refreshed + options_.refresh);
  }
}

absl::Time RoutingTable::next_deadline() const {
  return std::min(next_ping_, next_refresh_);
}

}  // namespace koinon::dht
