#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/env.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

// Abseil's mapping, except where an operator has to act differently.
absl::StatusCode CodeOf(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::StatusCode::kResourceExhausted;
    case ENOENT:
      return absl::StatusCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EIO:
      return absl::StatusCode::kDataLoss;
    default:
      return absl::ErrnoToStatusCode(error);
  }
}

absl::Status ErrnoStatus(const std::string& path, absl::string_view doing,
                         int error) {
  const absl::Status reason = absl::ErrnoToStatus(error, "");
  return absl::Status(CodeOf(error),
                      absl::StrCat(path, ": cannot ", doing, reason.message()));
}

// Calls `call` until no signal interrupts it.
template <typename Call>
auto RetryInterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

// Off the file offsets that the system can count.
bool ExceedsOffsets(uint64_t offset, uint64_t size) {
  constexpr auto kMax =
      static_cast<uint64_t>(std::numeric_limits<off_t>::max());
  return offset > kMax || size > kMax - offset;
}

class PosixFile final : public File {
 public:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  ~PosixFile() override { ::close(fd_); }

  absl::Status ReadAt(uint64_t offset, size_t size, void* data) const override {
    if (ExceedsOffsets(offset, size)) return PastEnd(offset, size, 0);
    auto* out = static_cast<char*>(data);
    size_t done = 0;
    while (done < size) {
      const ssize_t n = RetryInterrupted([&] {
        return ::pread(fd_, out + done, size - done,
                       static_cast<off_t>(offset + done));
      });
      if (n < 0) return ErrnoStatus(path_, "read", errno);
      if (n == 0) return PastEnd(offset, size, done);
      done += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status WriteAt(uint64_t offset, const void* data,
                       size_t size) override {
    if (ExceedsOffsets(offset, size)) {
      return ErrnoStatus(path_, "write", EFBIG);
    }
    const auto* in = static_cast<const char*>(data);
    size_t done = 0;
    while (done < size) {
      const ssize_t n = RetryInterrupted([&] {
        return ::pwrite(fd_, in + done, size - done,
                        static_cast<off_t>(offset + done));
      });
      if (n < 0) return ErrnoStatus(path_, "write", errno);
      if (n == 0) return ErrnoStatus(path_, "write", ENOSPC);
      done += static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    if (RetryInterrupted([&] { return ::fdatasync(fd_); }) < 0) {
      return ErrnoStatus(path_, "sync", errno);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() const override {
    struct stat info;
    if (::fstat(fd_, &info) < 0) return ErrnoStatus(path_, "stat", errno);
    return static_cast<uint64_t>(info.st_size);
  }

  absl::Status Resize(uint64_t size) override {
    if (ExceedsOffsets(size, 0)) return ErrnoStatus(path_, "resize", EFBIG);
    const auto length = static_cast<off_t>(size);
    if (length > 0) ABSL_RETURN_IF_ERROR(Reserve(length));
    if (RetryInterrupted([&] { return ::ftruncate(fd_, length); }) < 0) {
      return ErrnoStatus(path_, "resize", errno);
    }
    return absl::OkStatus();
  }

 private:
  // fallocate() and not posix_fallocate(), which would write to every block
  // where the file system cannot reserve; there we do without.
  absl::Status Reserve(off_t length) {
    if (RetryInterrupted([&] { return ::fallocate(fd_, 0, 0, length); }) < 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS) {
      return ErrnoStatus(path_, absl::StrCat("reserve ", length, " bytes"),
                         errno);
    }
    return absl::OkStatus();
  }

  absl::Status PastEnd(uint64_t offset, size_t size, size_t found) const {
    return absl::OutOfRangeError(
        absl::StrCat(path_, ": expected ", size, " bytes at offset ", offset,
                     ", the file ends after ", found, " of them"));
  }

  const std::string path_;
  const int fd_;
};

int FlagsOf(Env::OpenMode mode) {
  switch (mode) {
    case Env::OpenMode::kRead:
      return O_RDONLY | O_CLOEXEC;
    case Env::OpenMode::kReadWrite:
      return O_RDWR | O_CLOEXEC;
    case Env::OpenMode::kCreate:
    case Env::OpenMode::kCreatePrivate:
      return O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
  }
  return O_RDONLY | O_CLOEXEC;
}

class PosixEnv final : public Env {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             OpenMode mode) override {
    const bool is_private = mode == OpenMode::kCreatePrivate;
    const int fd = RetryInterrupted([&] {
      return ::open(path.c_str(), FlagsOf(mode), is_private ? 0600 : 0666);
    });
    if (fd < 0) return ErrnoStatus(path, "open", errno);
    auto file = std::make_unique<PosixFile>(path, fd);
    struct stat info;
    if (::fstat(fd, &info) < 0) return ErrnoStatus(path, "stat", errno);
    if (S_ISDIR(info.st_mode)) return ErrnoStatus(path, "open", EISDIR);
    // A file that was there keeps the mode that it had.
    if (is_private && ::fchmod(fd, 0600) < 0) {
      return ErrnoStatus(path, "make private", errno);
    }
    return file;
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) < 0) {
      return ErrnoStatus(from, absl::StrCat("rename to ", to), errno);
    }
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    if (::unlink(path.c_str()) < 0) return ErrnoStatus(path, "remove", errno);
    return absl::OkStatus();
  }

  absl::Status SyncDir(const std::string& dir) override {
    const int fd = RetryInterrupted([&] {
      return ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    });
    if (fd < 0) return ErrnoStatus(dir, "open", errno);
    const int synced = RetryInterrupted([&] { return ::fsync(fd); });
    const int error = errno;
    ::close(fd);
    return synced < 0 ? ErrnoStatus(dir, "sync", error) : absl::OkStatus();
  }

  absl::Status MakeDirs(const std::string& dir) override {
    for (size_t end = dir.find('/', 1);; end = dir.find('/', end + 1)) {
      const std::string prefix = dir.substr(0, end);
      if (::mkdir(prefix.c_str(), 0777) < 0 && errno != EEXIST) {
        return ErrnoStatus(dir, absl::StrCat("make directory ", prefix), errno);
      }
      if (end == std::string::npos) break;
    }
    struct stat info;
    if (::stat(dir.c_str(), &info) < 0) return ErrnoStatus(dir, "stat", errno);
    if (!S_ISDIR(info.st_mode)) {
      return ErrnoStatus(dir, "make directory", ENOTDIR);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    DIR* const stream = ::opendir(dir.c_str());
    if (stream == nullptr) return ErrnoStatus(dir, "list", errno);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
    }
    const int error = errno;
    ::closedir(stream);
    if (error != 0) return ErrnoStatus(dir, "list", error);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool Exists(const std::string& path) override {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0;
  }

  absl::StatusOr<bool> IsPrivate(const std::string& path) override {
    struct stat info;
    if (::stat(path.c_str(), &info) < 0)
      return ErrnoStatus(path, "stat", errno);
    return (info.st_mode & (S_IRWXG | S_IRWXO)) == 0;
  }
};

}  // namespace

Env* RealEnv() {
  static PosixEnv* const env = new PosixEnv;
  return env;
}

}  // namespace koinon
