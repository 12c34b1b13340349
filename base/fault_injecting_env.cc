#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "base/testing_env.h"

namespace koinon {

class FaultInjectingEnv::FaultInjectingFile final : public File {
 public:
  FaultInjectingFile(std::string path, FaultInjectingEnv* env,
                     std::unique_ptr<File> base)
      : path_(std::move(path)), env_(env), base_(std::move(base)) {}

  absl::Status ReadAt(uint64_t offset, size_t size, void* data) const override {
    ABSL_RETURN_IF_ERROR(env_->Enter(path_, Operation::kRead));
    return base_->ReadAt(offset, size, data);
  }
  absl::Status WriteAt(uint64_t offset, const void* data,
                       size_t size) override {
    const absl::Status entered = env_->Enter(path_, Operation::kWrite);
    if (!entered.ok()) {
      base_->WriteAt(offset, data, size / 2).IgnoreError();
      return entered;
    }
    return base_->WriteAt(offset, data, size);
  }
  absl::Status Sync() override {
    ABSL_RETURN_IF_ERROR(env_->Enter(path_, Operation::kSync));
    return base_->Sync();
  }
  absl::StatusOr<uint64_t> Size() const override { return base_->Size(); }
  absl::Status Resize(uint64_t size) override {
    ABSL_RETURN_IF_ERROR(env_->Enter(path_, Operation::kResize));
    return base_->Resize(size);
  }

 private:
  const std::string path_;
  FaultInjectingEnv* const env_;
  const std::unique_ptr<File> base_;
};

void FaultInjectingEnv::FailAt(Operation operation, int64_t k,
                               absl::Status status) {
  MutexLock lock(&mutex_);
  Plan& plan = plans_[static_cast<size_t>(operation)];
  plan.fail_at = plan.count + k;
  plan.at_status = std::move(status);
}

void FaultInjectingEnv::FailAlways(Operation operation, absl::Status status) {
  MutexLock lock(&mutex_);
  plans_[static_cast<size_t>(operation)].always_status = std::move(status);
}

void FaultInjectingEnv::FailAllFrom(int64_t k, absl::Status status) {
  MutexLock lock(&mutex_);
  fail_all_from_ = total_count_ + k;
  fail_all_status_ = std::move(status);
}

void FaultInjectingEnv::StopFailing() {
  MutexLock lock(&mutex_);
  fail_all_from_ = 0;
  for (Plan& plan : plans_) {
    plan.fail_at = 0;
    plan.always_status = absl::OkStatus();
  }
}

void FaultInjectingEnv::FillDisk() {
  const absl::Status full =
      absl::ResourceExhaustedError("No space left on device");
  FailAlways(Operation::kWrite, full);
  FailAlways(Operation::kResize, full);
  FailAlways(Operation::kMakeDirs, full);
}

int64_t FaultInjectingEnv::count(Operation operation) const {
  MutexLock lock(&mutex_);
  return plans_[static_cast<size_t>(operation)].count;
}

int64_t FaultInjectingEnv::total_count() const {
  MutexLock lock(&mutex_);
  return total_count_;
}

absl::Status FaultInjectingEnv::Enter(const std::string& path,
                                      Operation operation) {
  MutexLock lock(&mutex_);
  Plan& plan = plans_[static_cast<size_t>(operation)];
  ++plan.count;
  ++total_count_;
  absl::Status status = plan.always_status;
  if (plan.count == plan.fail_at) status = plan.at_status;
  if (fail_all_from_ > 0 && total_count_ >= fail_all_from_) {
    status = fail_all_status_;
  }
  if (status.ok()) return status;
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

absl::StatusOr<std::unique_ptr<File>> FaultInjectingEnv::Open(
    const std::string& path, OpenMode mode) {
  ABSL_RETURN_IF_ERROR(Enter(path, Operation::kOpen));
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file, base_->Open(path, mode));
  return std::make_unique<FaultInjectingFile>(path, this, std::move(file));
}

absl::Status FaultInjectingEnv::Rename(const std::string& from,
                                       const std::string& to) {
  ABSL_RETURN_IF_ERROR(Enter(from, Operation::kRename));
  return base_->Rename(from, to);
}

absl::Status FaultInjectingEnv::Remove(const std::string& path) {
  ABSL_RETURN_IF_ERROR(Enter(path, Operation::kRemove));
  return base_->Remove(path);
}

absl::Status FaultInjectingEnv::SyncDir(const std::string& dir) {
  ABSL_RETURN_IF_ERROR(Enter(dir, Operation::kSyncDir));
  return base_->SyncDir(dir);
}

absl::Status FaultInjectingEnv::MakeDirs(const std::string& dir) {
  ABSL_RETURN_IF_ERROR(Enter(dir, Operation::kMakeDirs));
  return base_->MakeDirs(dir);
}

absl::StatusOr<std::vector<std::string>> FaultInjectingEnv::List(
    const std::string& dir) {
  ABSL_RETURN_IF_ERROR(Enter(dir, Operation::kList));
  return base_->List(dir);
}

}  // namespace koinon
