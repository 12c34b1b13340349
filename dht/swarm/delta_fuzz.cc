#include <cstddef>
#include <cstdint>
#include <cstring>

#include "absl/status/status.h"
#include "base/check.h"
#include "base/env.h"
#include "dht/swarm/delta.h"

namespace {

// Bytes that can be read.
class SpanFile final : public koinon::File {
 public:
  SpanFile(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  absl::Status ReadAt(uint64_t offset, size_t size, void* data) const override {
    KOINON_CHECK(offset <= size_ && size <= size_ - offset);
    if (size > 0) std::memcpy(data, data_ + offset, size);
    return absl::OkStatus();
  }
  absl::Status WriteAt(uint64_t, const void*, size_t) override {
    return absl::UnimplementedError("read only");
  }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::StatusOr<uint64_t> Size() const override { return size_; }
  absl::Status Resize(uint64_t) override {
    return absl::UnimplementedError("read only");
  }

 private:
  const uint8_t* const data_;
  const size_t size_;
};

// Zeros.
class ZeroFile final : public koinon::File {
 public:
  absl::Status ReadAt(uint64_t, size_t size, void* data) const override {
    std::memset(data, 0, size);
    return absl::OkStatus();
  }
  absl::Status WriteAt(uint64_t, const void*, size_t) override {
    return absl::UnimplementedError("read only");
  }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::StatusOr<uint64_t> Size() const override { return uint64_t{0}; }
  absl::Status Resize(uint64_t) override {
    return absl::UnimplementedError("read only");
  }
};

}  // namespace

// The first three bytes are the file's size, the rest the delta: refused with a
// reason and nothing read beyond its end, or it gives as many bytes as it said.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  const int64_t file_bytes = data[0] | data[1] << 8 | (data[2] & 63) << 16;
  const SpanFile delta(data + 3, size - 3);
  const ZeroFile from;
  int64_t given = 0;
  const absl::Status status =
      koinon::dht::ApplyDelta(from, delta, static_cast<int64_t>(size - 3),
                              file_bytes, [&](absl::Span<const uint8_t> bytes) {
                                given += static_cast<int64_t>(bytes.size());
                                return absl::OkStatus();
                              });
  if (status.ok()) {
    KOINON_CHECK(given == file_bytes);
  } else {
    KOINON_CHECK(status.code() == absl::StatusCode::kDataLoss);
    KOINON_CHECK(!status.message().empty());
    KOINON_CHECK(given <= file_bytes);
  }
  return 0;
}
