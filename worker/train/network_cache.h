#ifndef KOINON_WORKER_TRAIN_NETWORK_CACHE_H_
#define KOINON_WORKER_TRAIN_NETWORK_CACHE_H_

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/graph/model_graph.h"
#include "kernels/network.h"
#include "proto/model.pb.h"

namespace koinon::worker {

// A network, and what it was made with.
struct PreparedNetwork {
  std::unique_ptr<kernels::Network> network;
  kernels::Network::Options options;
};

// Keeps the networks used last, so that the rounds of a job do not each build
// their primitives anew. What a network computes does not depend on what it
// computed before, so neither do results on the cache. Not thread-safe.
class NetworkCache {
 public:
  using Factory =
      std::function<absl::StatusOr<std::unique_ptr<kernels::Network>>(
          const kernels::ModelGraph&, const kernels::Network::Options&)>;

  // Keeps up to `capacity` networks (at least 1) with all their memory, made by
  // `factory`.
  NetworkCache(size_t capacity, Factory factory)
      : capacity_(capacity), factory_(std::move(factory)) {}

  // A network for `model`, whose graph is `graph`; a forward-only request may
  // be given one that can train too, of any batch size. Its parameters hold
  // anything. Valid until the next call. Fails as the factory does.
  absl::StatusOr<PreparedNetwork*> Get(
      const v1::ModelSpec& model, const kernels::ModelGraph& graph,
      const kernels::Network::Options& options);

  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::string model;  // serialised
    PreparedNetwork prepared;
  };

  const size_t capacity_;
  const Factory factory_;
  std::list<Entry> entries_;  // the one used last in front
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TRAIN_NETWORK_CACHE_H_
