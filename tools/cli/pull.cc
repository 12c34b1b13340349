#include "tools/cli/pull.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/ids.h"
#include "base/status_macros.h"

namespace koinon::cli {
namespace {

constexpr int64_t kMaxChunkBytes = 64 << 20;

absl::Status CheckManifest(const v1::ModelManifest& m, int64_t max_bytes) {
  if (m.size_bytes() < 0 || m.chunk_size_bytes() <= 0 ||
      m.chunk_size_bytes() > kMaxChunkBytes ||
      m.digest().size() != Digest::kSizeBytes) {
    return absl::DataLossError(absl::StrCat(
        "manifest of ", m.job(), "@", m.version(),
        " makes no sense: ", m.size_bytes(), " bytes in chunks of ",
        m.chunk_size_bytes(), " (at most ", kMaxChunkBytes, "), digest of ",
        m.digest().size(), " bytes"));
  }
  if (m.size_bytes() > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("model ", m.job(), "@", m.version(), " has ",
                     m.size_bytes(), " bytes, --max-bytes is ", max_bytes));
  }
  const int64_t chunks = m.size_bytes() / m.chunk_size_bytes() +
                         (m.size_bytes() % m.chunk_size_bytes() != 0 ? 1 : 0);
  if (chunks != m.chunk_digests_size()) {
    return absl::DataLossError(absl::StrCat(
        "manifest of ", m.job(), "@", m.version(), " has ",
        m.chunk_digests_size(), " chunk digests, its size needs ", chunks));
  }
  return absl::OkStatus();
}

// One download in progress: the partial file, and how far it is verified.
class Download {
 public:
  Download(Env* env, std::string path, int64_t max_bytes,
           const PullProgress& progress, const ManifestCheck& check)
      : env_(env),
        path_(std::move(path)),
        max_bytes_(max_bytes),
        progress_(progress),
        check_(check) {}

  absl::Status Fetch(const ModelSource& source, const ModelRef& model);
  absl::Status Finish();
  const v1::ModelManifest& manifest() const { return manifest_; }

 private:
  bool started() const { return file_ != nullptr; }
  bool complete() const {
    return started() && done_bytes_ == manifest_.size_bytes();
  }
  std::string partial_path() const { return path_ + ".partial"; }

  absl::Status Attempt(const ModelSource& source,
                       const v1::PullModelRequest& request);
  absl::Status OnPart(const v1::PullModelReply& part);
  absl::Status OnManifest(const v1::ModelManifest& manifest);
  absl::Status OnChunk(const v1::Chunk& chunk);
  absl::Status AcceptChunk(absl::string_view bytes);
  absl::Status VerifyPartialFile();
  int64_t NextChunkSize() const {
    return std::min(manifest_.chunk_size_bytes(),
                    manifest_.size_bytes() - done_bytes_);
  }
  bool Matches(absl::string_view chunk) const {
    const auto index =
        static_cast<int>(done_bytes_ / manifest_.chunk_size_bytes());
    return Sha256Of(chunk).ToBytes() == manifest_.chunk_digests(index);
  }

  Env* const env_;
  const std::string path_;
  const int64_t max_bytes_;
  const PullProgress& progress_;
  const ManifestCheck& check_;

  v1::ModelManifest manifest_;
  std::unique_ptr<File> file_;
  Sha256 whole_;            // over the first done_bytes_
  int64_t done_bytes_ = 0;  // verified; a multiple of the chunk size, or all
  std::string pending_;     // bytes of the next chunk that have arrived
};

absl::Status Download::Fetch(const ModelSource& source, const ModelRef& model) {
  v1::PullModelRequest request;
  request.set_job(model.job);
  request.set_version(model.version);
  while (true) {
    const int64_t before = done_bytes_;
    const bool had_started = started();
    const absl::Status status = Attempt(source, request);
    const bool broken_off = status.code() == absl::StatusCode::kUnavailable;
    if (!status.ok() && !broken_off) return status;
    if (complete()) return absl::OkStatus();
    const bool advanced = done_bytes_ > before;
    if (broken_off && !advanced) return status;
    // The first manifest may have sent us on to another offset.
    const bool resuming = !had_started && request.offset() != done_bytes_;
    if (!advanced && !resuming) {
      return absl::DataLossError(
          absl::StrCat("the stream of ", model.job, " ended after ",
                       done_bytes_, " of ", manifest_.size_bytes(), " bytes"));
    }
    // Stay with the version of the first manifest even if a newer one appears.
    request.set_version(manifest_.version());
    request.set_offset(done_bytes_);
  }
}

absl::Status Download::Attempt(const ModelSource& source,
                               const v1::PullModelRequest& request) {
  pending_.clear();
  absl::Status own = absl::OkStatus();
  bool first = true;
  const absl::Status status =
      source(request, [&](const v1::PullModelReply& part) {
        if (first != part.has_manifest()) {
          own = absl::DataLossError(
              "expected one manifest and then chunks from the coordinator");
          return false;
        }
        first = false;
        own = OnPart(part);
        // What the partial file already holds is not fetched again.
        const bool elsewhere =
            part.has_manifest() && done_bytes_ != request.offset();
        return own.ok() && !complete() && !elsewhere;
      });
  return own.ok() ? status : own;
}

absl::Status Download::OnPart(const v1::PullModelReply& part) {
  if (part.has_manifest()) return OnManifest(part.manifest());
  return OnChunk(part.chunk());
}

absl::Status Download::OnManifest(const v1::ModelManifest& manifest) {
  if (started()) {
    if (manifest.digest() == manifest_.digest()) return absl::OkStatus();
    return absl::DataLossError(absl::StrCat("model ", manifest.job(), "@",
                                            manifest.version(),
                                            " changed while it was fetched"));
  }
  ABSL_RETURN_IF_ERROR(CheckManifest(manifest, max_bytes_));
  ABSL_RETURN_IF_ERROR(check_(manifest));
  manifest_ = manifest;
  return VerifyPartialFile();
}

// Opens the partial file and keeps its chunks up to the first bad one.
absl::Status Download::VerifyPartialFile() {
  const bool exists = env_->Exists(partial_path());
  ABSL_ASSIGN_OR_RETURN(
      file_, env_->Open(partial_path(), exists ? Env::OpenMode::kReadWrite
                                               : Env::OpenMode::kCreate));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file_->Size());
  std::string chunk;
  while (done_bytes_ < manifest_.size_bytes()) {
    const int64_t next = NextChunkSize();
    if (static_cast<uint64_t>(done_bytes_ + next) > size) break;
    chunk.resize(static_cast<size_t>(next));
    ABSL_RETURN_IF_ERROR(file_->ReadAt(static_cast<uint64_t>(done_bytes_),
                                       chunk.size(), chunk.data()));
    if (!Matches(chunk)) break;
    whole_.Update(chunk);
    done_bytes_ += next;
  }
  progress_(done_bytes_, manifest_.size_bytes());
  return absl::OkStatus();
}

