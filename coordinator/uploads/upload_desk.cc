#include "coordinator/uploads/upload_desk.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::coordinator {

Upload::Upload(UploadKey key, v1::UpdateHeader header, ModelLayout layout,
               Spool* spool, SpoolExtent extent, const UploadTerms& terms)
    : key_(std::move(key)),
      header_(std::move(header)),
      layout_(std::move(layout)),
      spool_(spool),
      folds_(terms.folds),
      extent_(extent),
      scanner_(terms.bound) {}

Upload::~Upload() {
  MutexLock lock(&mutex_);
  if (owns_extent_) spool_->Release(extent_);
}

uint64_t Upload::Attach(std::function<void()> cancel) {
  std::function<void()> superseded;
  uint64_t stream;
  {
    MutexLock lock(&mutex_);
    // A stream that comes when all is over would wait for ever.
    superseded = dropped_ ? std::move(cancel)
                          : std::exchange(cancel_, std::move(cancel));
    stream = ++stream_;
  }
  if (superseded) superseded();
  return stream;
}

bool Upload::Detach(uint64_t stream) {
  MutexLock lock(&mutex_);
  if (stream != stream_) return false;
  cancel_ = nullptr;
  return true;
}

absl::Status Upload::Append(uint64_t stream, uint64_t offset,
                            absl::string_view data, absl::Time now) {
  // Held while writing: once Drop returns, no byte lands in the extent.
  MutexLock lock(&mutex_);
  if (dropped_) return absl::AbortedError("the update is not wanted any more");
  if (stream != stream_) {
    return absl::AbortedError("a newer stream sends this update");
  }
  if (offset != received_) {
    return absl::InvalidArgumentError(
        absl::StrCat("update from worker ", key_.worker, ": chunk at offset ",
                     offset, ", expected ", received_));
  }
  const uint64_t size = static_cast<uint64_t>(header_.size_bytes());
  if (data.size() > size - received_) {
    return absl::InvalidArgumentError(
        absl::StrCat("update from worker ", key_.worker, ": bytes past its ",
                     "announced size of ", size));
  }
  ABSL_RETURN_IF_ERROR(
      spool_->Write(extent_, received_, data.data(), data.size()));
  hasher_.Update(data);
  scanner_.Scan(absl::MakeConstSpan(data.data(), data.size()));
  received_ += data.size();
  last_progress_ = now;
  return absl::OkStatus();
}

uint64_t Upload::received() const {
  MutexLock lock(&mutex_);
  return received_;
}

bool Upload::IsWhole() const {
  MutexLock lock(&mutex_);
  return received_ == static_cast<uint64_t>(header_.size_bytes());
}

absl::Status Upload::Verify() {
  MutexLock lock(&mutex_);
  // Two streams may find it whole; the hash can be taken once.
  if (!verdict_.has_value()) verdict_ = Check();
  return *verdict_;
}

absl::Status Upload::Check() {
  const Digest digest = hasher_.Finish();
  if (digest.ToBytes() != header_.digest()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "update from worker ", key_.worker, ": its bytes have digest ",
        digest.ToShortHex(), ", its header says another"));
  }
  const absl::Status finite = scanner_.Check(layout_);
  if (!finite.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "update from worker ", key_.worker, ": ", finite.message()));
  }
  return absl::OkStatus();
}

SpoolExtent Upload::extent() const {
  MutexLock lock(&mutex_);
  return extent_;
}

uint64_t Upload::streams() const {
  MutexLock lock(&mutex_);
  return stream_;
}

absl::Time Upload::last_progress() const {
  MutexLock lock(&mutex_);
  return last_progress_;
}

void Upload::Drop() {
  std::function<void()> cancel;
  {
    MutexLock lock(&mutex_);
    dropped_ = true;
    cancel = std::exchange(cancel_, nullptr);
  }
  if (cancel) cancel();
}

SpoolExtent Upload::TakeExtent() {
  MutexLock lock(&mutex_);
  owns_extent_ = false;
  return extent_;
}

UploadDesk::UploadDesk(Spool* spool, Options options)
    : spool_(spool), options_(options) {}

uint64_t UploadDesk::ChargeOf(const Entry& entry) const {
  return std::min<uint64_t>(entry.header.size_bytes(),
                            options_.stream_charge_bytes);
}

void UploadDesk::ReturnLocked(Entry* entry) {
  if (!entry->granted) return;
  entry->granted = false;
  charged_ -= ChargeOf(*entry);
  --granted_;
}

void UploadDesk::Announce(const UploadKey& key, const v1::UpdateHeader& header,
                          const ModelLayout& layout, const UploadTerms& terms) {
  std::shared_ptr<Upload> outdated;
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[key];
    // Also frees the charge of a stream that broke without our noticing.
    ReturnLocked(&entry);
    if (entry.upload != nullptr &&
        entry.upload->header().digest() != header.digest()) {
      outdated = std::exchange(entry.upload, nullptr);
    }
    entry.header = header;
    entry.layout = layout;
    entry.terms = terms;
    if (!entry.queued) {
      entry.queued = true;
      queue_.push_back(key);
    }
  }
  if (outdated != nullptr) outdated->Drop();
}

