#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/status_macros.h"
#include "base/testing_env.h"

namespace koinon {
namespace {

// Far over what a test means to write.
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 32;

// Without "." parts, doubled slashes and a slash at the end.
std::string Normalized(absl::string_view path) {
  std::string normal = !path.empty() && path[0] == '/' ? "/" : "";
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (!normal.empty() && normal.back() != '/') normal += '/';
    absl::StrAppend(&normal, part);
  }
  return normal.empty() ? "." : normal;
}

bool IsRoot(const std::string& path) { return path == "/" || path == "."; }

struct Inode {
  std::string data;
  std::string durable_data;
  bool is_private = false;
};

// Names, as far as they are visible or durable.
struct Tree {
  std::map<std::string, std::shared_ptr<Inode>> files;
  std::set<std::string> dirs;

  bool HasDir(const std::string& path) const {
    return IsRoot(path) || dirs.count(path) > 0;
  }
};

}  // namespace

struct MemoryEnv::State {
  Mutex mutex;
  Tree live ABSL_GUARDED_BY(mutex);
  Tree durable ABSL_GUARDED_BY(mutex);
  int64_t crashes ABSL_GUARDED_BY(mutex) = 0;
};

class MemoryEnv::MemoryFile final : public File {
 public:
  MemoryFile(std::string path, OpenMode mode, std::shared_ptr<State> state,
             std::shared_ptr<Inode> inode, int64_t crashes)
      : path_(std::move(path)),
        writable_(mode != OpenMode::kRead),
        state_(std::move(state)),
        inode_(std::move(inode)),
        crashes_(crashes) {}

  absl::Status ReadAt(uint64_t offset, size_t size, void* data) const override {
    MutexLock lock(&state_->mutex);
    ABSL_RETURN_IF_ERROR(CheckAlive());
    const uint64_t end = inode_->data.size();
    if (offset > end || size > end - offset) {
      return absl::OutOfRangeError(absl::StrCat(path_, ": expected ", size,
                                                " bytes at offset ", offset,
                                                ", the file ends at ", end));
    }
    if (size > 0) std::memcpy(data, inode_->data.data() + offset, size);
    return absl::OkStatus();
  }

  absl::Status WriteAt(uint64_t offset, const void* data,
                       size_t size) override {
    MutexLock lock(&state_->mutex);
    ABSL_RETURN_IF_ERROR(CheckWritable());
    if (offset > kMaxFileBytes || size > kMaxFileBytes - offset) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path_, ": cannot write: file too large"));
    }
    if (size == 0) return absl::OkStatus();
    std::string& bytes = inode_->data;
    bytes.resize(std::max<size_t>(bytes.size(), offset + size));
    std::memcpy(bytes.data() + offset, data, size);
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    MutexLock lock(&state_->mutex);
    ABSL_RETURN_IF_ERROR(CheckAlive());
    inode_->durable_data = inode_->data;
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() const override {
    MutexLock lock(&state_->mutex);
    ABSL_RETURN_IF_ERROR(CheckAlive());
    return inode_->data.size();
  }

  absl::Status Resize(uint64_t size) override {
    MutexLock lock(&state_->mutex);
    ABSL_RETURN_IF_ERROR(CheckWritable());
    if (size > kMaxFileBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path_, ": cannot resize: file too large"));
    }
    inode_->data.resize(size);
    return absl::OkStatus();
  }

 private:
  absl::Status CheckAlive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex) {
    if (state_->crashes == crashes_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": was open when the machine crashed"));
  }
  absl::Status CheckWritable() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex) {
    ABSL_RETURN_IF_ERROR(CheckAlive());
    if (writable_) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(path_, ": cannot write: open for reading only"));
  }

  const std::string path_;
  const bool writable_;
  const std::shared_ptr<State> state_;
  const std::shared_ptr<Inode> inode_;
  const int64_t crashes_;
};

MemoryEnv::MemoryEnv() : state_(std::make_shared<State>()) {}
MemoryEnv::~MemoryEnv() = default;

void MemoryEnv::CrashAndLoseUnsynced() {
  MutexLock lock(&state_->mutex);
  ++state_->crashes;
  Tree& durable = state_->durable;
  // A durable name in a directory that is not durable cannot be reached.
  // Parents sort before what they hold.
  for (auto it = durable.dirs.begin(); it != durable.dirs.end();) {
    it = durable.HasDir(DirectoryOf(*it)) ? std::next(it)
                                          : durable.dirs.erase(it);
  }
  for (auto it = durable.files.begin(); it != durable.files.end();) {
    it = durable.HasDir(DirectoryOf(it->first)) ? std::next(it)
                                                : durable.files.erase(it);
  }
  for (auto& [path, inode] : durable.files) inode->data = inode->durable_data;
  state_->live = durable;
}

