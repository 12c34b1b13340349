#ifndef KOINON_BASE_ENV_H_
#define KOINON_BASE_ENV_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace koinon {

// An open file, read and written at offsets. Thread-safe for disjoint ranges.
// Closed by the destructor (without a sync).
class File {
 public:
  virtual ~File() = default;

  // Reads exactly `size` bytes at `offset`. OUT_OF_RANGE if the file ends
  // before (says where); DATA_LOSS for an I/O error.
  virtual absl::Status ReadAt(uint64_t offset, size_t size,
                              void* data) const = 0;
  // Writes all bytes at `offset`; the file grows as needed. RESOURCE_EXHAUSTED
  // when the disk is full, DATA_LOSS for an I/O error; the range's content is
  // undefined after a failure.
  virtual absl::Status WriteAt(uint64_t offset, const void* data,
                               size_t size) = 0;
  // Returns once the file's data is durable (fdatasync). A failure must be
  // treated as loss of everything since the last success: never retried.
  virtual absl::Status Sync() = 0;
  virtual absl::StatusOr<uint64_t> Size() const = 0;
  // Makes the file exactly `size` bytes long, with disk blocks reserved for
  // them. RESOURCE_EXHAUSTED when the disk is full.
  virtual absl::Status Resize(uint64_t size) = 0;
};

// The one seam to the file system. Thread-safe. Paths are plain strings; every
// error's message starts with the path.
class Env {
 public:
  enum class OpenMode {
    kRead,
    kReadWrite,
    kCreate,        // or truncate
    kCreatePrivate  // as kCreate; only its owner may read or write the file
  };

  virtual ~Env() = default;

  // NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk or descriptors).
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                                     OpenMode mode) = 0;
  // Replaces `to` atomically. Durable only after SyncDir of the parent.
  virtual absl::Status Rename(const std::string& from,
                              const std::string& to) = 0;
  // NOT_FOUND if there is none.
  virtual absl::Status Remove(const std::string& path) = 0;
  virtual absl::Status SyncDir(const std::string& dir) = 0;
  // Creates `dir` and its parents; OK if it exists.
  virtual absl::Status MakeDirs(const std::string& dir) = 0;
  // Names (not paths) of the entries in `dir`, sorted.
  virtual absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) = 0;
  virtual bool Exists(const std::string& path) = 0;
  // Whether nobody but its owner may read or write the file, as keys must be.
  virtual absl::StatusOr<bool> IsPrivate(const std::string& path) = 0;
};

// The machine's own file system. Lives for ever.
Env* RealEnv();

// Reads a whole file; RESOURCE_EXHAUSTED if it is longer than `max_bytes`.
absl::StatusOr<std::string> ReadFile(Env* env, const std::string& path,
                                     size_t max_bytes);

// After success the file at `path` is `content`, durably; after a failure or a
// crash it is what it was before (temporary file, sync, rename, sync of the
// directory). Writes of one path must not overlap: they share `path`.tmp.
absl::Status WriteFileAtomically(Env* env, const std::string& path,
                                 absl::string_view content);
// As above, for content that lies in several pieces.
absl::Status WritePiecesAtomically(Env* env, const std::string& path,
                                   absl::Span<const absl::string_view> pieces);
// As WriteFileAtomically, and nobody but its owner may read the file.
absl::Status WritePrivateFileAtomically(Env* env, const std::string& path,
                                        absl::string_view content);

// "a/b" for "a/b/c", "." for "c", "/" for "/c".
std::string DirectoryOf(const std::string& path);

}  // namespace koinon

#endif  // KOINON_BASE_ENV_H_
