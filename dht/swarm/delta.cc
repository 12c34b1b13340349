#include "dht/swarm/delta.h"

#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

// The format: docs/formats/delta.md.
constexpr char kMagic[8] = {'k', 'o', 'i', 'n', 'o', 'n', 'd', 'l'};
constexpr uint32_t kFormat = 1;
constexpr size_t kHeaderBytes = 24;
constexpr size_t kBlockBytes = 1 << 20;
constexpr size_t kLengthBytes = 4;
constexpr int kLevel = 3;
constexpr uint32_t kZstdMagic = 0xFD2FB528;

uint32_t Load32(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 |
         static_cast<uint32_t>(p[2]) << 16 | static_cast<uint32_t>(p[3]) << 24;
}

void Store32(uint32_t value, uint8_t* p) {
  for (int i = 0; i < 4; ++i) p[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t Load64(const uint8_t* p) {
  return Load32(p) | static_cast<uint64_t>(Load32(p + 4)) << 32;
}

void Store64(uint64_t value, uint8_t* p) {
  Store32(static_cast<uint32_t>(value), p);
  Store32(static_cast<uint32_t>(value >> 32), p + 4);
}

// planes: [size]; byte k of word i of (a XOR b) at k * (size / 4) + i, and
// after the four planes the bytes that are no whole word.
void XorToPlanes(const uint8_t* __restrict a, const uint8_t* __restrict b,
                 size_t size, uint8_t* __restrict planes) {
  const size_t words = size / 4;
  uint8_t* __restrict p0 = planes;
  uint8_t* __restrict p1 = planes + words;
  uint8_t* __restrict p2 = planes + 2 * words;
  uint8_t* __restrict p3 = planes + 3 * words;
  for (size_t i = 0; i < words; ++i) {
    p0[i] = a[4 * i] ^ b[4 * i];
    p1[i] = a[4 * i + 1] ^ b[4 * i + 1];
    p2[i] = a[4 * i + 2] ^ b[4 * i + 2];
    p3[i] = a[4 * i + 3] ^ b[4 * i + 3];
  }
  for (size_t i = 4 * words; i < size; ++i) planes[i] = a[i] ^ b[i];
}

// The reverse: b = a XOR what the planes hold.
void PlanesToXor(const uint8_t* __restrict a, const uint8_t* __restrict planes,
                 size_t size, uint8_t* __restrict b) {
  const size_t words = size / 4;
  const uint8_t* __restrict p0 = planes;
  const uint8_t* __restrict p1 = planes + words;
  const uint8_t* __restrict p2 = planes + 2 * words;
  const uint8_t* __restrict p3 = planes + 3 * words;
  for (size_t i = 0; i < words; ++i) {
    b[4 * i] = a[4 * i] ^ p0[i];
    b[4 * i + 1] = a[4 * i + 1] ^ p1[i];
    b[4 * i + 2] = a[4 * i + 2] ^ p2[i];
    b[4 * i + 3] = a[4 * i + 3] ^ p3[i];
  }
  for (size_t i = 4 * words; i < size; ++i) b[i] = a[i] ^ planes[i];
}

struct FreeCompressor {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};
struct FreeDecompressor {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// Compresses planes: [size] behind a length; the planes themselves where that
// is no longer. Returns the bytes of both.
size_t PackBlock(ZSTD_CCtx* context, const uint8_t* planes, size_t size,
                 std::vector<uint8_t>* packed) {
  uint8_t* body = packed->data() + kLengthBytes;
  size_t stored = ZSTD_compressCCtx(
      context, body, packed->size() - kLengthBytes, planes, size, kLevel);
  KOINON_CHECK(ZSTD_isError(stored) == 0);  // there is room for the worst
  if (stored >= size) {
    stored = size;
    std::memcpy(body, planes, size);
  }
  Store32(static_cast<uint32_t>(stored), packed->data());
  return kLengthBytes + stored;
}

// One zstd frame, and nothing else, that gives exactly `size` bytes.
absl::Status UnpackFrame(ZSTD_DCtx* context, absl::Span<const uint8_t> frame,
                         size_t size, uint8_t* planes) {
  // Other beginnings are of formats that zstd would read too.
  if (frame.size() < 4 || Load32(frame.data()) != kZstdMagic) {
    return absl::DataLossError("no zstd frame");
  }
  const size_t frame_bytes =
      ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(frame_bytes)) {
    return absl::DataLossError(ZSTD_getErrorName(frame_bytes));
  }
  if (frame_bytes != frame.size()) {
    return absl::DataLossError(absl::StrCat("its zstd frame has ", frame_bytes,
                                            " of ", frame.size(), " bytes"));
  }
  const size_t unpacked =
      ZSTD_decompressDCtx(context, planes, size, frame.data(), frame.size());
  if (ZSTD_isError(unpacked)) {
    return absl::DataLossError(ZSTD_getErrorName(unpacked));
  }
  if (unpacked != size) {
    return absl::DataLossError(
        absl::StrCat(size, " bytes expected, found ", unpacked));
  }
  return absl::OkStatus();
}

absl::Status CheckHeader(const uint8_t* header, int64_t size_bytes) {
  if (std::memcmp(header, kMagic, sizeof(kMagic)) != 0) {
    return absl::DataLossError(
        "a delta begins with \"koinondl\", this one does not");
  }
  if (const uint32_t format = Load32(header + 8); format != kFormat) {
    return absl::DataLossError(absl::StrCat("a delta of format ", kFormat,
                                            " expected, found ", format));
  }
  if (const uint32_t block = Load32(header + 12); block != kBlockBytes) {
    return absl::DataLossError(absl::StrCat("a delta in blocks of ",
                                            kBlockBytes,
                                            " bytes expected, found ", block));
  }
  if (const uint64_t size = Load64(header + 16);
      size != static_cast<uint64_t>(size_bytes)) {
    return absl::DataLossError(
        absl::StrCat("a delta for a file of ", size_bytes,
                     " bytes expected, found one for ", size, " bytes"));
  }
  return absl::OkStatus();
}

// Reads a delta's blocks, in order.
class BlockReader {
 public:
  // `most`: bytes in a block.
  BlockReader(const File& delta, uint64_t delta_bytes, size_t most)
      : delta_(delta),
        delta_bytes_(delta_bytes),
        context_(ZSTD_createDCtx()),
        packed_(most) {
    KOINON_CHECK(context_ != nullptr);
  }

  // planes: [size], of the next block.
  absl::Status Next(size_t size, uint8_t* planes) {
    uint8_t length[kLengthBytes];
    ABSL_RETURN_IF_ERROR(Take(sizeof(length), length));
    const size_t stored = Load32(length);
    if (stored > size) {
      return absl::DataLossError(
          absl::StrCat("at most ", size, " bytes expected, found ", stored));
    }
    if (stored == size) return Take(size, planes);
    ABSL_RETURN_IF_ERROR(Take(stored, packed_.data()));
    return UnpackFrame(context_.get(), {packed_.data(), stored}, size, planes);
  }

  uint64_t left() const { return delta_bytes_ - at_; }

 private:
  absl::Status Take(size_t size, uint8_t* data) {
    if (size > left()) {
      return absl::DataLossError(
          absl::StrCat("the delta ends ", size - left(), " bytes too early"));
    }
    ABSL_RETURN_IF_ERROR(delta_.ReadAt(at_, size, data));
    at_ += size;
    return absl::OkStatus();
  }

  const File& delta_;
  const uint64_t delta_bytes_;
  const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> context_;
  std::vector<uint8_t> packed_;
  uint64_t at_ = kHeaderBytes;
};

absl::Status InBlock(const absl::Status& status, uint64_t block) {
  return absl::Status(
      status.code(),
      absl::StrCat("block ", block, " of the delta: ", status.message()));
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> WriteDelta(const File& from,
                                                  const File& to, File* out,
                                                  int64_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, to.Size());
  ABSL_ASSIGN_OR_RETURN(const uint64_t from_size, from.Size());
  if (size != from_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("a delta is between files of one size, found ", from_size,
                     " and ", size, " bytes"));
  }
  const uint64_t bound = std::max<int64_t>(max_bytes, 0);
  if (kHeaderBytes > bound) return std::nullopt;
  uint8_t header[kHeaderBytes];
  std::memcpy(header, kMagic, sizeof(kMagic));
  Store32(kFormat, header + 8);
  Store32(kBlockBytes, header + 12);
  Store64(size, header + 16);
  ABSL_RETURN_IF_ERROR(out->WriteAt(0, header, sizeof(header)));

  const std::unique_ptr<ZSTD_CCtx, FreeCompressor> context(ZSTD_createCCtx());
  KOINON_CHECK(context != nullptr);
  const size_t most = std::min<uint64_t>(kBlockBytes, size);
  std::vector<uint8_t> a(most), b(most), planes(most);
  std::vector<uint8_t> packed(kLengthBytes + ZSTD_compressBound(most));
  uint64_t written = kHeaderBytes;
  for (uint64_t at = 0; at < size; at += kBlockBytes) {
    const size_t part = std::min<uint64_t>(kBlockBytes, size - at);
    ABSL_RETURN_IF_ERROR(from.ReadAt(at, part, a.data()));
    ABSL_RETURN_IF_ERROR(to.ReadAt(at, part, b.data()));
    XorToPlanes(a.data(), b.data(), part, planes.data());
    const size_t bytes = PackBlock(context.get(), planes.data(), part, &packed);
    if (bytes > bound - written) return std::nullopt;
    ABSL_RETURN_IF_ERROR(out->WriteAt(written, packed.data(), bytes));
    written += bytes;
  }
  return static_cast<int64_t>(written);
}

absl::Status ApplyDelta(
    const File& from, const File& delta, int64_t delta_bytes,
    int64_t size_bytes,
    const std::function<absl::Status(absl::Span<const uint8_t>)>& write) {
  if (delta_bytes < static_cast<int64_t>(kHeaderBytes)) {
    return absl::DataLossError(absl::StrCat(
        "a delta has at least ", kHeaderBytes, " bytes, found ", delta_bytes));
  }
  uint8_t header[kHeaderBytes];
  ABSL_RETURN_IF_ERROR(delta.ReadAt(0, sizeof(header), header));
  ABSL_RETURN_IF_ERROR(CheckHeader(header, size_bytes));

  const uint64_t size = size_bytes;
  const size_t most = std::min<uint64_t>(kBlockBytes, size);
  BlockReader blocks(delta, delta_bytes, most);
  std::vector<uint8_t> a(most), b(most), planes(most);
  for (uint64_t at = 0; at < size; at += kBlockBytes) {
    const size_t part = std::min<uint64_t>(kBlockBytes, size - at);
    if (const absl::Status status = blocks.Next(part, planes.data());
        !status.ok()) {
      return InBlock(status, at / kBlockBytes);
    }
    ABSL_RETURN_IF_ERROR(from.ReadAt(at, part, a.data()));
    PlanesToXor(a.data(), planes.data(), part, b.data());
    ABSL_RETURN_IF_ERROR(write({b.data(), part}));
  }
  if (blocks.left() > 0) {
    return absl::DataLossError(absl::StrCat("the delta has ", blocks.left(),
                                            " bytes after its last block"));
  }
  return absl::OkStatus();
}

}  // namespace koinon::dht
