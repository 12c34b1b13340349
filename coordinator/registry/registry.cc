#include "coordinator/registry/registry.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/random.h"

namespace koinon::coordinator {
namespace {

bool HasDataset(const v1::Capabilities& capabilities, const std::string& name) {
  return std::any_of(capabilities.datasets().begin(),
                     capabilities.datasets().end(), [&](const auto& dataset) {
                       return dataset.name() == name && dataset.examples() > 0;
                     });
}

bool HasTrainer(const v1::Capabilities& capabilities, const std::string& name) {
  return name.empty() ||
         std::find(capabilities.external_trainers().begin(),
                   capabilities.external_trainers().end(),
                   name) != capabilities.external_trainers().end();
}

bool AreOfOneNode(const Registry::Worker& a, const Registry::Worker& b) {
  return a.peer.has_value() && b.peer.has_value() && a.peer->id == b.peer->id;
}

}  // namespace

absl::Status Registry::Join(absl::Time now, Worker worker) {
  auto it = workers_.find(worker.id);
  if (it == workers_.end()) {
    if (workers_.size() >= options_.max_workers) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "worker ", worker.id, ": ", workers_.size(),
          " others are registered, which is the most that this coordinator "
          "takes"));
    }
  } else {
    if (!AreOfOneNode(it->second, worker)) NoteGone(it->second);
    Erase(it);
  }
  if (worker.peer.has_value()) std::erase(gone_, worker.peer->id);
  worker.connected = true;
  worker.lease_ends = now + options_.lease;
  by_lease_end_.emplace(worker.lease_ends, worker.id);
  const WorkerId id = worker.id;
  workers_.emplace(id, std::move(worker));
  ++generation_;
  return absl::OkStatus();
}

bool Registry::Renew(absl::Time now, const WorkerId& id, uint64_t session) {
  Worker* worker = Current(id, session);
  if (worker == nullptr || !worker->connected) return false;
  SetLeaseEnd(worker, now + options_.lease);
  return true;
}

bool Registry::Disconnect(const WorkerId& id, uint64_t session) {
  Worker* worker = Current(id, session);
  if (worker == nullptr || !worker->connected) return false;
  NoteGone(*worker);
  worker->connected = false;
  ++generation_;
  return true;
}

bool Registry::Leave(const WorkerId& id, uint64_t session) {
  if (Current(id, session) == nullptr) return false;
  Forget(workers_.find(id));
  return true;
}

std::vector<WorkerId> Registry::Expire(absl::Time now) {
  std::vector<WorkerId> expired;
  while (!by_lease_end_.empty() && by_lease_end_.begin()->first <= now) {
    expired.push_back(by_lease_end_.begin()->second);
    Forget(workers_.find(expired.back()));
  }
  std::sort(expired.begin(), expired.end());
  return expired;
}

absl::Time Registry::next_expiry() const {
  return by_lease_end_.empty() ? absl::InfiniteFuture()
                               : by_lease_end_.begin()->first;
}

const Registry::Worker* Registry::Find(const WorkerId& id) const {
  auto it = workers_.find(id);
  return it == workers_.end() ? nullptr : &it->second;
}

std::vector<WorkerId> Registry::Capable(const v1::JobSpec& spec) const {
  std::vector<WorkerId> capable;
  for (const auto& [id, worker] : workers_) {
    if (worker.connected && HasDataset(worker.capabilities, spec.dataset()) &&
        HasTrainer(worker.capabilities, spec.training().external_trainer())) {
      capable.push_back(id);
    }
  }
  return capable;
}

void Registry::SetLeaseEnd(Worker* worker, absl::Time lease_ends) {
  by_lease_end_.erase({worker->lease_ends, worker->id});
  worker->lease_ends = lease_ends;
  by_lease_end_.emplace(lease_ends, worker->id);
}

void Registry::Forget(std::map<WorkerId, Worker>::iterator worker) {
  NoteGone(worker->second);
  Erase(worker);
}

void Registry::Erase(std::map<WorkerId, Worker>::iterator worker) {
  by_lease_end_.erase({worker->second.lease_ends, worker->first});
  workers_.erase(worker);
  ++generation_;
}

void Registry::NoteGone(const Worker& worker) {
  if (worker.connected && worker.peer.has_value()) {
    gone_.push_back(worker.peer->id);
  }
}

Registry::Worker* Registry::Current(const WorkerId& id, uint64_t session) {
  auto it = workers_.find(id);
  if (it == workers_.end() || it->second.session != session) return nullptr;
  return &it->second;
}

std::vector<WorkerId> SampleCohort(absl::Span<const WorkerId> candidates,
                                   size_t count, uint64_t seed) {
  std::vector<WorkerId> cohort(candidates.begin(), candidates.end());
  if (count >= cohort.size()) return cohort;
  // The first `count` steps of a Fisher-Yates shuffle.
  Random random(seed);
  for (size_t i = 0; i < count; ++i) {
    std::swap(cohort[i], cohort[i + random.NextBelow(cohort.size() - i)]);
  }
  cohort.resize(count);
  std::sort(cohort.begin(), cohort.end());
  return cohort;
}

}  // namespace koinon::coordinator
