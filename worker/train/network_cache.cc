#include "worker/train/network_cache.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"

namespace koinon::worker {
namespace {

bool CanServe(const kernels::Network::Options& have,
              const kernels::Network::Options& want) {
  if (have.loss != want.loss || have.threads != want.threads ||
      have.bfloat16 != want.bfloat16) {
    return false;
  }
  if (!want.training) return true;
  return have.training && have.batch_size == want.batch_size;
}

}  // namespace

absl::StatusOr<PreparedNetwork*> NetworkCache::Get(
    const v1::ModelSpec& model, const kernels::ModelGraph& graph,
    const kernels::Network::Options& options) {
  // Equal bytes mean equal models; unequal bytes at worst a network more.
  const std::string key = model.SerializeAsString();
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) {
        return entry.model == key && CanServe(entry.prepared.options, options);
      });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return &entries_.front().prepared;
  }
  // Room is made first, so that there are never more than `capacity_`.
  while (entries_.size() >= capacity_ && !entries_.empty()) entries_.pop_back();
  Entry entry;
  entry.model = key;
  entry.prepared.options = options;
  ABSL_ASSIGN_OR_RETURN(entry.prepared.network, factory_(graph, options));
  entries_.push_front(std::move(entry));
  return &entries_.front().prepared;
}

}  // namespace koinon::worker
