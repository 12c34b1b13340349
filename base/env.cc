#include "base/env.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon {
namespace {

absl::Status WriteTemporary(Env* env, const std::string& path,
                            Env::OpenMode mode,
                            absl::Span<const absl::string_view> pieces) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file, env->Open(path, mode));
  uint64_t offset = 0;
  for (const absl::string_view piece : pieces) {
    ABSL_RETURN_IF_ERROR(file->WriteAt(offset, piece.data(), piece.size()));
    offset += piece.size();
  }
  return file->Sync();
}

absl::Status WriteAtomically(Env* env, const std::string& path,
                             Env::OpenMode mode,
                             absl::Span<const absl::string_view> pieces) {
  const std::string temporary = path + ".tmp";
  absl::Status written = WriteTemporary(env, temporary, mode, pieces);
  if (written.ok()) written = env->Rename(temporary, path);
  if (!written.ok()) {
    // The first failure is the one to tell; a left-over is overwritten next
    // time.
    env->Remove(temporary).IgnoreError();
    return written;
  }
  return env->SyncDir(DirectoryOf(path));
}

}  // namespace

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::StatusOr<std::string> ReadFile(Env* env, const std::string& path,
                                     size_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        path, ": has ", size, " bytes, at most ", max_bytes, " are allowed"));
  }
  std::string content(size, '\0');
  ABSL_RETURN_IF_ERROR(file->ReadAt(0, content.size(), content.data()));
  return content;
}

absl::Status WriteFileAtomically(Env* env, const std::string& path,
                                 absl::string_view content) {
  return WriteAtomically(env, path, Env::OpenMode::kCreate, {content});
}

absl::Status WritePiecesAtomically(Env* env, const std::string& path,
                                   absl::Span<const absl::string_view> pieces) {
  return WriteAtomically(env, path, Env::OpenMode::kCreate, pieces);
}

absl::Status WritePrivateFileAtomically(Env* env, const std::string& path,
                                        absl::string_view content) {
  return WriteAtomically(env, path, Env::OpenMode::kCreatePrivate, {content});
}

}  // namespace koinon
