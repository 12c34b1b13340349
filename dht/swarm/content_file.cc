#include "dht/swarm/content_file.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/swarm/content_file_state.h"
#include "dht/swarm/hash_list.h"
#include "dht/swarm/leaf_check.h"

namespace koinon::dht {
namespace {

// What a crash may lose at most: pieces that are finished and not synced, and
// those that are half there.
constexpr int64_t kAtRiskBytes = int64_t{64} << 20;
// A sync begins so early that those which go on meanwhile need not wait...
constexpr int64_t kSyncAtBytes = int64_t{48} << 20;
// ... and not for less than this, however much is half there.
constexpr int64_t kLeastSyncBytes = int64_t{8} << 20;

}  // namespace

absl::Status OwnDisk(const absl::Status& status) {
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  return absl::InternalError(status.message());
}

bool HasRoot(const v1::Content& content, absl::Span<const Digest> layer) {
  const PieceMap map = MapOf(content);
  return layer.size() == map.pieces() &&
         RootHash(layer, map.LeavesPerPiece()).ToBytes() == content.root();
}

ContentFile::ContentFile(std::shared_ptr<State> state)
    : state_(std::move(state)) {}
ContentFile::~ContentFile() = default;

// ---- What is there ----

const v1::Content& ContentFile::content() const { return state_->content; }
const PieceMap& ContentFile::map() const { return state_->map; }

std::string ContentFile::path() const {
  MutexLock lock(&state_->mutex);
  return state_->path;
}

Bitmap ContentFile::have() const {
  MutexLock lock(&state_->mutex);
  return state_->have;
}

bool ContentFile::Has(uint32_t piece) const {
  MutexLock lock(&state_->mutex);
  return piece < state_->have.size() && state_->have.Has(piece);
}

bool ContentFile::complete() const {
  MutexLock lock(&state_->mutex);
  return state_->have.full();
}

bool ContentFile::whole() const {
  MutexLock lock(&state_->mutex);
  return !state_->growing || state_->have.full();
}

std::vector<Digest> ContentFile::piece_layer() const {
  MutexLock lock(&state_->mutex);
  return state_->layer;
}

absl::Status ContentFile::SetPieceLayer(std::vector<Digest> layer) {
  if (!HasRoot(state_->content, layer)) {
    return absl::DataLossError(
        absl::StrCat("a piece layer of ", layer.size(),
                     " hashes that has not the content's root; ",
                     state_->map.pieces(), " pieces expected"));
  }
  MutexLock lock(&state_->mutex);
  state_->layer = std::move(layer);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Digest>> ContentFile::LeavesOf(uint32_t piece,
                                                          bool compare) const {
  if (!Has(piece)) {
    return absl::NotFoundError(absl::StrCat("piece ", piece, " is not here"));
  }
  ABSL_ASSIGN_OR_RETURN(std::vector<Digest> leaves,
                        state_->ReadLeavesOf(piece));
  if (!compare) return leaves;
  const Digest hash = PieceHash(leaves, map().LeavesPerPiece());
  MutexLock lock(&state_->mutex);
  if (hash == state_->layer[piece]) return leaves;
  return absl::DataLossError(absl::StrCat(
      "piece ", piece, ": the disk has other hashes of its leaves"));
}

absl::StatusOr<std::vector<Digest>> ContentFile::State::ReadLeavesOf(
    uint32_t piece) const {
  const uint64_t first = uint64_t{piece} * map.LeavesPerPiece();
  const uint32_t count = map.LeavesIn(piece);
  if (leaves_file == nullptr) {
    return std::vector<Digest>(leaves.begin() + first,
                               leaves.begin() + first + count);
  }
  std::string bytes(count * Digest::kSizeBytes, '\0');
  ABSL_RETURN_IF_ERROR(OwnDisk(leaves_file->ReadAt(
      first * Digest::kSizeBytes, bytes.size(), bytes.data())));
  return DecodeHashes(bytes);
}

absl::Status ContentFile::State::WriteLeavesOf(
    uint32_t piece, absl::Span<const Digest> hashes) {
  const std::string bytes = EncodeHashes(hashes);
  const uint64_t first = uint64_t{piece} * map.LeavesPerPiece();
  return OwnDisk(leaves_file->WriteAt(first * Digest::kSizeBytes, bytes.data(),
                                      bytes.size()));
}

absl::Status ContentFile::Read(uint32_t piece, uint32_t offset, size_t size,
                               void* data) const {
  if (!Has(piece)) {
    return absl::NotFoundError(absl::StrCat("piece ", piece, " is not here"));
  }
  const PieceMap& map = state_->map;
  if (uint64_t{offset} + size > static_cast<uint64_t>(map.PieceBytes(piece))) {
    return absl::OutOfRangeError(
        absl::StrCat("piece ", piece, " has ", map.PieceBytes(piece),
                     " bytes, not ", uint64_t{offset} + size));
  }
  return OwnDisk(
      state_->file->ReadAt(map.PieceOffset(piece) + offset, size, data));
}

bool ContentFile::Lose(uint32_t piece) {
  MutexLock lock(&state_->mutex);
  if (piece >= state_->have.size() || !state_->have.Has(piece)) return false;
  state_->have.Clear(piece);
  state_->dirty = true;
  return true;
}

void ContentFile::Doubt(absl::Span<const uint32_t> pieces) {
  MutexLock lock(&state_->mutex);
  for (const uint32_t piece : pieces) {
    if (piece < state_->doubted.size()) state_->doubted.Set(piece);
  }
}

bool ContentFile::TakeDoubt(uint32_t piece) {
  MutexLock lock(&state_->mutex);
  if (piece >= state_->doubted.size()) return false;
  const bool doubted = state_->doubted.Has(piece);
  state_->doubted.Clear(piece);
  return doubted;
}

// ---- Growing ----

absl::Status ContentFile::State::Reserve(int64_t bytes) {
  MutexLock lock(&mutex);
  while (syncing && unsynced + partial + bytes > kAtRiskBytes) {
    synced.Wait(&mutex);
  }
  if (!broken.ok()) return broken;
  partial += bytes;
  return absl::OkStatus();
}

void ContentFile::State::GiveUp(int64_t bytes) {
  MutexLock lock(&mutex);
  partial -= bytes;
}

class ContentFile::IncomingPiece final : public ContentFile::Incoming {
 public:
  IncomingPiece(std::shared_ptr<State> state, uint32_t piece,
                std::vector<Digest> leaves)
      : state_(std::move(state)),
        piece_(piece),
        check_(state_->map, piece, std::move(leaves)) {}

  ~IncomingPiece() override { state_->GiveUp(written_); }

  absl::Status Append(absl::Span<const uint8_t> leaves) override {
    const int64_t at = state_->map.PieceOffset(piece_) + check_.checked();
    ABSL_RETURN_IF_ERROR(check_.Check(leaves));
    ABSL_RETURN_IF_ERROR(state_->Reserve(leaves.size()));
    written_ += leaves.size();
    return OwnDisk(state_->file->WriteAt(at, leaves.data(), leaves.size()));
  }

  uint32_t left() const override { return check_.left(); }

  absl::StatusOr<bool> Finish() override {
    if (check_.left() > 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "piece ", piece_, " still lacks ", check_.left(), " leaves"));
    }
    ABSL_RETURN_IF_ERROR(state_->WriteLeavesOf(piece_, check_.leaves()));
    bool sync = false;
    {
      MutexLock lock(&state_->mutex);
      if (state_->have.Has(piece_)) return false;
      state_->have.Set(piece_);
      state_->dirty = true;
      state_->unsynced += written_;
      state_->partial -= written_;
      written_ = 0;
      sync = !state_->syncing && state_->unsynced >= kLeastSyncBytes &&
             state_->unsynced + state_->partial >= kSyncAtBytes;
    }
    if (sync) ABSL_RETURN_IF_ERROR(state_->Sync());
    return true;
  }

