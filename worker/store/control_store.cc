#include "worker/store/control_store.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are read as they lie in memory");

constexpr char kFile[] = ".safetensors";
constexpr char kStaged[] = ".tmp";
constexpr size_t kBlockElements = 256 << 10;

constexpr char kJob[] = "koinon.job";
constexpr char kSubmitted[] = "koinon.submitted_ms";
constexpr char kRound[] = "koinon.included_round";
constexpr char kUse[] = "koinon.use";

using Metadata = std::map<std::string, std::string>;

template <typename Integer>
absl::Status ReadNumber(const Metadata& metadata, const char* key,
                        Integer* out) {
  const auto found = metadata.find(key);
  if (found != metadata.end() && absl::SimpleAtoi(found->second, out)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("metadata ", key, ": expected a number, found ",
                   found == metadata.end() ? "none" : found->second));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ControlStore>> ControlStore::Open(
    Env* env, const std::string& dir, Options options) {
  ABSL_RETURN_IF_ERROR(env->MakeDirs(dir));
  ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(dir)));
  std::unique_ptr<ControlStore> store(new ControlStore(env, dir, options));
  ABSL_RETURN_IF_ERROR(store->Recover());
  return store;
}

std::string ControlStore::PathOf(const JobId& job) const {
  return absl::StrCat(dir_, "/", job, kFile);
}

absl::Status ControlStore::Recover() {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_->List(dir_));
  for (const std::string& name : names) {
    const std::string path = absl::StrCat(dir_, "/", name);
    if (absl::EndsWith(name, kStaged)) {
      ABSL_RETURN_IF_ERROR(env_->Remove(path));
      continue;
    }
    if (!absl::EndsWith(name, kFile)) continue;  // not ours
    const JobId job(absl::StripSuffix(name, kFile));
    absl::StatusOr<Entry> entry = ReadEntry(job);
    if (!entry.ok()) {
      // What a disk in trouble cannot read may still be there tomorrow.
      if (!absl::IsInvalidArgument(entry.status())) return entry.status();
      LogWarning("a control variate cannot be used and is dropped",
                 {{"job", job}, {"reason", entry.status()}});
      ABSL_RETURN_IF_ERROR(env_->Remove(path));
      continue;
    }
    MutexLock lock(&mutex_);
    uses_ = std::max(uses_, entry->last_use);
    entries_[job] = *std::move(entry);
  }
  return MakeRoom("", 0);
}

absl::StatusOr<ControlStore::Entry> ControlStore::ReadEntry(
    const JobId& job) const {
  ABSL_ASSIGN_OR_RETURN(SafetensorsHeader header,
                        ReadSafetensorsHeader(env_, PathOf(job)));
  Entry entry;
  ABSL_RETURN_IF_ERROR(
      ReadNumber(header.metadata, kSubmitted, &entry.submitted_ms));
  ABSL_RETURN_IF_ERROR(ReadNumber(header.metadata, kRound, &entry.round));
  ABSL_RETURN_IF_ERROR(ReadNumber(header.metadata, kUse, &entry.last_use));
  if (header.metadata[kJob] != job || !header.layout.AllF32()) {
    return absl::InvalidArgumentError(
        absl::StrCat(PathOf(job), ": is no control variate of job ", job));
  }
  entry.data_offset_bytes = header.data_offset_bytes;
  entry.layout = std::move(header.layout);
  return entry;
}

absl::StatusOr<std::vector<float>> ControlStore::Read(
    const Job& job, const ModelLayout& model) {
  if (Holds(job.name)) {
    ABSL_ASSIGN_OR_RETURN(Entry entry, ReadEntry(job.name));
    if (entry.submitted_ms == job.submitted_ms && entry.layout == model) {
      ABSL_ASSIGN_OR_RETURN(std::vector<float> values,
                            ReadValues(job.name, entry));
      Remember(job.name, std::move(entry));
      return values;
    }
    LogWarning("a control variate is of another job of that name: begun anew",
               {{"job", job.name}});
  }
  ABSL_RETURN_IF_ERROR(Create(job, model));
  return std::vector<float>(model.total_elements());
}

absl::StatusOr<std::vector<float>> ControlStore::ReadValues(
    const JobId& job, const Entry& entry) const {
  ABSL_ASSIGN_OR_RETURN(const auto file,
                        env_->Open(PathOf(job), Env::OpenMode::kRead));
  std::vector<float> values(entry.layout.total_elements());
  ABSL_RETURN_IF_ERROR(file->ReadAt(
      entry.data_offset_bytes, values.size() * sizeof(float), values.data()));
  return values;
}

bool ControlStore::Holds(const JobId& job) const {
  MutexLock lock(&mutex_);
  return entries_.contains(job);
}

