#include "coordinator/spool/spool.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

// The file grows by more than was asked for: each growth is a call to the file
// system, and its blocks stay together.
constexpr uint64_t kGrowthBytes = 64u << 20;
constexpr size_t kReadBytes = 256u << 10;

uint64_t Floor(uint64_t size) {
  return size / Spool::kBlockBytes * Spool::kBlockBytes;
}

// Requires a size that is far from overflow.
uint64_t Ceiling(uint64_t size) { return Floor(size + Spool::kBlockBytes - 1); }

std::string Describe(const SpoolExtent& extent) {
  return absl::StrCat("[", extent.offset, ", ", extent.offset + extent.size,
                      ")");
}

absl::Status CheckWithin(const SpoolExtent& extent, uint64_t offset,
                         size_t size) {
  if (offset <= extent.size && size <= extent.size - offset) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("bytes [", offset, ", ", offset + size, ") of an update of ",
                   extent.size));
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<std::unique_ptr<File>> OpenOrCreate(Env* env,
                                                   const std::string& path) {
  auto file = env->Open(path, Env::OpenMode::kReadWrite);
  if (file.ok() || !absl::IsNotFound(file.status())) return file;
  file = env->Open(path, Env::OpenMode::kCreate);
  if (!file.ok()) return file;
  ABSL_RETURN_IF_ERROR(env->SyncDir(ParentOf(path)));
  return file;
}

class ExtentSource final : public aggregation::UpdateSource {
 public:
  ExtentSource(const File* file, const SpoolExtent& extent)
      : file_(file), extent_(extent) {}

  absl::StatusOr<const float*> Read(size_t offset, size_t count,
                                    float* scratch) const override {
    const uint64_t elements = extent_.size / sizeof(float);
    if (offset > elements || count > elements - offset) {
      return absl::DataLossError(
          absl::StrCat("elements [", offset, ", ", offset + count,
                       ") wanted, the spool holds ", elements));
    }
    const absl::Status read =
        file_->ReadAt(extent_.offset + offset * sizeof(float),
                      count * sizeof(float), scratch);
    // Whatever keeps the bytes from us, the update is lost to this round.
    if (!read.ok()) return absl::DataLossError(std::string(read.message()));
    return scratch;
  }

 private:
  const File* const file_;
  const SpoolExtent extent_;
};

}  // namespace

Spool::Spool(std::unique_ptr<File> file, std::string path, Options options)
    : file_(std::move(file)), path_(std::move(path)), options_(options) {}

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(
    Env* env, const std::string& path, Options options,
    absl::Span<const SpoolExtent> taken) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file, OpenOrCreate(env, path));
  std::unique_ptr<Spool> spool(new Spool(std::move(file), path, options));
  ABSL_RETURN_IF_ERROR(spool->Adopt(taken));
  return spool;
}

absl::Status Spool::Adopt(absl::Span<const SpoolExtent> taken) {
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file_->Size());
  std::vector<SpoolExtent> extents(taken.begin(), taken.end());
  std::sort(extents.begin(), extents.end(),
            [](const SpoolExtent& a, const SpoolExtent& b) {
              return a.offset < b.offset;
            });
  MutexLock lock(&mutex_);
  uint64_t end = 0;
  for (const SpoolExtent& extent : extents) {
    if (extent.size == 0 || extent.size > size ||
        extent.offset > size - extent.size) {
      return absl::DataLossError(
          absl::StrCat(path_, ": the journal names an update at ",
                       Describe(extent), ", the file has ", size, " bytes"));
    }
    if (extent.offset < end || extent.offset % kBlockBytes != 0) {
      return absl::DataLossError(absl::StrCat(
          path_, ": the journal names an update at ", Describe(extent),
          ", expected a multiple of ", kBlockBytes, " from ", end, " on"));
    }
    if (extent.offset > end) free_.Add(end, extent.offset - end);
    end = extent.offset + Ceiling(extent.size);
    allocated_bytes_ += Ceiling(extent.size);
  }
  // The last extent's block may be cut off by a file of another length.
  file_bytes_ = std::max(
      end, std::min(Floor(size), std::max(end, Floor(options_.max_bytes))));
  if (file_bytes_ != size) ABSL_RETURN_IF_ERROR(file_->Resize(file_bytes_));
  if (file_bytes_ > end) free_.Add(end, file_bytes_ - end);
  return absl::OkStatus();
}