 private:
  const std::shared_ptr<State> state_;
  const uint32_t piece_;
  LeafCheck check_;
  int64_t written_ = 0;
};

absl::StatusOr<std::unique_ptr<ContentFile::Incoming>> ContentFile::Begin(
    uint32_t piece, std::vector<Digest> leaves) {
  const PieceMap& map = state_->map;
  if (piece >= map.pieces() || leaves.size() != map.LeavesIn(piece)) {
    return absl::DataLossError(
        absl::StrCat("piece ", piece, " of ", map.pieces(), " with ",
                     leaves.size(), " leaves is none of this content"));
  }
  Digest expected;
  {
    MutexLock lock(&state_->mutex);
    if (state_->layer.empty() || !state_->growing) {
      return absl::FailedPreconditionError(
          "the piece layer is not known yet, or the content is whole");
    }
    expected = state_->layer[piece];
  }
  if (PieceHash(leaves, map.LeavesPerPiece()) != expected) {
    return absl::DataLossError(
        absl::StrCat("piece ", piece, ": its leaves have another hash"));
  }
  return std::make_unique<IncomingPiece>(state_, piece, std::move(leaves));
}

absl::Status ContentFile::AppendWhole(absl::Span<const uint8_t> bytes) {
  State& state = *state_;
  if (!state.builder.has_value()) state.builder.emplace();
  if (bytes.size() > static_cast<uint64_t>(state.map.size_bytes) -
                         static_cast<uint64_t>(state.appended)) {
    return absl::DataLossError(absl::StrCat("more than ", state.map.size_bytes,
                                            " bytes for the content"));
  }
  state.builder->Append(bytes.data(), bytes.size());
  while (!bytes.empty()) {
    const uint32_t piece =
        static_cast<uint32_t>(state.appended / state.map.piece_size_bytes);
    const int64_t end =
        state.map.PieceOffset(piece) + state.map.PieceBytes(piece);
    const size_t part = std::min<uint64_t>(bytes.size(), end - state.appended);
    if (!Has(piece)) {  // what was verified stays
      ABSL_RETURN_IF_ERROR(
          OwnDisk(state.file->WriteAt(state.appended, bytes.data(), part)));
    }
    bytes.remove_prefix(part);
    state.appended += part;
  }
  return absl::OkStatus();
}

