#include "tools/bench/shared_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"

namespace koinon::tools {
namespace {

absl::Status NoMemory(size_t size_bytes, int error) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "cannot share ", size_bytes,
      " bytes of memory: ", absl::ErrnoToStatus(error, "").message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedFloats>> SharedFloats::Create(
    size_t count) {
  const size_t size = count * sizeof(float);
  // Without MFD_CLOEXEC: children inherit it.
  const int fd = ::memfd_create("koinon-bench", 0);
  if (fd < 0) return NoMemory(size, errno);
  if (::ftruncate(fd, static_cast<off_t>(size)) < 0) {
    const int error = errno;
    ::close(fd);
    return NoMemory(size, error);
  }
  void* const memory =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return NoMemory(size, error);
  }
  return std::unique_ptr<SharedFloats>(
      new SharedFloats(fd, absl::MakeSpan(static_cast<float*>(memory), count)));
}

SharedFloats::~SharedFloats() {
  ::munmap(values_.data(), values_.size() * sizeof(float));
  ::close(fd_);
}

}  // namespace koinon::tools
