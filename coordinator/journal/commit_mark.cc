#include "coordinator/journal/commit_mark.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

// 20 digits and a newline: every write covers the one before.
constexpr size_t kMarkBytes = 21;

int64_t ParseMark(absl::string_view text) {
  int64_t commits = 0;
  const bool whole = text.size() == kMarkBytes && text.back() == '\n' &&
                     absl::SimpleAtoi(text, &commits) && commits >= 0;
  return whole ? commits : 0;
}

}  // namespace

absl::StatusOr<CommitMark> CommitMark::Open(Env* env, const std::string& path) {
  CommitMark mark(env, path);
  if (!env->Exists(path)) return mark;
  ABSL_ASSIGN_OR_RETURN(mark.file_, env->Open(path, Env::OpenMode::kReadWrite));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, mark.file_->Size());
  std::string text(kMarkBytes, '\0');
  if (size == kMarkBytes) {
    ABSL_RETURN_IF_ERROR(mark.file_->ReadAt(0, kMarkBytes, text.data()));
    mark.commits_ = ParseMark(text);
  }
  return mark;
}

absl::Status CommitMark::Create() {
  if (exists()) return absl::OkStatus();
  ABSL_ASSIGN_OR_RETURN(file_, env_->Open(path_, Env::OpenMode::kCreate));
  return absl::OkStatus();
}

void CommitMark::Write(int64_t commits) {
  commits_ = commits;
  const std::string text = absl::StrFormat("%020d\n", commits);
  const absl::Status status = file_->WriteAt(0, text.data(), text.size());
  if (status.ok() || failed_) return;
  failed_ = true;
  LogWarning(
      "the journal's mark cannot be written; a log that is cut short "
      "would go unnoticed",
      {{"file", path_}, {"error", status}});
}

}  // namespace koinon::coordinator
