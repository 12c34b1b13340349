#ifndef KOINON_COORDINATOR_MODELS_CATALOG_H_
#define KOINON_COORDINATOR_MODELS_CATALOG_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "proto/model.pb.h"

namespace koinon::coordinator {

// The manifests of all published versions, for whoever serves models while the
// engine publishes new ones. Thread-safe.
class ModelCatalog {
 public:
  static constexpr int64_t kNewest = -1;

  void Put(v1::ModelManifest manifest);
  void Remove(const JobId& job, int64_t version);
  // `version` may be kNewest. NOT_FOUND says which versions there are.
  absl::StatusOr<std::shared_ptr<const v1::ModelManifest>> Find(
      const JobId& job, int64_t version) const;
  // Of one job, or of all if `job` is empty; by job, then version.
  std::vector<std::shared_ptr<const v1::ModelManifest>> List(
      const JobId& job) const;

 private:
  // The second owners of a manifest are the transfers that serve it.
  using Versions = std::map<int64_t, std::shared_ptr<const v1::ModelManifest>>;
  mutable Mutex mutex_;
  std::map<JobId, Versions> jobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_MODELS_CATALOG_H_
