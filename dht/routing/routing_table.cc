#include "dht/routing/routing_table.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "base/random.h"
#include "dht/routing/key_prefix.h"

namespace koinon::dht {
namespace {

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

size_t RoutingTable::BucketOf(const Key& id) const {
  return CommonPrefixBits(self_, id);
}

Bucket& RoutingTable::GrowTo(size_t bucket) {
  if (buckets_.size() <= bucket) buckets_.resize(bucket + 1);
  return buckets_[bucket];
}

bool RoutingTable::WouldBeSibling(const Key& id) const {
  if (options_.siblings == 0) return false;
  return siblings_.size() < options_.siblings ||
         Closer(self_, id, siblings_.back()->contact.id);
}

bool RoutingTable::IsOpen(size_t bucket, const Key& id) const {
  return buckets_[bucket].alive < options_.bucket_size ||
         buckets_[bucket].in_cell[Bucket::CellOf(bucket, id)] <
             options_.cell_size;
}

bool RoutingTable::HasPlace(size_t index, const Key& id) const {
  if (full_ || WouldBeSibling(id)) return true;
  if (!IsOpen(index, id)) return false;
  const Bucket& bucket = buckets_[index];
  const size_t cell = Bucket::CellOf(index, id);
  size_t alive = bucket.alive;  // and those that may be soon
  size_t in_cell = bucket.in_cell[cell];
  for (const Bucket::Waiting& waiting : bucket.waiting) {
    if (!waiting.pinging) continue;
    ++alive;
    in_cell += Bucket::CellOf(index, waiting.contact.id) == cell;
  }
  return alive < options_.bucket_size || in_cell < options_.cell_size;
}

void RoutingTable::PutInBucket(KnownNode* entry) {
  const size_t index = BucketOf(entry->contact.id);
  entry->in_bucket = true;
  ++buckets_[index].alive;
  ++buckets_[index].in_cell[Bucket::CellOf(index, entry->contact.id)];
}

void RoutingTable::LookAgain(Bucket& bucket, absl::Time when) {
  bucket.next_ping = std::min(bucket.next_ping, when);
  next_ping_ = std::min(next_ping_, when);
}

bool RoutingTable::OnHeard(const Contact& contact, absl::Time now,
                           bool itself) {
  if (contact.id == self_ || contact.address.empty()) return false;
  if (KnownNodes::Slot* const slot = alive_.FindSlot(contact.id);
      slot != nullptr) {
    if (itself && slot->node->contact.address == contact.address) {
      slot->node->asked = now;
      slot->due = DueAt(*slot->node);
    }
    return false;
  }
  const size_t index = BucketOf(contact.id);
  Bucket& bucket = GrowTo(index);
  Bucket::Waiting waiting{.contact = contact, .not_before = now};
  if (Bucket::Waiting* known = bucket.Find(contact.id); known != nullptr) {
    const bool too_soon = known->not_before > now;
    const bool is_news = itself || known->contact.address != contact.address;
    if (too_soon && (known->pinging || !is_news)) return false;
    waiting.failures = known->failures;
    bucket.Forget(known);
  }
  Bucket::Waiting* const kept =
      bucket.Wait(std::move(waiting), options_.replacements);
  if (kept == nullptr || !HasPlace(index, contact.id)) return false;
  StartPing(bucket, kept, now);
  return true;
}

bool RoutingTable::OnAnswered(const Contact& contact, absl::Time now) {
  if (contact.id == self_ || contact.address.empty()) return false;
  if (KnownNodes::Slot* const slot = alive_.FindSlot(contact.id);
      slot != nullptr) {
    KnownNode* const entry = slot->node.get();
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
  if (Bucket::Waiting* known = bucket.Find(contact.id); known != nullptr) {
    bucket.Forget(known);
  }
  if (!full_ && !IsOpen(index, contact.id) && !WouldBeSibling(contact.id)) {
    bucket.Wait({.contact = contact, .not_before = now}, options_.replacements);
    return false;
  }
  Enter(contact, now);
  if (full_ && alive_.size() > options_.full_table) ShrinkToBuckets();
  return Contains(contact.id);
}

void RoutingTable::StartPing(Bucket& bucket, Bucket::Waiting* waiting,
                             absl::Time now) {
  waiting->pinging = true;
  waiting->not_before = now + options_.patience;
  LookAgain(bucket, waiting->not_before);
}

void RoutingTable::Enter(const Contact& contact, absl::Time now) {
  auto entry = std::make_unique<KnownNode>();
  entry->contact = contact;
  entry->answered = now;
  entry->order = next_order_++;
  KnownNode* const entered = entry.get();
  if (full_ || IsOpen(BucketOf(contact.id), contact.id)) PutInBucket(entered);
  const absl::Time due = DueAt(*entry);
  alive_.Insert(std::move(entry), due);
  JoinSiblings(entered);
  SetDue(*entered);
  if (RefreshedBuckets() != refreshed_buckets_) FindNextRefresh();
}

void RoutingTable::JoinSiblings(KnownNode* entry) {
  if (!WouldBeSibling(entry->contact.id)) return;
  const auto place =
      std::upper_bound(siblings_.begin(), siblings_.end(), entry,
                       [this](const KnownNode* a, const KnownNode* b) {
                         return Closer(self_, a->contact.id, b->contact.id);
                       });
  siblings_.insert(place, entry);
  entry->sibling = true;
  if (siblings_.size() <= options_.siblings) return;
  KnownNode* const last = siblings_.back();
  siblings_.pop_back();
  last->sibling = false;
  if (!last->in_bucket) Demote(last);
}

void RoutingTable::Demote(KnownNode* entry) {
  Bucket& bucket = buckets_[BucketOf(entry->contact.id)];
  bucket.Wait({.contact = entry->contact,
               .not_before = entry->pinging ? entry->pinged + options_.patience
                                            : entry->answered,
               .pinging = entry->pinging},
              options_.replacements);
  LookAgain(bucket, entry->answered);
  alive_.Take(entry->contact.id);
}

void RoutingTable::ShrinkToBuckets() {
  full_ = false;
  std::vector<KnownNode*> oldest_first;
  for (const KnownNodes::Slot& slot : alive_) {
    oldest_first.push_back(slot.node.get());
  }
  std::sort(oldest_first.begin(), oldest_first.end(),
            [](const KnownNode* a, const KnownNode* b) {
              return a->order < b->order;
            });
  for (Bucket& bucket : buckets_) {
    bucket.alive = 0;
    bucket.in_cell.fill(0);
  }
  for (KnownNode* entry : oldest_first) {
    entry->in_bucket = false;
    if (IsOpen(BucketOf(entry->contact.id), entry->contact.id)) {
      PutInBucket(entry);
    } else if (!entry->sibling) {
      Demote(entry);
    }
  }
}

double RoutingTable::EstimatedNodes() const {
  const auto known = static_cast<double>(alive_.size());
  if (siblings_.size() < options_.siblings) return known;
  // So many lie within this part of all ids.
  const uint64_t distance =
      PrefixOf(self_) ^ PrefixOf(siblings_.back()->contact.id);
  const double part = (static_cast<double>(distance) + 1) * 0x1p-64;
  return std::max(known, static_cast<double>(siblings_.size()) / part);
}

void RoutingTable::TakeAllAgain(absl::Time now) {
  if (full_ || options_.full_table == 0 || options_.siblings == 0) return;
  // Far below the bound, so that no estimate drives it to and fro.
  if (2 * EstimatedNodes() > static_cast<double>(options_.full_table)) {
    few_since_ = absl::InfiniteFuture();
    return;
  }
  few_since_ = std::min(few_since_, now);
  // Many that die at once are soon known to be dead, others near not so soon.
  if (now < few_since_ + options_.refresh) return;
  full_ = true;
  few_since_ = absl::InfiniteFuture();
  for (const KnownNodes::Slot& slot : alive_) {
    if (!slot.node->in_bucket) PutInBucket(slot.node.get());
  }
  for (Bucket& bucket : buckets_) LookAgain(bucket, now);
}

bool RoutingTable::OnFailed(const Key& id, absl::Time now) {
  if (KnownNode* entry = alive_.Find(id); entry != nullptr) {
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
  Bucket::Waiting* const found = bucket.Find(id);
  if (found == nullptr) return;
  LookAgain(bucket, now);  // another may have its place
  Bucket::Waiting waiting = std::move(*found);
  bucket.Forget(found);
  if (waiting.failures >= options_.retries) return;
  absl::Duration delay = options_.retry;
  for (int i = 0; i < waiting.failures; ++i) delay *= 3;
  ++waiting.failures;
  waiting.pinging = false;
  waiting.not_before = now + delay;
  bucket.WaitFirst(std::move(waiting));
}

void RoutingTable::Remove(const Key& id) {
  const size_t index = BucketOf(id);
  if (index >= buckets_.size()) return;
  Bucket& bucket = buckets_[index];
  if (Bucket::Waiting* waiting = bucket.Find(id); waiting != nullptr) {
    LookAgain(bucket, waiting->not_before);
    bucket.Forget(waiting);
  }
  if (const KnownNode* entry = alive_.Find(id); entry != nullptr) {
    Leave(id, entry->answered, /*remember=*/false);
  }
}

void RoutingTable::Leave(const Key& id, absl::Time now, bool remember) {
  const std::unique_ptr<KnownNode> left = alive_.Take(id);
  const size_t index = BucketOf(id);
  Bucket& bucket = buckets_[index];
  if (left->in_bucket) {
    --bucket.alive;
    --bucket.in_cell[Bucket::CellOf(index, id)];
  }
  if (left->sibling) {
    FindSiblings();
    // Those that wait in any of them may now be near enough.
    for (Bucket& any : buckets_) LookAgain(any, now);
  }
  if (!full_) FillPlace(index);
  if (remember && options_.retries > 0 &&
      bucket.waiting.size() < options_.replacements) {
    bucket.WaitFirst({.contact = left->contact,
                      .not_before = now + options_.retry,
                      .failures = 1});
  }
  LookAgain(bucket, now);
  if (RefreshedBuckets() != refreshed_buckets_) FindNextRefresh();
}

void RoutingTable::FillPlace(size_t bucket) {
  // Those here as siblings only: the oldest of this bucket moves into it.
  KnownNode* oldest = nullptr;
  for (KnownNode* sibling : siblings_) {
    const Key& id = sibling->contact.id;
    if (sibling->in_bucket || BucketOf(id) != bucket) continue;
    if (!IsOpen(bucket, id)) continue;
    if (oldest == nullptr || sibling->order < oldest->order) oldest = sibling;
  }
  if (oldest != nullptr) PutInBucket(oldest);
}

void RoutingTable::FindSiblings() {
  siblings_ = alive_.Nearest(self_, options_.siblings);
  for (KnownNode* sibling : siblings_) {
    if (sibling->sibling) continue;
    sibling->sibling = true;
    SetDue(*sibling);
  }
}

std::vector<Contact> RoutingTable::Closest(const Key& target,
                                           size_t count) const {
  const std::vector<KnownNode*> nearest = alive_.Nearest(target, count);
  std::vector<Contact> closest;
  closest.reserve(nearest.size());
  for (const KnownNode* entry : nearest) closest.push_back(entry->contact);
  return closest;
}

uint64_t RoutingTable::DigestOfClosest(const Key& target, size_t count,
                                       bool with_self) const {
  std::vector<KnownNode*> nearest = alive_.Nearest(target, count);
  uint64_t digest = 0;
  if (with_self && count > 0) {
    const bool full = nearest.size() == count;
    if (!full || Closer(target, self_, nearest.back()->contact.id)) {
      if (full) nearest.pop_back();
      digest = PrefixOf(self_);
    }
  }
  for (const KnownNode* entry : nearest) digest ^= PrefixOf(entry->contact.id);
  return digest;
}

bool RoutingTable::Contains(const Key& id) const {
  return alive_.Find(id) != nullptr;
}

std::string RoutingTable::AddressOf(const Key& id) const {
  if (const KnownNode* entry = alive_.Find(id); entry != nullptr) {
    return entry->contact.address;
  }
  const size_t bucket = BucketOf(id);
  if (bucket >= buckets_.size()) return "";
  for (const Bucket::Waiting& waiting : buckets_[bucket].waiting) {
    if (waiting.contact.id == id) return waiting.contact.address;
  }
  return "";
}

std::vector<Contact> RoutingTable::All() const {
  std::vector<Contact> all;
  all.reserve(alive_.size());
  for (const KnownNodes::Slot& slot : alive_) all.push_back(slot.node->contact);
  return all;
}

absl::Time RoutingTable::DueAt(const KnownNode& entry) const {
  if (entry.pinging) return entry.pinged + options_.patience;
  if (entry.failures > 0) return entry.answered;
  const absl::Time silent = entry.answered + options_.silence;
  if (!entry.sibling) return silent;
  const absl::Time heard = std::max(entry.answered, entry.asked);
  return std::min(silent, heard + options_.sibling_silence);
}

void RoutingTable::SetDue(const KnownNode& entry) {
  absl::Time& due = alive_.FindSlot(entry.contact.id)->due;
  due = std::min(due, DueAt(entry));
  next_ping_ = std::min(next_ping_, due);
}

void RoutingTable::PingSilent(absl::Time now, size_t count,
                              std::vector<Contact>* pings) {
  std::vector<KnownNodes::Slot*> due;
  for (KnownNodes::Slot& slot : alive_) {
    if (slot.due > now) continue;
    slot.due = DueAt(*slot.node);
    if (slot.due <= now) due.push_back(&slot);
  }
  const auto urgency = [](const KnownNodes::Slot* slot) {
    const KnownNode& entry = *slot->node;
    return std::make_tuple(entry.failures == 0, !entry.sibling, entry.answered);
  };
  count = std::min(count, due.size());
  std::partial_sort(due.begin(), due.begin() + count, due.end(),
                    [&](const KnownNodes::Slot* a, const KnownNodes::Slot* b) {
                      return urgency(a) < urgency(b);
                    });
  for (size_t i = 0; i < count; ++i) {
    KnownNode* const entry = due[i]->node.get();
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
  for (const KnownNodes::Slot& slot : alive_) {
    next_ping_ = std::min(next_ping_, slot.due);
  }
  for (const Bucket& bucket : buckets_) {
    next_ping_ = std::min(next_ping_, bucket.next_ping);
  }
  return pings;
}

absl::Time RoutingTable::NextPingIn(size_t bucket) const {
  absl::Time next = absl::InfiniteFuture();
  for (const Bucket::Waiting& w : buckets_[bucket].waiting) {
    if (w.not_before >= next) continue;
    if (w.pinging || HasPlace(bucket, w.contact.id)) next = w.not_before;
  }
  return next;
}

size_t RoutingTable::RefreshedBuckets() const {
  if (alive_.empty()) return 0;
  const KnownNode* const nearest =
      siblings_.empty() ? alive_.Nearest(self_, 1).front() : siblings_.front();
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
  if (!places.empty()) TakeAllAgain(now);
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
