#ifndef KOINON_DHT_STORE_QUOTAS_H_
#define KOINON_DHT_STORE_QUOTAS_H_

#include <cstddef>
#include <map>

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

  const Options options_;
  Use total_;
  std::map<Key, Use> writers_;  // that have anything
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_QUOTAS_H_