absl::StatusOr<std::unique_ptr<SafetensorsWriter>> ControlStore::NewContent(
    const JobId& job, Entry* entry) const {
  {
    MutexLock lock(&mutex_);
    entry->last_use = uses_ + 1;
  }
  const Metadata metadata = {
      {kJob, job},
      {kSubmitted, absl::StrCat(entry->submitted_ms)},
      {kRound, absl::StrCat(entry->round)},
      {kUse, absl::StrCat(entry->last_use)},
  };
  return SafetensorsWriter::Create(env_, PathOf(job), entry->layout, metadata);
}

absl::Status ControlStore::Create(const Job& job, const ModelLayout& model) {
  ABSL_RETURN_IF_ERROR(MakeRoom(job.name, model.total_bytes()));
  Entry entry;
  entry.submitted_ms = job.submitted_ms;
  entry.layout = model;
  ABSL_ASSIGN_OR_RETURN(const auto writer, NewContent(job.name, &entry));
  size_t left = model.total_elements();
  const std::vector<float> zeros(std::min(left, kBlockElements));
  while (left > 0) {
    const size_t count = std::min(left, kBlockElements);
    ABSL_RETURN_IF_ERROR(
        writer->Append(absl::MakeConstSpan(zeros.data(), count)));
    left -= count;
  }
  ABSL_RETURN_IF_ERROR(writer->Finish());
  Remember(job.name, std::move(entry));
  return absl::OkStatus();
}

absl::Status ControlStore::Include(const TaskId& task, const File& update) {
  if (!Holds(task.job)) {
    return absl::NotFoundError(
        absl::StrCat("job ", task.job, " has no control variate here"));
  }
  // From the file, not from memory: an earlier call may have failed after it
  // had put the new file in its place.
  ABSL_ASSIGN_OR_RETURN(Entry entry, ReadEntry(task.job));
  if (task.round <= entry.round) return env_->SyncDir(dir_);
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, update.Size());
  if (size != 2 * entry.layout.total_bytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("update of ", task.ToString(), ": ", size,
                     " bytes, the job's model and control variate have ",
                     2 * entry.layout.total_bytes()));
  }
  Entry next = entry;
  next.round = task.round;
  ABSL_ASSIGN_OR_RETURN(const auto writer, NewContent(task.job, &next));
  ABSL_RETURN_IF_ERROR(Add(task.job, entry, update, writer.get()));
  ABSL_RETURN_IF_ERROR(writer->Finish());
  Remember(task.job, std::move(next));
  return absl::OkStatus();
}

absl::Status ControlStore::Add(const JobId& job, const Entry& entry,
                               const File& update,
                               SafetensorsWriter* writer) const {
  ABSL_ASSIGN_OR_RETURN(const auto file,
                        env_->Open(PathOf(job), Env::OpenMode::kRead));
  const size_t total = entry.layout.total_elements();
  std::vector<float> values, differences;
  for (size_t first = 0; first < total; first += kBlockElements) {
    values.resize(std::min(kBlockElements, total - first));
    differences.resize(values.size());
    const size_t size = values.size() * sizeof(float);
    ABSL_RETURN_IF_ERROR(file->ReadAt(
        entry.data_offset_bytes + first * sizeof(float), size, values.data()));
    ABSL_RETURN_IF_ERROR(
        update.ReadAt(entry.layout.total_bytes() + first * sizeof(float), size,
                      differences.data()));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] += differences[i];
      if (!std::isfinite(values[i])) {
        return absl::InternalError(absl::StrFormat(
            "control variate of job %s: %s became %g", job,
            entry.layout.DescribeElement(first + i), values[i]));
      }
    }
    ABSL_RETURN_IF_ERROR(writer->Append(values));
  }
  return absl::OkStatus();
}

absl::Status ControlStore::MakeRoom(const JobId& job, uint64_t size_bytes) {
  if (size_bytes > options_.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("control variates: the bound is ", options_.max_bytes,
                     " bytes, that of job ", job, " has ", size_bytes));
  }
  MutexLock lock(&mutex_);
  while (true) {
    size_t count = job.empty() ? 0 : 1;
    uint64_t bytes = size_bytes;
    auto oldest = entries_.end();
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->first == job) continue;  // is replaced
      ++count;
      bytes += it->second.layout.total_bytes();
      if (oldest == entries_.end() ||
          it->second.last_use < oldest->second.last_use) {
        oldest = it;
      }
    }
    const bool over = count > options_.max_jobs || bytes > options_.max_bytes;
    if (!over || oldest == entries_.end()) return absl::OkStatus();
    LogWarning("too many control variates: the one used longest ago is dropped",
               {{"job", oldest->first},
                {"max_jobs", options_.max_jobs},
                {"max_bytes", options_.max_bytes}});
    ABSL_RETURN_IF_ERROR(env_->Remove(PathOf(oldest->first)));
    entries_.erase(oldest);
  }
}

void ControlStore::Remember(const JobId& job, Entry entry) {
  MutexLock lock(&mutex_);
  entry.last_use = ++uses_;
  entries_[job] = std::move(entry);
}

}  // namespace koinon::worker