absl::StatusOr<SpoolExtent> Spool::Allocate(uint64_t size) {
  if (size == 0) {
    return absl::InvalidArgumentError(
        "an update in the spool needs at least 1 byte");
  }
  MutexLock lock(&mutex_);
  if (size > Floor(options_.max_bytes)) return Full(size);
  const uint64_t whole = Ceiling(size);
  std::optional<uint64_t> offset = free_.Take(whole);
  if (!offset.has_value()) {
    ABSL_RETURN_IF_ERROR(Grow(whole - free_.size_before(file_bytes_)));
    offset = free_.Take(whole);
  }
  KOINON_CHECK(offset.has_value());
  allocated_bytes_ += whole;
  return SpoolExtent{*offset, size};
}

absl::Status Spool::Grow(uint64_t size) {
  const uint64_t bound = Floor(options_.max_bytes);
  if (file_bytes_ > bound || size > bound - file_bytes_) return Full(size);
  const uint64_t generous =
      std::min(std::max(size, kGrowthBytes), bound - file_bytes_);
  uint64_t grown = generous;
  absl::Status resized = file_->Resize(file_bytes_ + generous);
  if (absl::IsResourceExhausted(resized) && size < generous) {
    grown = size;
    resized = file_->Resize(file_bytes_ + size);
  }
  ABSL_RETURN_IF_ERROR(resized);
  KOINON_CHECK(free_.Add(file_bytes_, grown));
  file_bytes_ += grown;
  return absl::OkStatus();
}

absl::Status Spool::Full(uint64_t size) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      path_, ": the spool's bound is ", options_.max_bytes, " bytes, ",
      allocated_bytes_, " are in use, the largest free extent has ",
      free_.largest(), ", ", size, " more were wanted"));
}

void Spool::Release(const SpoolExtent& extent) {
  MutexLock lock(&mutex_);
  const uint64_t whole = Ceiling(extent.size);
  // An extent released twice would be given to two updates at once.
  KOINON_CHECK(extent.offset + whole <= file_bytes_ &&
               whole <= allocated_bytes_ && free_.Add(extent.offset, whole));
  allocated_bytes_ -= whole;
}

absl::Status Spool::Write(const SpoolExtent& extent, uint64_t offset,
                          const void* data, size_t size) {
  ABSL_RETURN_IF_ERROR(CheckWithin(extent, offset, size));
  ABSL_RETURN_IF_ERROR(failure());
  return file_->WriteAt(extent.offset + offset, data, size);
}

absl::Status Spool::Read(const SpoolExtent& extent, uint64_t offset, void* data,
                         size_t size) const {
  ABSL_RETURN_IF_ERROR(CheckWithin(extent, offset, size));
  return file_->ReadAt(extent.offset + offset, size, data);
}

absl::Status Spool::Sync() {
  // A failure to write is reported to one sync alone: none may begin, and find
  // nothing wrong, before what the last one found is known.
  MutexLock one_at_a_time(&sync_mutex_);
  ABSL_RETURN_IF_ERROR(failure());
  const absl::Status synced = file_->Sync();
  if (synced.ok()) return synced;
  // The system may have dropped the pages that it could not write: a second
  // attempt would succeed and mean nothing.
  MutexLock lock(&mutex_);
  if (sync_failure_.ok()) sync_failure_ = synced;
  return sync_failure_;
}

absl::Status Spool::failure() const {
  MutexLock lock(&mutex_);
  return sync_failure_;
}

std::unique_ptr<aggregation::UpdateSource> Spool::Source(
    const SpoolExtent& extent) const {
  return std::make_unique<ExtentSource>(file_.get(), extent);
}

absl::StatusOr<Digest> Spool::DigestOf(const SpoolExtent& extent) const {
  std::vector<char> block(std::min<uint64_t>(kReadBytes, extent.size));
  Sha256 hash;
  for (uint64_t done = 0; done < extent.size; done += block.size()) {
    const size_t size = std::min<uint64_t>(block.size(), extent.size - done);
    ABSL_RETURN_IF_ERROR(
        file_->ReadAt(extent.offset + done, size, block.data()));
    hash.Update(block.data(), size);
  }
  return hash.Finish();
}

uint64_t Spool::allocated_bytes() const {
  MutexLock lock(&mutex_);
  return allocated_bytes_;
}

uint64_t Spool::file_bytes() const {
  MutexLock lock(&mutex_);
  return file_bytes_;
}

}  // namespace koinon::coordinator
