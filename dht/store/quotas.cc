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

absl::Status Quotas::Check(const Key& writer, size_t bytes) const {
  ABSL_RETURN_IF_ERROR(CheckTotal(bytes));
  const auto found = writers_.find(writer);
  const Use use = found == writers_.end() ? Use() : found->second;
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

void Quotas::Charge(const Key& writer, size_t bytes) {
  Use& use = writers_[writer];
  ++use.keys;
  use.bytes += bytes;
  ++total_.keys;
  total_.bytes += bytes;
}

void Quotas::Release(const Key& writer, size_t bytes) {
  const auto found = writers_.find(writer);
  KOINON_CHECK(found != writers_.end() && found->second.bytes >= bytes);
  found->second.bytes -= bytes;
  if (--found->second.keys == 0) writers_.erase(found);
  --total_.keys;
  total_.bytes -= bytes;
}

}  // namespace koinon::dht