absl::StatusOr<std::unique_ptr<File>> MemoryEnv::Open(
    const std::string& raw_path, OpenMode mode) {
  const std::string path = Normalized(raw_path);
  MutexLock lock(&state_->mutex);
  Tree& live = state_->live;
  if (live.HasDir(path)) {
    return absl::FailedPreconditionError(
        absl::StrCat(raw_path, ": cannot open: is a directory"));
  }
  const bool creates =
      mode == OpenMode::kCreate || mode == OpenMode::kCreatePrivate;
  const auto found = live.files.find(path);
  const bool has_place =
      found != live.files.end() || (creates && live.HasDir(DirectoryOf(path)));
  if (!has_place) {
    return absl::NotFoundError(
        absl::StrCat(raw_path, ": cannot open: no such file or directory"));
  }
  std::shared_ptr<Inode>& inode = live.files[path];
  if (inode == nullptr) inode = std::make_shared<Inode>();
  if (creates) inode->data.clear();
  if (mode == OpenMode::kCreatePrivate) inode->is_private = true;
  return std::make_unique<MemoryFile>(raw_path, mode, state_, inode,
                                      state_->crashes);
}

absl::Status MemoryEnv::Rename(const std::string& raw_from,
                               const std::string& raw_to) {
  const std::string from = Normalized(raw_from);
  const std::string to = Normalized(raw_to);
  MutexLock lock(&state_->mutex);
  Tree& live = state_->live;
  if (live.HasDir(from) || live.HasDir(to)) {
    return absl::FailedPreconditionError(absl::StrCat(
        raw_from, ": cannot rename to ", raw_to, ": is a directory"));
  }
  const auto found = live.files.find(from);
  if (found == live.files.end() || !live.HasDir(DirectoryOf(to))) {
    return absl::NotFoundError(absl::StrCat(raw_from, ": cannot rename to ",
                                            raw_to, ": no such file"));
  }
  if (from == to) return absl::OkStatus();
  live.files[to] = found->second;
  live.files.erase(from);
  return absl::OkStatus();
}

absl::Status MemoryEnv::Remove(const std::string& raw_path) {
  const std::string path = Normalized(raw_path);
  MutexLock lock(&state_->mutex);
  if (state_->live.HasDir(path)) {
    return absl::FailedPreconditionError(
        absl::StrCat(raw_path, ": cannot remove: is a directory"));
  }
  if (state_->live.files.erase(path) == 0) {
    return absl::NotFoundError(
        absl::StrCat(raw_path, ": cannot remove: no such file"));
  }
  return absl::OkStatus();
}

absl::Status MemoryEnv::SyncDir(const std::string& raw_dir) {
  const std::string dir = Normalized(raw_dir);
  MutexLock lock(&state_->mutex);
  Tree& live = state_->live;
  Tree& durable = state_->durable;
  if (!live.HasDir(dir)) {
    return absl::NotFoundError(
        absl::StrCat(raw_dir, ": cannot sync: no such directory"));
  }
  for (auto it = durable.files.begin(); it != durable.files.end();) {
    const bool is_gone =
        DirectoryOf(it->first) == dir && live.files.count(it->first) == 0;
    it = is_gone ? durable.files.erase(it) : std::next(it);
  }
  for (const auto& [path, inode] : live.files) {
    if (DirectoryOf(path) == dir) durable.files[path] = inode;
  }
  for (const std::string& path : live.dirs) {
    if (DirectoryOf(path) == dir) durable.dirs.insert(path);
  }
  return absl::OkStatus();
}

absl::Status MemoryEnv::MakeDirs(const std::string& raw_dir) {
  MutexLock lock(&state_->mutex);
  Tree& live = state_->live;
  for (std::string dir = Normalized(raw_dir); !live.HasDir(dir);
       dir = DirectoryOf(dir)) {
    if (live.files.count(dir) > 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          raw_dir, ": cannot make directory: ", dir, " is a file"));
    }
    live.dirs.insert(dir);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemoryEnv::List(
    const std::string& raw_dir) {
  const std::string dir = Normalized(raw_dir);
  MutexLock lock(&state_->mutex);
  Tree& live = state_->live;
  if (!live.HasDir(dir)) {
    return absl::NotFoundError(
        absl::StrCat(raw_dir, ": cannot list: no such directory"));
  }
  std::vector<std::string> names;
  const auto add = [&](const std::string& path) {
    if (DirectoryOf(path) != dir) return;
    names.push_back(path.substr(path.rfind('/') + 1));
  };
  for (const auto& [path, inode] : live.files) add(path);
  for (const std::string& path : live.dirs) add(path);
  std::sort(names.begin(), names.end());
  return names;
}

bool MemoryEnv::Exists(const std::string& raw_path) {
  const std::string path = Normalized(raw_path);
  MutexLock lock(&state_->mutex);
  return state_->live.HasDir(path) || state_->live.files.count(path) > 0;
}

absl::StatusOr<bool> MemoryEnv::IsPrivate(const std::string& raw_path) {
  MutexLock lock(&state_->mutex);
  const auto found = state_->live.files.find(Normalized(raw_path));
  if (found == state_->live.files.end()) {
    return absl::NotFoundError(
        absl::StrCat(raw_path, ": cannot stat: no such file"));
  }
  return found->second->is_private;
}

}  // namespace koinon
