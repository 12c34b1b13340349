#include "coordinator/models/version_contents.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "coordinator/models/file_digests.h"
#include "dht/swarm/delta.h"
#include "dht/swarm/merkle.h"

namespace koinon::coordinator {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
// A delta is worth its making only if it saves a tenth.
constexpr int64_t kDeltaTenths = 9;

// Calls `use` with all of the file, block by block.
template <typename Use>
absl::StatusOr<int64_t> ReadAll(Env* env, const std::string& path, Use use) {
  ABSL_ASSIGN_OR_RETURN(const auto file, env->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  std::vector<char> block(std::min<uint64_t>(size, kBlockBytes));
  for (uint64_t offset = 0; offset < size; offset += block.size()) {
    const size_t count = std::min<uint64_t>(block.size(), size - offset);
    ABSL_RETURN_IF_ERROR(file->ReadAt(offset, count, block.data()));
    use(block.data(), count);
  }
  return static_cast<int64_t>(size);
}

absl::StatusOr<std::vector<Digest>> LeavesOf(Env* env,
                                             const std::string& path) {
  dht::MerkleBuilder builder;
  ABSL_RETURN_IF_ERROR(ReadAll(env, path, [&](const void* data, size_t size) {
                         builder.Append(data, size);
                       }).status());
  return builder.Finish();
}

absl::StatusOr<std::shared_ptr<dht::ContentFile>> OpenContent(
    Env* env, const std::string& path, const std::string& leaves_path,
    const v1::Content& content) {
  if (!env->Exists(path)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file"));
  }
  auto leaves = dht::ContentFile::ReadLeaves(env, leaves_path);
  if (leaves.ok()) {
    auto opened =
        dht::ContentFile::OpenWhole(env, path, content, *std::move(leaves));
    if (opened.ok()) return opened;
  }
  LogInfo("hashes are made anew", {{"file", path}});
  ABSL_ASSIGN_OR_RETURN(auto anew, LeavesOf(env, path));
  ABSL_RETURN_IF_ERROR(dht::ContentFile::WriteLeaves(env, leaves_path, anew));
  return dht::ContentFile::OpenWhole(env, path, content, std::move(anew));
}

absl::StatusOr<std::optional<v1::Delta>> WriteDeltaTo(
    const ModelStore& store, const v1::ModelManifest& from,
    const v1::ModelManifest& to, const std::string& path) {
  Env* const env = store.env();
  const JobId& job = to.job();
  const std::string temporary = absl::StrCat(path, ".tmp");
  ABSL_ASSIGN_OR_RETURN(const ModelStore::Version base, store.Open(from));
  ABSL_ASSIGN_OR_RETURN(const ModelStore::Version next, store.Open(to));
  ABSL_ASSIGN_OR_RETURN(auto out, env->Open(temporary, Env::OpenMode::kCreate));
  const int64_t most = to.size_bytes() / 10 * kDeltaTenths;
  ABSL_ASSIGN_OR_RETURN(
      const std::optional<int64_t> size,
      dht::WriteDelta(*base.file, *next.file, out.get(), most));
  if (!size.has_value()) return std::optional<v1::Delta>();
  ABSL_RETURN_IF_ERROR(out->Resize(static_cast<uint64_t>(*size)));
  ABSL_RETURN_IF_ERROR(out->Sync());
  out.reset();
  ABSL_ASSIGN_OR_RETURN(std::vector<Digest> leaves, LeavesOf(env, temporary));
  const dht::MerkleTree tree =
      dht::TreeOf(std::move(leaves), *size, dht::PieceSizeFor(*size));
  ABSL_RETURN_IF_ERROR(dht::ContentFile::WriteLeaves(
      env, store.DeltaLeavesPathOf(job, to.version()), tree.leaves));
  ABSL_RETURN_IF_ERROR(env->Rename(temporary, path));
  v1::Delta delta;
  delta.set_from_digest(from.digest());
  *delta.mutable_content() = tree.content;
  return std::make_optional(std::move(delta));
}

}  // namespace

absl::StatusOr<std::shared_ptr<dht::ContentFile>> OpenVersionContent(
    const ModelStore& store, const v1::ModelManifest& manifest,
    const v1::Content& content) {
  const JobId& job = manifest.job();
  return OpenContent(store.env(), store.PathOf(job, manifest.version()),
                     store.LeavesPathOf(job, manifest.version()), content);
}

absl::StatusOr<std::shared_ptr<dht::ContentFile>> OpenDeltaContent(
    const ModelStore& store, const JobId& job, int64_t version,
    const v1::Content& content) {
  return OpenContent(store.env(), store.DeltaPathOf(job, version),
                     store.DeltaLeavesPathOf(job, version), content);
}

absl::StatusOr<std::optional<v1::Delta>> WriteVersionDelta(
    const ModelStore& store, const v1::ModelManifest& from,
    const v1::ModelManifest& to) {
  if (from.size_bytes() != to.size_bytes()) return std::optional<v1::Delta>();
  Env* const env = store.env();
  const std::string path = store.DeltaPathOf(to.job(), to.version());
  auto delta = WriteDeltaTo(store, from, to, path);
  if (!delta.ok() || !delta->has_value()) {
    for (const std::string& left :
         {absl::StrCat(path, ".tmp"),
          store.DeltaLeavesPathOf(to.job(), to.version()), path}) {
      if (env->Exists(left)) env->Remove(left).IgnoreError();
    }
  }
  return delta;
}

absl::StatusOr<FileHashes> HashFile(const ModelStore& store,
                                    const std::string& path) {
  FileDigests digests(store.chunk_size_bytes());
  dht::MerkleBuilder builder;
  ABSL_ASSIGN_OR_RETURN(
      const int64_t size,
      ReadAll(store.env(), path, [&](const void* data, size_t size) {
        digests.Update(data, size);
        builder.Append(data, size);
      }));
  FileDigests::Result result = digests.Finish();
  dht::MerkleTree tree =
      dht::TreeOf(builder.Finish(), size, dht::PieceSizeFor(size));
  FileHashes hashes;
  hashes.digest = result.file;
  hashes.chunks = std::move(result.chunks);
  hashes.content = std::move(tree.content);
  hashes.leaves = std::move(tree.leaves);
  return hashes;
}

absl::StatusOr<v1::Content> MakeContent(const ModelStore& store,
                                        const v1::ModelManifest& manifest) {
  const JobId& job = manifest.job();
  const std::string path = store.PathOf(job, manifest.version());
  ABSL_ASSIGN_OR_RETURN(FileHashes hashes, HashFile(store, path));
  if (hashes.digest.ToBytes() != manifest.digest()) {
    return absl::DataLossError(absl::StrCat(path, ": digest ",
                                            hashes.digest.ToShortHex(),
                                            ", not that of the manifest"));
  }
  ABSL_RETURN_IF_ERROR(dht::ContentFile::WriteLeaves(
      store.env(), store.LeavesPathOf(job, manifest.version()), hashes.leaves));
  return hashes.content;
}

}  // namespace koinon::coordinator
