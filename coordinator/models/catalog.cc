#include "coordinator/models/catalog.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace koinon::coordinator {

void ModelCatalog::Put(v1::ModelManifest manifest) {
  MutexLock lock(&mutex_);
  Versions& versions = jobs_[manifest.job()];
  const int64_t version = manifest.version();
  versions[version] =
      std::make_shared<const v1::ModelManifest>(std::move(manifest));
}

void ModelCatalog::Remove(const JobId& job, int64_t version) {
  MutexLock lock(&mutex_);
  const auto it = jobs_.find(job);
  if (it != jobs_.end()) it->second.erase(version);
}

absl::StatusOr<std::shared_ptr<const v1::ModelManifest>> ModelCatalog::Find(
    const JobId& job, int64_t version) const {
  MutexLock lock(&mutex_);
  const auto it = jobs_.find(job);
  if (it == jobs_.end() || it->second.empty()) {
    return absl::NotFoundError(
        absl::StrCat("job ", job, " has no published model"));
  }
  const Versions& versions = it->second;
  if (version == kNewest) return versions.rbegin()->second;
  const auto found = versions.find(version);
  if (found == versions.end()) {
    return absl::NotFoundError(
        absl::StrCat("job ", job, " has no version ", version, "; kept are ",
                     versions.size(), " from ", versions.begin()->first, " to ",
                     versions.rbegin()->first));
  }
  return found->second;
}

std::vector<std::shared_ptr<const v1::ModelManifest>> ModelCatalog::List(
    const JobId& job) const {
  std::vector<std::shared_ptr<const v1::ModelManifest>> all;
  MutexLock lock(&mutex_);
  for (const auto& [name, versions] : jobs_) {
    if (!job.empty() && name != job) continue;
    for (const auto& [version, manifest] : versions) all.push_back(manifest);
  }
  return all;
}

}  // namespace koinon::coordinator
