#include "dht/store/provider_book.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/records/rejection.h"

namespace koinon::dht {

absl::Status ProviderBook::Add(const Key& content, const Contact& provider,
                               absl::Time now) {
  // What has expired takes nobody's place, the provider's own neither.
  Sweep(now);
  Remove(content, provider.id);
  ABSL_RETURN_IF_ERROR(CheckPlace(content, provider));
  if (IsFull(content)) {
    Remove(content, Key(Outnumbered(content, provider.site)->id));
  }
  const absl::Time expires = now + options_.lifetime;
  contents_[content].push_back({.contact = provider, .expires = expires});
  ++counts_[provider.id];
  expiries_.emplace(expires, content, provider.id);
  return absl::OkStatus();
}

bool ProviderBook::IsFull(const Key& content) const {
  const auto found = contents_.find(content);
  return found != contents_.end() &&
         found->second.size() >= options_.max_per_content;
}

const Contact* ProviderBook::Outnumbered(const Key& content,
                                         const std::string& site) const {
  std::map<std::string, size_t> of_site;
  const Contact* oldest = nullptr;  // of the site that has most
  const std::vector<ProviderUntil>& list = contents_.at(content);
  for (const ProviderUntil& p : list) ++of_site[p.contact.site];
  size_t most = of_site[site] + 1;  // else they would push each other out
  for (const ProviderUntil& p : list) {
    if (of_site[p.contact.site] <= most) continue;
    most = of_site[p.contact.site];
    oldest = &p.contact;
  }
  return oldest;
}

absl::Status ProviderBook::CheckPlace(const Key& content,
                                      const Contact& provider) const {
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
  if (IsFull(content) && Outnumbered(content, provider.site) == nullptr) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("content ", content.ToShortHex(), " has ",
                     options_.max_per_content, " providers, all that it may"));
  }
  const auto count = counts_.find(provider.id);
  if (count != counts_.end() &&
      count->second >= options_.max_contents_per_provider) {
    return RejectedError(
        Rejection::kQuota,
        absl::StrCat("provider ", provider.id.ToShortHex(), " announced ",
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
    const Key& content, size_t count, absl::Time now,
    const std::string& site) const {
  std::vector<ProviderUntil> providers;
  const auto found = contents_.find(content);
  if (found == contents_.end()) return providers;
  std::copy_if(found->second.rbegin(), found->second.rend(),
               std::back_inserter(providers),
               [&](const ProviderUntil& p) { return p.expires > now; });
  if (!site.empty()) {
    std::stable_partition(
        providers.begin(), providers.end(),
        [&](const ProviderUntil& p) { return p.contact.site == site; });
  }
  if (providers.size() > count) providers.resize(count);
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
