#include "worker/store/model_download.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// Of a saved manifest: 32 bytes and little more for each chunk.
constexpr size_t kMaxManifestBytes = 64u << 20;

bool CutAlike(const v1::ModelManifest& a, const v1::ModelManifest& b) {
  return a.size_bytes() == b.size_bytes() &&
         a.chunk_size_bytes() == b.chunk_size_bytes() &&
         std::equal(a.chunk_digests().begin(), a.chunk_digests().end(),
                    b.chunk_digests().begin(), b.chunk_digests().end());
}

// Without a sync: whatever it says is checked against digests.
absl::Status WriteUnsynced(Env* env, const std::string& path,
                           const std::string& content) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kCreate));
  return file->WriteAt(0, content.data(), content.size());
}

}  // namespace

std::unique_ptr<ModelDownload> ModelDownload::Start(Env* env,
                                                    std::string partial_path,
                                                    std::string manifest_path,
                                                    Spec spec) {
  std::unique_ptr<ModelDownload> download(new ModelDownload(
      env, std::move(partial_path), std::move(manifest_path), std::move(spec)));
  if (!download->Resume().ok()) download->Discard();
  return download;
}

absl::Status ModelDownload::Resume() {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(env_, manifest_path_, kMaxManifestBytes));
  if (!manifest_.ParseFromString(bytes)) {
    return absl::DataLossError("not a manifest");
  }
  ABSL_RETURN_IF_ERROR(CheckManifest(manifest_));
  ABSL_ASSIGN_OR_RETURN(file_,
                        env_->Open(partial_path_, Env::OpenMode::kReadWrite));
  started_ = true;
  std::string chunk;
  while (!complete()) {
    chunk.resize(NextChunkBytes());
    const auto offset = static_cast<uint64_t>(verified_);
    if (!file_->ReadAt(offset, chunk.size(), chunk.data()).ok() ||
        !CheckNextChunk(chunk).ok()) {
      break;
    }
    whole_.Update(chunk);
    verified_ += static_cast<int64_t>(chunk.size());
  }
  return absl::OkStatus();
}

absl::Status ModelDownload::CheckManifest(
    const v1::ModelManifest& manifest) const {
  const std::string model = spec_.digest.ToShortHex();
  if (manifest.digest() != spec_.digest.ToBytes()) {
    return absl::FailedPreconditionError(
        absl::StrCat("model ", manifest.job(), "@", manifest.version(),
                     " is another version than the task's, ", model));
  }
  if (!spec_.layout_hash.empty() &&
      manifest.layout_hash() != spec_.layout_hash) {
    return absl::FailedPreconditionError(
        absl::StrCat("model ", model, " has another layout than the task's"));
  }
  if (manifest.size_bytes() <= 0 || manifest.chunk_size_bytes() <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("manifest of model ", model, ": ", manifest.size_bytes(),
                     " bytes in chunks of ", manifest.chunk_size_bytes()));
  }
  if (manifest.size_bytes() > spec_.max_model_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("model ", model, " has ", manifest.size_bytes(),
                     " bytes, the bound is ", spec_.max_model_bytes));
  }
  if (manifest.chunk_size_bytes() > spec_.max_chunk_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "model ", model, " comes in chunks of ", manifest.chunk_size_bytes(),
        " bytes, the bound is ", spec_.max_chunk_bytes));
  }
  const int64_t chunks =
      (manifest.size_bytes() - 1) / manifest.chunk_size_bytes() + 1;
  if (manifest.chunk_digests_size() != chunks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "manifest of model ", model, ": ", manifest.chunk_digests_size(),
        " chunk digests, expected ", chunks));
  }
  for (const std::string& digest : manifest.chunk_digests()) {
    if (digest.size() == Digest::kSizeBytes) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("manifest of model ", model, ": a chunk digest of ",
                     digest.size(), " bytes, expected 32"));
  }
  return absl::OkStatus();
}

absl::Status ModelDownload::OnManifest(const v1::ModelManifest& manifest) {
  ABSL_RETURN_IF_ERROR(CheckManifest(manifest));
  if (!started_) return Begin(manifest);
  if (CutAlike(manifest, manifest_)) return absl::OkStatus();
  Discard();
  return absl::AbortedError(
      absl::StrCat("model ", spec_.digest.ToShortHex(),
                   " is cut into other chunks than before"));
}

absl::Status ModelDownload::Begin(const v1::ModelManifest& manifest) {
  ABSL_ASSIGN_OR_RETURN(file_,
                        env_->Open(partial_path_, Env::OpenMode::kCreate));
  // Finds out now whether the disk has room for it.
  ABSL_RETURN_IF_ERROR(
      file_->Resize(static_cast<uint64_t>(manifest.size_bytes())));
  // What arrives at once need not be resumed.
  if (manifest.chunk_digests_size() > 1) {
    ABSL_RETURN_IF_ERROR(
        WriteUnsynced(env_, manifest_path_, manifest.SerializeAsString()));
  }
  manifest_ = manifest;
  started_ = true;
  return absl::OkStatus();
}

size_t ModelDownload::NextChunkBytes() const {
  return static_cast<size_t>(std::min(manifest_.chunk_size_bytes(),
                                      manifest_.size_bytes() - verified_));
}

absl::Status ModelDownload::CheckNextChunk(absl::string_view bytes) const {
  const auto index = static_cast<int>(verified_ / manifest_.chunk_size_bytes());
  if (Sha256Of(bytes).ToBytes() == manifest_.chunk_digests(index)) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat("model ", spec_.digest.ToShortHex(), ": chunk ", index,
                   " (offset ", verified_, ") is not what the manifest says"));
}

absl::Status ModelDownload::OnChunk(const v1::Chunk& chunk) {
  if (!started_) {
    return absl::InvalidArgumentError("a chunk came before the manifest");
  }
  const int64_t expected = verified_ + static_cast<int64_t>(pending_.size());
  if (chunk.offset() != expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("model ", spec_.digest.ToShortHex(), ": bytes at offset ",
                     chunk.offset(), ", expected ", expected));
  }
  absl::string_view data = chunk.data();
  while (!data.empty()) {
    const size_t size = NextChunkBytes();
    if (size == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "model ", spec_.digest.ToShortHex(),
          ": more bytes than the manifest's ", manifest_.size_bytes()));
    }
    const size_t taken = std::min(data.size(), size - pending_.size());
    pending_.append(data.data(), taken);
    data.remove_prefix(taken);
    if (pending_.size() < size) break;
    const absl::Status status = CheckNextChunk(pending_);
    if (!status.ok()) {
      pending_.clear();
      return status;
    }
    ABSL_RETURN_IF_ERROR(file_->WriteAt(static_cast<uint64_t>(verified_),
                                        pending_.data(), pending_.size()));
    whole_.Update(pending_);
    verified_ += static_cast<int64_t>(pending_.size());
    pending_.clear();
  }
  return absl::OkStatus();
}

absl::Status ModelDownload::Finish() {
  const Digest found = whole_.Finish();
  if (found == spec_.digest) {
    file_.reset();
    return absl::OkStatus();
  }
  Discard();
  return absl::DataLossError(absl::StrCat(
      "model ", spec_.digest.ToShortHex(), ": the whole file has digest ",
      found.ToShortHex(), " although each chunk is the manifest's"));
}

void ModelDownload::Discard() {
  file_.reset();
  (void)env_->Remove(partial_path_);   // may not be there
  (void)env_->Remove(manifest_path_);  // likewise
  manifest_.Clear();
  started_ = false;
  verified_ = 0;
  pending_.clear();
  whole_ = Sha256();
}

}  // namespace koinon::worker
