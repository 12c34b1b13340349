// How a content's file is begun, taken up again, or opened whole.
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "dht/swarm/content_file_state.h"
#include "dht/swarm/hash_list.h"
#include "dht/swarm/leaf_check.h"

namespace koinon::dht {
namespace {

constexpr size_t kMaxLeavesBytes = size_t{256} << 20;

// As ReadFile, and DATA_LOSS of what is too long: that does not pass.
absl::StatusOr<std::string> ReadSaved(Env* env, const std::string& path,
                                      size_t max_bytes) {
  ABSL_ASSIGN_OR_RETURN(const std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > max_bytes) {
    return absl::DataLossError(absl::StrCat(path, ": at most ", max_bytes,
                                            " bytes expected, found ", size));
  }
  std::string bytes(size, '\0');
  ABSL_RETURN_IF_ERROR(file->ReadAt(0, bytes.size(), bytes.data()));
  return bytes;
}

}  // namespace

absl::StatusOr<std::shared_ptr<ContentFile>> ContentFile::Resume(
    Env* env, const std::string& path, const v1::Content& content,
    const std::function<bool()>& cancelled) {
  ABSL_RETURN_IF_ERROR(CheckContent(content));
  auto state = std::make_shared<State>(env, path, content);
  if (state->map.pieces() <= 1) {
    MutexLock lock(&state->mutex);
    std::vector<Digest> layer;
    if (state->map.pieces() == 1) {
      layer.push_back(*Digest::FromBytes(content.root()));
    }
    if (!HasRoot(content, layer)) {
      return absl::DataLossError("no bytes have another root");
    }
    state->layer = std::move(layer);
  }
  const absl::Status old = state->OpenOld(cancelled);
  // These say nothing about what is there (the first: for want of descriptors).
  if (absl::IsResourceExhausted(old) || absl::IsCancelled(old)) return old;
  if (!old.ok()) {
    if (!absl::IsNotFound(old)) {
      LogWarning("what an earlier fetch left is of no use; it begins anew",
                 {{"path", path}, {"reason", old}});
    }
    ABSL_RETURN_IF_ERROR(OwnDisk(state->OpenNew()));
  }
  return std::shared_ptr<ContentFile>(new ContentFile(std::move(state)));
}

absl::Status ContentFile::State::OpenOld(
    const std::function<bool()>& cancelled) {
  MutexLock lock(&mutex);
  if (!env->Exists(SavedPathOf(path))) return absl::NotFoundError(path);
  ABSL_ASSIGN_OR_RETURN(
      const std::string bytes,
      ReadSaved(env, SavedPathOf(path), MaxSavedPiecesBytes(content)));
  ABSL_ASSIGN_OR_RETURN(SavedPieces saved, DecodeSavedPieces(content, bytes));
  ABSL_ASSIGN_OR_RETURN(file, env->Open(path, Env::OpenMode::kReadWrite));
  ABSL_ASSIGN_OR_RETURN(
      leaves_file, env->Open(LeavesPathOf(path), Env::OpenMode::kReadWrite));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  ABSL_ASSIGN_OR_RETURN(const uint64_t leaves_size, leaves_file->Size());
  if (size != static_cast<uint64_t>(map.size_bytes) ||
      leaves_size != map.leaves() * Digest::kSizeBytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", map.size_bytes, " bytes and ", map.leaves(),
                     " leaves expected, found ", size, " bytes and ",
                     leaves_size / Digest::kSizeBytes, " leaves"));
  }
  if (layer.empty()) layer = std::move(saved.layer);
  have = std::move(saved.have);
  return DropDamagedPieces(cancelled);
}

// Hashes are compared with the layer, which has the root, and the bytes with
// them: a disk may have said of what it lost that it was safe.
bool ContentFile::State::IsSound(uint32_t piece) const {
  auto hashes = ReadLeavesOf(piece);
  if (!hashes.ok() ||
      PieceHash(*hashes, map.LeavesPerPiece()) != layer[piece]) {
    return false;
  }
  std::vector<uint8_t> bytes(map.PieceBytes(piece));
  return file->ReadAt(map.PieceOffset(piece), bytes.size(), bytes.data())
             .ok() &&
         LeafCheck(map, piece, *std::move(hashes)).Check(bytes).ok();
}

