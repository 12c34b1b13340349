#ifndef KOINON_DHT_SWARM_SAVED_PIECES_H_
#define KOINON_DHT_SWARM_SAVED_PIECES_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "base/digest.h"
#include "dht/swarm/bitmap.h"
#include "proto/model.pb.h"

namespace koinon::dht {

// What a fetch remembers of a growing content across a crash. A value.
//
// As bytes: "KOINONP1", the content's root, its size and its piece size (8
// little-endian bytes each), the number of hashes in the piece layer (4; zero
// while it is not known), these, the bitmap, and the SHA-256 of all before.
struct SavedPieces {
  std::vector<Digest> layer;
  Bitmap have;
};

std::string EncodeSavedPieces(const v1::Content& content,
                              const SavedPieces& pieces);
// DATA_LOSS, saying what is wrong, unless the bytes are whole and of this
// content, and the layer, if there is one, has its root. Requires a content
// that CheckContent passes; allocates no more than its pieces ask for.
absl::StatusOr<SavedPieces> DecodeSavedPieces(const v1::Content& content,
                                              absl::string_view bytes);
// The longest that the content's can be.
size_t MaxSavedPiecesBytes(const v1::Content& content);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_SAVED_PIECES_H_
