#ifndef KOINON_DHT_STORE_RECORD_FILES_H_
#define KOINON_DHT_STORE_RECORD_FILES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/env.h"
#include "dht/key.h"
#include "dht/store/record_file.h"

namespace koinon::dht {

// The files of a record store: one for each key, written atomically and not
// synced. With an empty directory there are none, and nothing fails. That
// writing fails is logged once, and so is that it works again. Not thread-safe.
class RecordFiles {
 public:
  RecordFiles(Env* env, std::string dir) : env_(env), dir_(std::move(dir)) {}

  // The keys of all that are there. Makes the directory; what a crash has left
  // half-written is removed, and files that are none of ours are left alone.
  absl::StatusOr<std::vector<Key>> Open();
  // DATA_LOSS for what is damaged; other errors: of the disk, or of too few
  // descriptors.
  absl::StatusOr<RecordFile> Read(const Key& key) const;

  // Writes it beside the key's file: what needs room on the disk is done before
  // anything else changes. Then one of Commit and Discard.
  absl::Status Stage(const Key& key, const RecordFile& file);
  absl::Status Commit(const Key& key);
  // If it cannot be removed either, Open will.
  void Discard(const Key& key);

  absl::Status Remove(const Key& key);

 private:
  std::string PathOf(const Key& key) const;
  std::string StagedPathOf(const Key& key) const;
  absl::Status WriteStaged(const Key& key, const RecordFile& file);
  // Returns `status`.
  absl::Status Note(absl::Status status);

  Env* const env_;
  const std::string dir_;
  bool failing_ = false;
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_STORE_RECORD_FILES_H_