absl::Status ContentFile::State::DropDamagedPieces(
    const std::function<bool()>& cancelled) {
  Bitmap sound(map.pieces());
  for (uint32_t piece = 0; piece < map.pieces(); ++piece) {
    if (!have.Has(piece)) continue;
    if (cancelled != nullptr && cancelled()) {
      return absl::CancelledError(
          absl::StrCat(path, ": cancelled while what is there is compared"));
    }
    if (IsSound(piece)) sound.Set(piece);
  }
  if (sound.count() != have.count()) {
    LogWarning("pieces or their hashes are damaged; these are fetched again",
               {{"path", path}, {"pieces", have.count() - sound.count()}});
  }
  have = std::move(sound);
  return absl::OkStatus();
}

absl::Status ContentFile::State::OpenNew() {
  std::string at;
  SavedPieces saved{.layer = {}, .have = Bitmap(map.pieces())};
  {
    MutexLock lock(&mutex);
    at = path;
    have = saved.have;
    saved.layer = layer;
  }
  // An old bitmap must not be believed of the new file.
  if (env->Exists(SavedPathOf(at))) {
    ABSL_RETURN_IF_ERROR(env->Remove(SavedPathOf(at)));
    ABSL_RETURN_IF_ERROR(env->SyncDir(DirectoryOf(at)));
  }
  const auto open = [&]() -> absl::Status {
    ABSL_ASSIGN_OR_RETURN(file, env->Open(at, Env::OpenMode::kCreate));
    ABSL_ASSIGN_OR_RETURN(leaves_file,
                          env->Open(LeavesPathOf(at), Env::OpenMode::kCreate));
    ABSL_RETURN_IF_ERROR(file->Resize(map.size_bytes));
    ABSL_RETURN_IF_ERROR(
        leaves_file->Resize(map.leaves() * Digest::kSizeBytes));
    return SavePieces(saved);
  };
  const absl::Status status = open();
  if (!status.ok()) {  // give the room back
    (void)env->Remove(at);
    (void)env->Remove(LeavesPathOf(at));
  }
  return status;
}

absl::StatusOr<std::shared_ptr<ContentFile>> ContentFile::OpenWhole(
    Env* env, const std::string& path, const v1::Content& content,
    std::vector<Digest> leaves) {
  ABSL_RETURN_IF_ERROR(CheckContent(content));
  auto state = std::make_shared<State>(env, path, content);
  if (leaves.size() != state->map.leaves()) {
    return absl::DataLossError(absl::StrCat(path, ": ", state->map.leaves(),
                                            " leaves expected, found ",
                                            leaves.size()));
  }
  MerkleTree tree = TreeOf(std::move(leaves), content.size_bytes(),
                           content.piece_size_bytes());
  if (tree.content.root() != content.root()) {
    return absl::DataLossError(
        absl::StrCat(path, ": its leaves have another root"));
  }
  ABSL_ASSIGN_OR_RETURN(state->file, env->Open(path, Env::OpenMode::kRead));
  ABSL_ASSIGN_OR_RETURN(const uint64_t size, state->file->Size());
  if (size != static_cast<uint64_t>(content.size_bytes())) {
    return absl::DataLossError(absl::StrCat(path, ": ", content.size_bytes(),
                                            " bytes expected, found ", size));
  }
  state->leaves = std::move(tree.leaves);
  MutexLock lock(&state->mutex);
  state->layer = std::move(tree.pieces);
  for (uint32_t i = 0; i < state->map.pieces(); ++i) state->have.Set(i);
  state->growing = false;
  return std::shared_ptr<ContentFile>(new ContentFile(state));
}

absl::StatusOr<std::vector<Digest>> ContentFile::ReadLeaves(
    Env* env, const std::string& path) {
  ABSL_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadFile(env, path, kMaxLeavesBytes));
  auto hashes = DecodeHashes(bytes);
  if (!hashes.ok()) {
    return absl::DataLossError(
        absl::StrCat(path, ": ", hashes.status().message()));
  }
  return hashes;
}

absl::Status ContentFile::WriteLeaves(Env* env, const std::string& path,
                                      absl::Span<const Digest> leaves) {
  return WriteFileAtomically(env, path, EncodeHashes(leaves));
}

}  // namespace koinon::dht
