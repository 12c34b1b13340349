#include "worker/data/unpack.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr size_t kBlockBytes = 256 << 10;
// zlib's window bits for raw deflate and for gzip.
constexpr int kRawDeflate = -MAX_WBITS;
constexpr int kGzip = MAX_WBITS + 16;

// zlib's inflate, with our errors. One stream after another.
class Inflater {
 public:
  Inflater(absl::string_view what, absl::string_view packed, int window_bits)
      : what_(what), packed_(packed) {
    ready_ = inflateInit2(&stream_, window_bits) == Z_OK;
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  bool at_end_of_input() const { return offset_ == packed_.size(); }
  bool at_end_of_stream() const { return ended_; }

  // Starts on the next stream of the same input.
  absl::Status NextStream() {
    ended_ = false;
    if (inflateReset(&stream_) != Z_OK) return Damaged("cannot start anew");
    return absl::OkStatus();
  }

  // Unpacks into [data, data + size) until it is full or the stream ends;
  // returns how many bytes there are.
  absl::StatusOr<size_t> Fill(char* data, size_t size) {
    if (!ready_) return absl::ResourceExhaustedError("zlib: out of memory");
    size_t filled = 0;
    while (filled < size && !ended_) {
      ABSL_ASSIGN_OR_RETURN(const size_t n, Step(data + filled, size - filled));
      filled += n;
    }
    return filled;
  }

 private:
  absl::StatusOr<size_t> Step(char* data, size_t size) {
    constexpr size_t kMaxStep = std::numeric_limits<uInt>::max();
    const size_t in = std::min(packed_.size() - offset_, kMaxStep);
    const size_t out = std::min(size, kMaxStep);
    // zlib does not write through next_in; its type lacks the const.
    stream_.next_in =
        reinterpret_cast<Bytef*>(const_cast<char*>(packed_.data() + offset_));
    stream_.avail_in = static_cast<uInt>(in);
    stream_.next_out = reinterpret_cast<Bytef*>(data);
    stream_.avail_out = static_cast<uInt>(out);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    offset_ += in - stream_.avail_in;
    if (result == Z_STREAM_END) {
      ended_ = true;
    } else if (result == Z_BUF_ERROR && at_end_of_input()) {
      return Damaged("ends early");
    } else if (result != Z_OK) {
      return Damaged(stream_.msg != nullptr ? stream_.msg : zError(result));
    }
    return out - stream_.avail_out;
  }

  absl::Status Damaged(absl::string_view how) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: compressed data damaged at byte %d of %d: %s",
                        what_, offset_, packed_.size(), how));
  }

  const absl::string_view what_;
  const absl::string_view packed_;
  z_stream stream_ = {};
  size_t offset_ = 0;
  bool ready_ = false;
  bool ended_ = false;
};

absl::Status TooLong(absl::string_view what, uint64_t max_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat(what, ": unpacks to more than max_bytes (", max_bytes, ")"));
}

}  // namespace

absl::StatusOr<std::string> Gunzip(absl::string_view what,
                                   absl::string_view packed,
                                   uint64_t max_bytes) {
  Inflater inflater(what, packed, kGzip);
  std::string content;
  do {
    if (inflater.at_end_of_stream()) {
      ABSL_RETURN_IF_ERROR(inflater.NextStream());
    }
    while (!inflater.at_end_of_stream()) {
      const size_t before = content.size();
      if (before > max_bytes) return TooLong(what, max_bytes);
      content.resize(before + kBlockBytes);
      ABSL_ASSIGN_OR_RETURN(const size_t n,
                            inflater.Fill(&content[before], kBlockBytes));
      content.resize(before + n);
    }
  } while (!inflater.at_end_of_input());
  if (content.size() > max_bytes) return TooLong(what, max_bytes);
  return content;
}

absl::StatusOr<std::string> Inflate(absl::string_view what,
                                    absl::string_view packed,
                                    uint64_t size_bytes) {
  // Deflate packs at most 1032 to 1: a larger claim is a lie, and is found out
  // before memory is spent on it.
  constexpr uint64_t kBestRatio = 1032;
  if (size_bytes / kBestRatio > packed.size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %d compressed bytes cannot unpack to %d", what,
                        packed.size(), size_bytes));
  }
  Inflater inflater(what, packed, kRawDeflate);
  // One byte more than expected, so that a longer stream shows.
  std::string content(size_bytes + 1, '\0');
  ABSL_ASSIGN_OR_RETURN(const size_t n,
                        inflater.Fill(content.data(), content.size()));
  if (n != size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected %d bytes once unpacked, found %s", what,
                        size_bytes, n > size_bytes ? "more" : absl::StrCat(n)));
  }
  content.resize(n);
  return content;
}

uint32_t Crc32(absl::string_view bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

absl::StatusOr<std::string> ReadUnpacked(Env* env, const std::string& path,
                                         uint64_t max_bytes) {
  absl::StatusOr<std::string> content = ReadFile(env, path, max_bytes);
  if (!content.ok() || !absl::StartsWith(*content, "\x1f\x8b")) return content;
  return Gunzip(path, *content, max_bytes);
}

}  // namespace koinon::worker
