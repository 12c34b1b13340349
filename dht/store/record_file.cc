#include "dht/store/record_file.h"

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

constexpr absl::string_view kMagic = "KOINREC1";
constexpr absl::string_view kSuffix = ".record";
constexpr size_t kTimeBytes = sizeof(int64_t);
// Magic, stored, expires, writer; then the record; then the checksum.
constexpr size_t kHeaderBytes =
    kMagic.size() + 2 * kTimeBytes + Key::kSizeBytes;
constexpr size_t kOverheadBytes = kHeaderBytes + Digest::kSizeBytes;

void AppendTime(absl::Time time, std::string* bytes) {
  const auto ms = static_cast<uint64_t>(absl::ToUnixMillis(time));
  for (size_t i = 0; i < kTimeBytes; ++i) {
    bytes->push_back(static_cast<char>(ms >> (8 * i)));
  }
}

absl::Time TimeAt(absl::string_view bytes, size_t offset) {
  uint64_t ms = 0;
  for (size_t i = 0; i < kTimeBytes; ++i) {
    ms |= static_cast<uint64_t>(static_cast<unsigned char>(bytes[offset + i]))
          << (8 * i);
  }
  return absl::FromUnixMillis(static_cast<int64_t>(ms));
}

}  // namespace

std::string EncodeRecordFile(const RecordFile& file) {
  std::string bytes(kMagic);
  AppendTime(file.stored, &bytes);
  AppendTime(file.expires, &bytes);
  bytes += file.writer.ToBytes();
  file.record.AppendToString(&bytes);
  bytes += Sha256Of(bytes).ToBytes();
  return bytes;
}

absl::StatusOr<RecordFile> DecodeRecordFile(absl::string_view bytes) {
  if (bytes.size() < kOverheadBytes || bytes.size() > kMaxRecordFileBytes) {
    return absl::DataLossError(
        absl::StrCat("a record's file has ", kOverheadBytes, " to ",
                     kMaxRecordFileBytes, " bytes, found ", bytes.size()));
  }
  if (!absl::StartsWith(bytes, kMagic)) {
    return absl::DataLossError("a record's file begins with KOINREC1");
  }
  const absl::string_view content =
      bytes.substr(0, bytes.size() - Digest::kSizeBytes);
  if (Sha256Of(content).ToBytes() != bytes.substr(content.size())) {
    return absl::DataLossError("the checksum of a record's file is wrong");
  }
  RecordFile file;
  file.stored = TimeAt(bytes, kMagic.size());
  file.expires = TimeAt(bytes, kMagic.size() + kTimeBytes);
  file.writer = *Key::FromBytes(
      bytes.substr(kMagic.size() + 2 * kTimeBytes, Key::kSizeBytes));
  const absl::string_view record = content.substr(kHeaderBytes);
  if (!file.record.ParseFromArray(record.data(),
                                  static_cast<int>(record.size()))) {
    return absl::DataLossError("a record's file holds no record");
  }
  return file;
}

std::string RecordFileName(const Key& key) {
  return absl::StrCat(key.ToHex(), kSuffix);
}

std::optional<Key> KeyOfRecordFile(absl::string_view name) {
  if (!absl::ConsumeSuffix(&name, kSuffix)) return std::nullopt;
  const absl::StatusOr<Key> key = Key::FromHex(name);
  if (!key.ok() || key->ToHex() != name) return std::nullopt;
  return *key;
}

}  // namespace koinon::dht
