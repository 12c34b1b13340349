#ifndef KOINON_DHT_STORE_PROVIDER_BOOK_H_
#define KOINON_DHT_STORE_PROVIDER_BOOK_H_

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "dht/key.h"

namespace koinon::dht {

// Who provides which content, for as long as they say so again and again. Pure:
// told `now`. Bounded for each content, for each provider and in total. What
// lives is pushed out only where a content has all the providers that it may:
// the site that has most of them then makes room for one that has fewer, so
// that workers that fetch from their own site alone find somebody there. Not
// thread-safe.
class ProviderBook {
 public:
  struct Options {
    size_t max_contents = 65'536;
    size_t max_providers = 131'072;  // of all contents together
    size_t max_per_content = 64;
    size_t max_contents_per_provider = 1'024;
    absl::Duration lifetime = absl::Minutes(10);
  };
  struct ProviderUntil {
    Contact contact;
    absl::Time expires;
  };

  explicit ProviderBook(Options options) : options_(options) {}

  // `provider` has the content for `lifetime` from now, at this address. kQuota
  // if it, or the content, or the book has all that it may have.
  absl::Status Add(const Key& content, const Contact& provider, absl::Time now);
  void Remove(const Key& content, const Key& provider);
  // Alive, those of `site` first unless it is empty, and the last announced
  // first; at most `count`.
  std::vector<ProviderUntil> Find(const Key& content, size_t count,
                                  absl::Time now,
                                  const std::string& site = "") const;
  // Forgets those that have expired, and says how many they were.
  size_t Sweep(absl::Time now);

  size_t contents() const { return contents_.size(); }
  size_t providers() const { return expiries_.size(); }

 private:
  using Expiry = std::tuple<absl::Time, Key, Key>;  // of content, by provider

  bool IsFull(const Key& content) const;
  // Who makes room for one more of `site`, if anybody.
  const Contact* Outnumbered(const Key& content, const std::string& site) const;
  absl::Status CheckPlace(const Key& content, const Contact& provider) const;

  const Options options_;
  std::map<Key, std::vector<ProviderUntil>> contents_;  // last announced last
  std::map<Key, size_t> counts_;                        // contents by provider
  std::set<Expiry> expiries_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_PROVIDER_BOOK_H_