absl::Status Download::OnChunk(const v1::Chunk& chunk) {
  const int64_t expected = done_bytes_ + static_cast<int64_t>(pending_.size());
  if (chunk.offset() != expected) {
    return absl::DataLossError(absl::StrCat("chunk at offset ", chunk.offset(),
                                            ", expected ", expected));
  }
  absl::string_view rest = chunk.data();
  while (!rest.empty()) {
    if (complete()) {
      return absl::DataLossError(absl::StrCat("more bytes than the manifest's ",
                                              manifest_.size_bytes()));
    }
    const size_t wanted =
        static_cast<size_t>(NextChunkSize()) - pending_.size();
    const absl::string_view taken = rest.substr(0, wanted);
    pending_.append(taken.data(), taken.size());
    rest.remove_prefix(taken.size());
    if (taken.size() == wanted) {
      ABSL_RETURN_IF_ERROR(AcceptChunk(pending_));
      pending_.clear();
    }
  }
  return absl::OkStatus();
}

absl::Status Download::AcceptChunk(absl::string_view bytes) {
  if (!Matches(bytes)) {
    return absl::DataLossError(
        absl::StrCat("chunk ", done_bytes_ / manifest_.chunk_size_bytes(),
                     " of ", manifest_.job(), "@", manifest_.version(),
                     " is not what the manifest says: SHA-256 ",
                     Sha256Of(bytes).ToShortHex()));
  }
  ABSL_RETURN_IF_ERROR(file_->WriteAt(static_cast<uint64_t>(done_bytes_),
                                      bytes.data(), bytes.size()));
  whole_.Update(bytes);
  done_bytes_ += static_cast<int64_t>(bytes.size());
  progress_(done_bytes_, manifest_.size_bytes());
  return absl::OkStatus();
}

absl::Status Download::Finish() {
  const Digest digest = whole_.Finish();
  if (digest.ToBytes() != manifest_.digest()) {
    return absl::DataLossError(absl::StrCat(
        "every chunk of ", manifest_.job(), "@", manifest_.version(),
        " is good, but the whole has SHA-256 ", digest.ToHex(),
        ": the manifest contradicts itself"));
  }
  // A partial file of another, longer version may have lain there.
  ABSL_RETURN_IF_ERROR(
      file_->Resize(static_cast<uint64_t>(manifest_.size_bytes())));
  ABSL_RETURN_IF_ERROR(file_->Sync());
  file_.reset();
  ABSL_RETURN_IF_ERROR(env_->Rename(partial_path(), path_));
  const size_t slash = path_.rfind('/');
  return env_->SyncDir(slash == std::string::npos ? "."
                       : slash == 0               ? "/"
                                                  : path_.substr(0, slash));
}

}  // namespace

absl::StatusOr<ModelRef> ParseModelRef(absl::string_view text) {
  ModelRef ref;
  const size_t at = text.find('@');
  ref.job = std::string(text.substr(0, at));
  ABSL_RETURN_IF_ERROR(ValidateId("model", ref.job));
  if (at != absl::string_view::npos &&
      (!absl::SimpleAtoi(text.substr(at + 1), &ref.version) ||
       ref.version < 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("model ", text,
                     ": expected JOB or JOB@VERSION, the "
                     "version a number from 0"));
  }
  return ref;
}

absl::StatusOr<v1::ModelManifest> PullModelToFile(
    Env* env, const ModelSource& source, const ModelRef& model,
    const std::string& path, int64_t max_bytes, const PullProgress& progress,
    const ManifestCheck& check) {
  Download download(env, path, max_bytes, progress, check);
  ABSL_RETURN_IF_ERROR(download.Fetch(source, model));
  ABSL_RETURN_IF_ERROR(download.Finish());
  return download.manifest();
}

}  // namespace koinon::cli
