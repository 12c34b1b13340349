#include "dht/store/quotas.h"

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::dht {

absl::Status Quotas::CheckTotal(size_t bytes) const {
  if (total_.keys >= options_.max_keys) {
    return RejectedError(Rejection::kQuota,
                         absl::StrCat("all of ", options_.max_keys,
                                      " keys are taken, by all writers"));
  }
  if (total_.bytes + bytes > options_.max_bytes) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("of ", options_.max_bytes, " bytes ", total_.bytes,
                     " are taken, by all writers; ", bytes,
                     " more do not fit"));
  }
  return absl::OkStatus();
}

bool Quotas::OverOwn(const Key& writer, size_t bytes) const {
  return CheckTotal(bytes).ok() && bytes <= options_.max_bytes_per_writer &&
         options_.max_keys_per_writer > 0 && !Check(writer, bytes).ok();
}

bool Quotas::WithinOwn(const Key& writer, size_t bytes) const {
  return CheckOwn(writer, bytes).ok();
}

absl::Status Quotas::Check(const Key& writer, size_t bytes) const {
  ABSL_RETURN_IF_ERROR(CheckTotal(bytes));
  return CheckOwn(writer, bytes);
}

absl::Status Quotas::CheckOwn(const Key& writer, size_t bytes) const {
  const Use use = UseOf(writer);
  if (use.keys >= options_.max_keys_per_writer) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("writer ", writer.ToShortHex(), " has ", use.keys,
                     " keys here, all that it may have"));
  }
  if (use.bytes + bytes > options_.max_bytes_per_writer) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("writer ", writer.ToShortHex(), " has ", use.bytes,
                     " bytes here; ", bytes, " more would be over its ",
                     options_.max_bytes_per_writer));
  }
  return absl::OkStatus();
}

std::optional<Key> Quotas::MakesRoom(const Key& writer, size_t bytes) const {
  if (CheckTotal(bytes).ok()) return std::nullopt;
  const Use use = UseOf(writer);
  const bool of_keys = total_.keys >= options_.max_keys;
  const auto& by_use = of_keys ? by_keys_ : by_bytes_;
  const size_t would_have = of_keys ? use.keys + 1 : use.bytes + bytes;
  if (!by_use.empty() && by_use.rbegin()->first > would_have) {
    return by_use.rbegin()->second;
  }
  return use.keys > 0 ? std::optional<Key>(writer) : std::nullopt;
}

Quotas::Use Quotas::UseOf(const Key& writer) const {
  const auto found = writers_.find(writer);
  return found == writers_.end() ? Use() : found->second;
}

void Quotas::Set(const Key& writer, const Use& use) {
  const Use before = UseOf(writer);
  by_keys_.erase({before.keys, writer});
  by_bytes_.erase({before.bytes, writer});
  total_.keys += use.keys - before.keys;
  total_.bytes += use.bytes - before.bytes;
  if (use.keys == 0) {
    writers_.erase(writer);
    return;
  }
  writers_[writer] = use;
  by_keys_.emplace(use.keys, writer);
  by_bytes_.emplace(use.bytes, writer);
}

void Quotas::Charge(const Key& writer, size_t bytes) {
  const Use use = UseOf(writer);
  Set(writer, {.keys = use.keys + 1, .bytes = use.bytes + bytes});
}

void Quotas::Release(const Key& writer, size_t bytes) {
  const Use use = UseOf(writer);
  KOINON_CHECK(use.keys > 0 && use.bytes >= bytes);
  Set(writer, {.keys = use.keys - 1, .bytes = use.bytes - bytes});
}

}  // namespace koinon::dht
