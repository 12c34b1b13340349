#include "dht/store/provider_book.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::dht {

absl::Status ProviderBook::Add(const Key& content, const Contact& provider,
                               absl::Time now) {
  // What has expired takes nobody's place, the provider's own neither.
  Sweep(now);
  Remove(content, provider.id);
  ABSL_RETURN_IF_ERROR(CheckPlace(content, provider.id));
  const absl::Time expires = now + options_.lifetime;
  contents_[content].push_back({.contact = provider, .expires = expires});
  ++counts_[provider.id];
  expiries_.emplace(expires, content, provider.id);
  return absl::OkStatus();
}

absl::Status ProviderBook::CheckPlace(const Key& content,
                                      const Key& provider) const {
  const auto found = contents_.find(content);
  if (found == contents_.end() && contents_.size() >= options_.max_contents) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("providers of ", options_.max_contents,
                     " contents are known, all that there is place for"));
  }
  if (providers() >= options_.max_providers) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat(options_.max_providers,
                     " providers are known, all that there is place for"));
  }
  if (found != contents_.end() &&
      found->second.size() >= options_.max_per_content) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("content ", content.ToShortHex(), " has ",
                     options_.max_per_content, " providers, all that it may"));
  }
  const auto count = counts_.find(provider);
  if (count != counts_.end() &&
      count->second >= options_.max_contents_per_provider) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("provider ", provider.ToShortHex(), " announced ",
                     count->second, " contents, all that it may"));
  }
  return absl::OkStatus();
}

void ProviderBook::Remove(const Key& content, const Key& provider) {
  const auto found = contents_.find(content);
  if (found == contents_.end()) return;
  std::vector<ProviderUntil>& list = found->second;
  const auto it = std::find_if(
      list.begin(), list.end(),
      [&](const ProviderUntil& p) { return p.contact.id == provider; });
  if (it == list.end()) return;
  expiries_.erase({it->expires, content, provider});
  list.erase(it);
  if (list.empty()) contents_.erase(found);
  const auto count = counts_.find(provider);
  if (--count->second == 0) counts_.erase(count);
}

std::vector<ProviderBook::ProviderUntil> ProviderBook::Find(
    const Key& content, size_t count, absl::Time now) const {
  std::vector<ProviderUntil> providers;
  const auto found = contents_.find(content);
  if (found == contents_.end()) return providers;
  for (auto it = found->second.rbegin(); it != found->second.rend(); ++it) {
    if (providers.size() >= count) break;
    if (it->expires > now) providers.push_back(*it);
  }
  return providers;
}

size_t ProviderBook::Sweep(absl::Time now) {
  size_t swept = 0;
  while (!expiries_.empty() && std::get<0>(*expiries_.begin()) <= now) {
    const auto [expires, content, provider] = *expiries_.begin();
    Remove(content, provider);
    ++swept;
  }
  return swept;
}

}  // namespace koinon::dht