std::vector<UploadDesk::Grant> UploadDesk::Admit(absl::Time now,
                                                 absl::Status* spool_full) {
  std::vector<Grant> grants;
  *spool_full = absl::OkStatus();
  // Those for whose next update there is no room. Others may have what they
  // need, and what frees the spool may be that their round comes to its end.
  std::set<JobId> without_room;
  const auto find_room = [this](const UploadKey& key, Entry* entry) {
    if (entry->terms.make_room) {
      ABSL_RETURN_IF_ERROR(entry->terms.make_room());
    }
    if (entry->upload != nullptr) return absl::OkStatus();
    ABSL_ASSIGN_OR_RETURN(const SpoolExtent extent,
                          spool_->Allocate(entry->header.size_bytes()));
    entry->upload = std::make_shared<Upload>(key, entry->header, entry->layout,
                                             spool_, extent, entry->terms);
    return absl::OkStatus();
  };
  MutexLock lock(&mutex_);
  for (auto next = queue_.begin(); next != queue_.end();) {
    const UploadKey key = *next;
    const auto it = entries_.find(key);
    if (it == entries_.end() || !it->second.queued) {  // forgotten meanwhile
      next = queue_.erase(next);
      continue;
    }
    Entry& entry = it->second;
    const uint64_t charge = ChargeOf(entry);
    // One upload is always let in, however small the window.
    if (granted_ > 0 && charged_ + charge > options_.window_bytes) break;
    if (without_room.contains(key.job)) {
      ++next;
      continue;
    }
    const absl::Status room = find_room(key, &entry);
    if (!room.ok()) {
      without_room.insert(key.job);
      if (spool_full->ok() || absl::IsResourceExhausted(room)) {
        *spool_full = room;
      }
      ++next;
      continue;
    }
    next = queue_.erase(next);
    entry.queued = false;
    entry.granted = true;
    entry.grant = ++last_grant_;
    entry.granted_at = now;
    entry.streams_before = entry.upload->streams();
    charged_ += charge;
    ++granted_;
    grants.push_back({key, entry.upload->received(), entry.grant});
  }
  return grants;
}

absl::StatusOr<UploadDesk::Granted> UploadDesk::Find(
    const UploadKey& key) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(key);
  if (it == entries_.end() || !it->second.granted) {
    return absl::FailedPreconditionError(
        absl::StrCat("no upload was granted to worker ", key.worker,
                     " for round ", key.round, " of job ", key.job));
  }
  return Granted{it->second.upload, it->second.grant};
}

bool UploadDesk::Expects(const UploadKey& key) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(key);
  return it != entries_.end() && (it->second.queued || it->second.granted);
}

void UploadDesk::Return(const UploadKey& key, uint64_t grant) {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.grant != grant) return;
  ReturnLocked(&it->second);
}

void UploadDesk::Expire(absl::Time now) {
  std::vector<std::shared_ptr<Upload>> stuck;
  {
    MutexLock lock(&mutex_);
    for (auto& [key, entry] : entries_) {
      if (!entry.granted) continue;
      const absl::Time progress =
          std::max(entry.granted_at, entry.upload->last_progress());
      if (now - progress < options_.patience) continue;
      ReturnLocked(&entry);
      stuck.push_back(entry.upload);
    }
  }
  // Attaching nothing supersedes, and so cancels, a stream that hangs.
  for (const auto& upload : stuck) upload->Attach(nullptr);
}

void UploadDesk::Forget(const UploadKey& key) {
  std::shared_ptr<Upload> upload;
  {
    MutexLock lock(&mutex_);
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    ReturnLocked(&it->second);
    upload = std::move(it->second.upload);
    entries_.erase(it);
  }
  if (upload != nullptr) upload->Drop();
}

void UploadDesk::ForgetRound(const JobId& job, int64_t round) {
  std::vector<UploadKey> keys;
  {
    MutexLock lock(&mutex_);
    for (auto it = entries_.lower_bound({job, round, ""});
         it != entries_.end() && it->first.job == job &&
         it->first.round == round;
         ++it) {
      keys.push_back(it->first);
    }
  }
  for (const UploadKey& key : keys) Forget(key);
}

size_t UploadDesk::queued() const {
  MutexLock lock(&mutex_);
  size_t count = 0;
  for (const auto& [key, entry] : entries_) count += entry.queued;
  return count;
}

size_t UploadDesk::streaming() const {
  MutexLock lock(&mutex_);
  size_t count = 0;
  for (const auto& [key, entry] : entries_) {
    count += entry.granted && entry.upload->streams() > entry.streams_before;
  }
  return count;
}

size_t UploadDesk::granted() const {
  MutexLock lock(&mutex_);
  return granted_;
}

}  // namespace koinon::coordinator