absl::Status ContentFile::FinishWhole() {
  State& state = *state_;
  const int64_t size = std::exchange(state.appended, 0);
  std::optional<MerkleBuilder> builder = std::exchange(state.builder, {});
  if (size != state.map.size_bytes) {
    return absl::DataLossError(
        absl::StrCat(state.map.size_bytes, " bytes expected, found ", size));
  }
  if (!builder.has_value()) builder.emplace();
  const MerkleTree tree =
      TreeOf(builder->Finish(), size, state.map.piece_size_bytes);
  if (tree.content.root() != state.content.root()) {
    return absl::DataLossError("the bytes have another root than the content");
  }
  const std::string hashes = EncodeHashes(tree.leaves);
  ABSL_RETURN_IF_ERROR(
      OwnDisk(state.leaves_file->WriteAt(0, hashes.data(), hashes.size())));
  MutexLock lock(&state.mutex);
  state.layer = tree.pieces;
  for (uint32_t i = 0; i < state.map.pieces(); ++i) state.have.Set(i);
  state.dirty = true;
  return absl::OkStatus();
}

// ---- Durability ----

absl::Status ContentFile::State::SavePieces(const SavedPieces& saved) {
  std::string at;
  {
    MutexLock lock(&mutex);
    at = path;
  }
  return OwnDisk(WriteFileAtomically(env, SavedPathOf(at),
                                     EncodeSavedPieces(content, saved)));
}

absl::Status ContentFile::State::Sync() {
  SavedPieces saved;
  int64_t bytes = 0;
  {
    MutexLock lock(&mutex);
    while (syncing) synced.Wait(&mutex);
    if (!broken.ok()) return broken;
    if (!growing || !dirty) return absl::OkStatus();
    syncing = true;
    dirty = false;
    saved = {.layer = layer, .have = have};
    bytes = unsynced;
  }
  absl::Status status = OwnDisk(file->Sync());
  if (status.ok()) status = OwnDisk(leaves_file->Sync());
  if (status.ok()) status = SavePieces(saved);
  MutexLock lock(&mutex);
  syncing = false;
  unsynced -= bytes;
  if (!status.ok()) broken = status;  // a sync is never tried again
  synced.SignalAll();
  return status;
}

absl::Status ContentFile::Sync() { return state_->Sync(); }

absl::Status ContentFile::MoveWhole(const std::string& path,
                                    const std::string& leaves_path) {
  if (!complete()) {
    return absl::FailedPreconditionError(
        absl::StrCat(this->path(), " is not complete"));
  }
  ABSL_RETURN_IF_ERROR(state_->Sync());
  const std::string from = this->path();
  Env* const env = state_->env;
  // In this order: a file without its hashes can be hashed, hashes without a
  // file are nothing.
  ABSL_RETURN_IF_ERROR(OwnDisk(env->Rename(LeavesPathOf(from), leaves_path)));
  ABSL_RETURN_IF_ERROR(OwnDisk(env->Rename(from, path)));
  {
    MutexLock lock(&state_->mutex);
    state_->path = path;
    state_->growing = false;
  }
  ABSL_RETURN_IF_ERROR(OwnDisk(env->Remove(SavedPathOf(from))));
  return OwnDisk(env->SyncDir(DirectoryOf(path)));
}

}  // namespace koinon::dht
