#ifndef KOINON_WORKER_DATA_TESTDATA_H_
#define KOINON_WORKER_DATA_TESTDATA_H_

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "base/env.h"
#include "base/status_matchers.h"

namespace koinon::worker::testdata {

// Small data files, made inside tests.

// A path of the running test's own in the test's temporary folder.
inline std::string TempPath(absl::string_view name) {
  const auto* info = testing::UnitTest::GetInstance()->current_test_info();
  return absl::StrCat(testing::TempDir(), "/", info->test_suite_name(), ".",
                      info->name(), ".", getpid(), ".", name);
}

inline std::string WriteTemp(absl::string_view name,
                             absl::string_view content) {
  const std::string path = TempPath(name);
  EXPECT_OK(WriteFileAtomically(RealEnv(), path, content));
  return path;
}

inline void AppendBigEndian(std::string* out, uint64_t value, size_t bytes) {
  for (size_t i = bytes; i > 0; --i) {
    out->push_back(static_cast<char>(value >> 8 * (i - 1)));
  }
}

inline void AppendLittleEndian(std::string* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    out->push_back(static_cast<char>(value >> 8 * i));
  }
}

inline std::string Idx(uint8_t type, const std::vector<uint32_t>& shape,
                       absl::string_view data) {
  std::string bytes(
      {0, 0, static_cast<char>(type), static_cast<char>(shape.size())});
  for (uint32_t extent : shape) AppendBigEndian(&bytes, extent, 4);
  return absl::StrCat(bytes, data);
}

// Compresses with zlib; 31 window bits give gzip, -15 raw deflate.
inline std::string Compress(absl::string_view content, int window_bits) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, window_bits,
                         8, Z_DEFAULT_STRATEGY),
            Z_OK);
  std::string packed(deflateBound(&stream, content.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}
inline std::string Gzip(absl::string_view content) {
  return Compress(content, 31);
}

// An NPY file, version 1, with this header dictionary.
inline std::string NpyWithHeader(absl::string_view header,
                                 absl::string_view data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  AppendLittleEndian(&bytes, header.size() + 1, 2);
  return absl::StrCat(bytes, header, "\n", data);
}

inline std::string Npy(absl::string_view descr,
                       const std::vector<int64_t>& shape,
                       absl::string_view data) {
  return NpyWithHeader(absl::StrCat("{'descr': '", descr,
                                    "', 'fortran_order': False, 'shape': (",
                                    absl::StrJoin(shape, ", "),
                                    shape.size() == 1 ? ",)" : ")", ", }"),
                       data);
}

// The elements' bytes, as this little-endian machine holds them.
template <typename Number>
std::string Bytes(const std::vector<Number>& numbers) {
  return std::string(reinterpret_cast<const char*>(numbers.data()),
                     numbers.size() * sizeof(Number));
}

struct ZipMember {
  std::string name = {};
  std::string content = {};
  bool deflated = false;
  uint16_t flags = 0;
  uint32_t crc_error = 0;  // added to the right check sum
};

// A zip archive. Sizes in the local headers are zero, as zip allows.
inline std::string Zip(const std::vector<ZipMember>& members) {
  std::string archive;
  std::string directory;
  for (const ZipMember& m : members) {
    const std::string packed =
        m.deflated ? Compress(m.content, -15) : m.content;
    const size_t offset = archive.size();
    archive.append("PK\x03\x04", 4);
    archive.append(22, '\0');
    AppendLittleEndian(&archive, m.name.size(), 2);
    AppendLittleEndian(&archive, 0, 2);
    absl::StrAppend(&archive, m.name, packed);

    directory.append("PK\x01\x02", 4);
    directory.append(4, '\0');
    AppendLittleEndian(&directory, m.flags, 2);
    AppendLittleEndian(&directory, m.deflated ? 8 : 0, 2);
    AppendLittleEndian(&directory, 0, 4);
    const uint32_t crc = static_cast<uint32_t>(crc32_z(
        0, reinterpret_cast<const Bytef*>(m.content.data()), m.content.size()));
    AppendLittleEndian(&directory, crc + m.crc_error, 4);
    AppendLittleEndian(&directory, packed.size(), 4);
    AppendLittleEndian(&directory, m.content.size(), 4);
    AppendLittleEndian(&directory, m.name.size(), 2);
    directory.append(12, '\0');
    AppendLittleEndian(&directory, offset, 4);
    directory += m.name;
  }
  std::string end("PK\x05\x06\0\0\0\0", 8);
  AppendLittleEndian(&end, members.size(), 2);
  AppendLittleEndian(&end, members.size(), 2);
  AppendLittleEndian(&end, directory.size(), 4);
  AppendLittleEndian(&end, archive.size(), 4);
  AppendLittleEndian(&end, 0, 2);
  return archive + directory + end;
}

}  // namespace koinon::worker::testdata

#endif  // KOINON_WORKER_DATA_TESTDATA_H_
