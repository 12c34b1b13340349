#ifndef KOINON_DHT_STORE_QUOTAS_H_
#define KOINON_DHT_STORE_QUOTAS_H_

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "dht/key.h"

namespace koinon::dht {

// Who has how much of what is kept: keys and bytes, bounded in total and for
// each writer. Not thread-safe.
class Quotas {
 public:
  struct Options {
    size_t max_keys = 0;
    size_t max_bytes = 0;
    size_t max_keys_per_writer = 0;
    size_t max_bytes_per_writer = 0;
  };
  explicit Quotas(Options options) : options_(options) {}

  // kQuota, which says whose bound: one key more of so many bytes would not
  // fit.
  absl::Status Check(const Key& writer, size_t bytes) const;
  // Whether it is the writer's own bound alone that it would not fit in, and
  // would if the writer had nothing else.
  bool OverOwn(const Key& writer, size_t bytes) const;
  // Whether it is within the writer's own bound, if not in the total.
  bool WithinOwn(const Key& writer, size_t bytes) const;
  // If it does not fit in the total: who is to make room. The writer that has
  // the most of what is short, if that is more than this one would have with
  // it; else this one, if it has anything.
  std::optional<Key> MakesRoom(const Key& writer, size_t bytes) const;
  void Charge(const Key& writer, size_t bytes);
  // Requires that it was charged.
  void Release(const Key& writer, size_t bytes);

  size_t keys() const { return total_.keys; }
  size_t bytes() const { return total_.bytes; }
  size_t writers() const { return writers_.size(); }

 private:
  struct Use {
    size_t keys = 0;
    size_t bytes = 0;
  };
  absl::Status CheckTotal(size_t bytes) const;
  absl::Status CheckOwn(const Key& writer, size_t bytes) const;
  Use UseOf(const Key& writer) const;
  void Set(const Key& writer, const Use& use);

  const Options options_;
  Use total_;
  std::map<Key, Use> writers_;  // that have anything
  // The same, by how much: the last has the most.
  std::set<std::pair<size_t, Key>> by_keys_;
  std::set<std::pair<size_t, Key>> by_bytes_;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_QUOTAS_H_
