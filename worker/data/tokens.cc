#include "worker/data/tokens.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// Tokens are read as they lie in the file.
static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kLlmCMagic = 20240520;
constexpr uint32_t kLlmCVersion = 1;

uint32_t LittleEndianAt(absl::Span<const uint8_t> bytes, size_t index) {
  uint32_t value = 0;
  for (size_t i = 4; i > 0; --i) value = value << 8 | bytes[4 * index + i - 1];
  return value;
}

absl::StatusOr<TokenExtent> LocateAfterLlmCHeader(
    const std::string& path, absl::Span<const uint8_t> front,
    uint64_t file_bytes) {
  if (front.size() < kTokenHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected a header of %d bytes, found a file of %d",
                        path, kTokenHeaderBytes, file_bytes));
  }
  const uint32_t magic = LittleEndianAt(front, 0);
  const uint32_t version = LittleEndianAt(front, 1);
  if (magic != kLlmCMagic || version != kLlmCVersion) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 0: expected %d and version %d, found %d and %d", path,
        kLlmCMagic, kLlmCVersion, magic, version));
  }
  const TokenExtent extent = {.offset_bytes = kTokenHeaderBytes,
                              .count = LittleEndianAt(front, 2)};
  const uint64_t expected = kTokenHeaderBytes + extent.count * sizeof(uint16_t);
  if (file_bytes == expected) return extent;
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: expected %d bytes, for %d tokens after the header, found %d", path,
      expected, extent.count, file_bytes));
}

class TokensInMemory final : public Tokens {
 public:
  explicit TokensInMemory(std::vector<uint16_t> values)
      : values_(std::move(values)) {}
  absl::Span<const uint16_t> values() const override { return values_; }
  absl::Status Check() const override { return absl::OkStatus(); }
  void WillRead(uint64_t, uint64_t) const override {}

 private:
  const std::vector<uint16_t> values_;
};

absl::Status FileError(const std::string& path, int error) {
  return absl::ErrnoToStatus(error, path);
}

absl::StatusOr<uint64_t> FileBytes(const std::string& path, int descriptor) {
  struct stat info;
  if (fstat(descriptor, &info) != 0) return FileError(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": expected a regular file"));
  }
  return static_cast<uint64_t>(info.st_size);
}

// Owns the descriptor from the start, the mapping once there is one.
class MappedTokens final : public Tokens {
 public:
  MappedTokens(std::string path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}
  ~MappedTokens() override {
    if (mapping_ != nullptr) munmap(mapping_, file_bytes_);
    close(descriptor_);
  }
  MappedTokens(const MappedTokens&) = delete;
  MappedTokens& operator=(const MappedTokens&) = delete;

  // Once.
  absl::Status Map(const TokenSource& source) {
    ABSL_ASSIGN_OR_RETURN(file_bytes_, FileBytes(path_, descriptor_));
    if (file_bytes_ == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": expected tokens, found an empty file"));
    }
    void* mapping =
        mmap(nullptr, file_bytes_, PROT_READ, MAP_SHARED, descriptor_, 0);
    if (mapping == MAP_FAILED) return FileError(path_, errno);
    mapping_ = mapping;
    const auto* bytes = static_cast<const uint8_t*>(mapping);
    ABSL_ASSIGN_OR_RETURN(
        const TokenExtent extent,
        LocateTokens(source, absl::MakeConstSpan(bytes, file_bytes_),
                     file_bytes_));
    // Aligned: the mapping is, and offsets are even.
    values_ = absl::MakeConstSpan(
        reinterpret_cast<const uint16_t*>(bytes + extent.offset_bytes),
        extent.count);
    return absl::OkStatus();
  }

  absl::Span<const uint16_t> values() const override { return values_; }
  absl::Status Check() const override {
    ABSL_ASSIGN_OR_RETURN(const uint64_t bytes, FileBytes(path_, descriptor_));
    if (bytes >= file_bytes_) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrFormat("%s: expected %d bytes, as there were, found %d", path_,
                        file_bytes_, bytes));
  }
  void WillRead(uint64_t begin, uint64_t count) const override {
    static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto first = reinterpret_cast<uintptr_t>(values_.data() + begin);
    const uintptr_t start = first / page * page;
    // A kernel that does not take the hint reads when it must.
    (void)madvise(reinterpret_cast<void*>(start),
                  first - start + count * sizeof(uint16_t), MADV_WILLNEED);
  }

 private:
  const std::string path_;
  const int descriptor_;
  uint64_t file_bytes_ = 0;
  void* mapping_ = nullptr;
  absl::Span<const uint16_t> values_;
};

}  // namespace

std::shared_ptr<const Tokens> MakeTokens(std::vector<uint16_t> values) {
  return std::make_shared<TokensInMemory>(std::move(values));
}

absl::StatusOr<std::shared_ptr<const Tokens>> MapTokens(
    const TokenSource& source) {
  const int descriptor =
      open(source.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return FileError(source.path(), errno);
  auto tokens = std::make_shared<MappedTokens>(source.path(), descriptor);
  ABSL_RETURN_IF_ERROR(tokens->Map(source));
  return tokens;
}

absl::StatusOr<TokenExtent> LocateTokens(const TokenSource& source,
                                         absl::Span<const uint8_t> front,
                                         uint64_t file_bytes) {
  switch (source.header()) {
    case TokenSource::NONE:
      if (file_bytes % sizeof(uint16_t) == 0) {
        return TokenExtent{.offset_bytes = 0,
                           .count = file_bytes / sizeof(uint16_t)};
      }
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: expected an even number of bytes (uint16), "
                          "found %d",
                          source.path(), file_bytes));
    case TokenSource::LLM_C:
      return LocateAfterLlmCHeader(source.path(), front, file_bytes);
    default:
      return absl::InvalidArgumentError(
          absl::StrFormat("tokens.header: expected NONE or LLM_C, found %d",
                          static_cast<int>(source.header())));
  }
}

}  // namespace koinon::worker
