#include "dht/swarm/saved_pieces.h"

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/swarm/merkle.h"

namespace koinon::dht {
namespace {

constexpr char kMagic[] = "KOINONP1";
constexpr size_t kCountBytes = 4;

void AppendNumber(std::string* out, uint64_t number, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    out->push_back(static_cast<char>((number >> (8 * i)) & 0xff));
  }
}

uint64_t LoadNumber(absl::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i-- > 0;) {
    number = number << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return number;
}

std::string HeaderOf(const v1::Content& content) {
  std::string header = kMagic;
  header += content.root();
  AppendNumber(&header, static_cast<uint64_t>(content.size_bytes()), 8);
  AppendNumber(&header, static_cast<uint64_t>(content.piece_size_bytes()), 8);
  return header;
}

size_t BitmapBytes(size_t pieces) { return (pieces + 7) / 8; }

absl::StatusOr<std::vector<Digest>> DecodeLayer(const v1::Content& content,
                                                absl::string_view bytes) {
  std::vector<Digest> layer;
  layer.reserve(bytes.size() / Digest::kSizeBytes);
  for (size_t at = 0; at < bytes.size(); at += Digest::kSizeBytes) {
    ABSL_ASSIGN_OR_RETURN(const Digest hash, Digest::FromBytes(bytes.substr(
                                                 at, Digest::kSizeBytes)));
    layer.push_back(hash);
  }
  if (!layer.empty() &&
      RootHash(layer, MapOf(content).LeavesPerPiece()).ToBytes() !=
          content.root()) {
    return absl::DataLossError("its piece layer has another root");
  }
  return layer;
}

}  // namespace

size_t MaxSavedPiecesBytes(const v1::Content& content) {
  const size_t pieces = MapOf(content).pieces();
  return HeaderOf(content).size() + kCountBytes + pieces * Digest::kSizeBytes +
         BitmapBytes(pieces) + Digest::kSizeBytes;
}

std::string EncodeSavedPieces(const v1::Content& content,
                              const SavedPieces& pieces) {
  std::string bytes = HeaderOf(content);
  AppendNumber(&bytes, pieces.layer.size(), kCountBytes);
  for (const Digest& hash : pieces.layer) bytes += hash.ToBytes();
  bytes += pieces.have.ToBytes();
  bytes += Sha256Of(bytes).ToBytes();
  return bytes;
}

absl::StatusOr<SavedPieces> DecodeSavedPieces(const v1::Content& content,
                                              absl::string_view bytes) {
  const std::string header = HeaderOf(content);
  const size_t pieces = MapOf(content).pieces();
  const size_t least =
      header.size() + kCountBytes + BitmapBytes(pieces) + Digest::kSizeBytes;
  if (bytes.size() != least &&
      bytes.size() != least + pieces * Digest::kSizeBytes) {
    return absl::DataLossError(absl::StrCat(
        least, " or ", least + pieces * Digest::kSizeBytes,
        " bytes expected for ", pieces, " pieces, found ", bytes.size()));
  }
  const absl::string_view body =
      bytes.substr(0, bytes.size() - Digest::kSizeBytes);
  if (Sha256Of(body).ToBytes() != bytes.substr(body.size())) {
    return absl::DataLossError("its checksum is not that of its bytes");
  }
  if (body.substr(0, header.size()) != header) {
    return absl::DataLossError("it is of another content");
  }
  const uint64_t hashes = LoadNumber(body.substr(header.size(), kCountBytes));
  const size_t layer_bytes = bytes.size() - least;
  if (hashes * Digest::kSizeBytes != layer_bytes) {
    return absl::DataLossError(absl::StrCat("its piece layer is said to have ",
                                            hashes, " hashes, found ",
                                            layer_bytes / Digest::kSizeBytes));
  }
  const absl::string_view rest = body.substr(header.size() + kCountBytes);
  SavedPieces saved;
  ABSL_ASSIGN_OR_RETURN(saved.layer,
                        DecodeLayer(content, rest.substr(0, layer_bytes)));
  auto have = Bitmap::FromBytes(rest.substr(layer_bytes), pieces);
  if (!have.ok()) return absl::DataLossError(have.status().message());
  saved.have = *std::move(have);
  if (saved.have.count() > 0 && saved.layer.empty()) {
    return absl::DataLossError("it has pieces, but no piece layer");
  }
  return saved;
}

}  // namespace koinon::dht
