#ifndef KOINON_WORKER_TESTING_FAKE_MODELS_H_
#define KOINON_WORKER_TESTING_FAKE_MODELS_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/env.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "worker/models/model_source.h"

namespace koinon::worker {

// One model version, which comes by no network; the first fetch brings it to
// the disk. Thread-safe.
class FakeModels final : public ModelSource {
 public:
  FakeModels(Env* env, std::string bytes)
      : env_(env), bytes_(std::move(bytes)), digest_(Sha256Of(bytes_)) {}

  const Digest& digest() const { return digest_; }
  // So many fetches fail.
  void Fail(int fetches, absl::Status status) {
    MutexLock lock(&mutex_);
    failures_ = fetches;
    failure_ = std::move(status);
  }
  std::optional<v1::Welcome> welcome() const {
    MutexLock lock(&mutex_);
    return welcome_;
  }

  std::optional<v1::Contact> contact() const override {
    v1::Contact contact;
    contact.set_address("10.0.0.5:7171");
    return contact;
  }
  void OnWelcome(const v1::Welcome& welcome) override {
    MutexLock lock(&mutex_);
    welcome_ = welcome;
  }
  absl::StatusOr<Fetched> Fetch(
      const v1::OfferTask& offer,
      const std::function<bool()>& cancelled) override {
    if (cancelled()) return absl::CancelledError("cancelled");
    MutexLock lock(&mutex_);
    if (failures_ > 0) {
      --failures_;
      return failure_;
    }
    if (offer.base_digest() != digest_.ToBytes()) {
      return absl::NotFoundError("no such version");
    }
    Fetched fetched;
    if (!env_->Exists(kPath)) {
      ABSL_RETURN_IF_ERROR(env_->MakeDirs("/models"));
      ABSL_RETURN_IF_ERROR(WriteFileAtomically(env_, kPath, bytes_));
      fetched.traffic.set_from_origin(static_cast<int64_t>(bytes_.size()));
      traffic_.set_from_origin(traffic_.from_origin() +
                               fetched.traffic.from_origin());
    }
    fetched.model = std::make_shared<Model>();
    return fetched;
  }
  v1::SwarmTraffic traffic() const override {
    MutexLock lock(&mutex_);
    return traffic_;
  }

 private:
  static constexpr char kPath[] = "/models/model";
  class Model final : public LocalModel {
   public:
    const std::string& path() const override { return path_; }

   private:
    const std::string path_ = kPath;
  };

  Env* const env_;
  const std::string bytes_;
  const Digest digest_;
  mutable Mutex mutex_;
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::Welcome> welcome_ ABSL_GUARDED_BY(mutex_);
  v1::SwarmTraffic traffic_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_TESTING_FAKE_MODELS_H_
