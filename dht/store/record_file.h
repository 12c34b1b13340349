#ifndef KOINON_DHT_STORE_RECORD_FILE_H_
#define KOINON_DHT_STORE_RECORD_FILE_H_

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "dht/key.h"
#include "dht/records/signed.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// A record that a node keeps, as a file (docs/formats/record.md).
struct RecordFile {
  v1::Record record;
  Key writer;
  absl::Time stored;   // last stored by somebody; whole milliseconds
  absl::Time expires;  // to be forgotten then; whole milliseconds
};

// No file is longer: what is, is none of ours.
inline constexpr size_t kMaxRecordFileBytes = kMaxRecordBytes + 256;

std::string EncodeRecordFile(const RecordFile& file);
// DATA_LOSS, which says what is wrong, for anything but what EncodeRecordFile
// made. Says nothing about the record itself, which must be opened.
absl::StatusOr<RecordFile> DecodeRecordFile(absl::string_view bytes);

// "KEY.record", in hex, and back. Nothing for any other name.
std::string RecordFileName(const Key& key);
std::optional<Key> KeyOfRecordFile(absl::string_view name);

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_RECORD_FILE_H_
