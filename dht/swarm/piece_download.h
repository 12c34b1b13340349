#ifndef KOINON_DHT_SWARM_PIECE_DOWNLOAD_H_
#define KOINON_DHT_SWARM_PIECE_DOWNLOAD_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dht/swarm/content_file.h"
#include "proto/dht.pb.h"

namespace koinon::dht {

// The piece that is coming on one stream, verified leaf by leaf as it comes.
// One thread at a time.
//
// Errors: DATA_LOSS, INVALID_ARGUMENT and FAILED_PRECONDITION are the source's
// fault (bytes that are not the content's, replies out of order); all others
// are our own disk's.
class PieceDownload {
 public:
  // `file` must outlive it.
  explicit PieceDownload(ContentFile* file) : file_(file) {}

  absl::Status OnStart(const v1::PieceStart& start);
  struct Done {
    uint32_t piece = 0;
    int64_t bytes = 0;
    bool is_new = false;  // false: it was here before
  };
  // Done with the last block.
  absl::StatusOr<std::optional<Done>> OnBlock(const v1::Block& block);
  // The piece under way, if there is one, is given up: its bytes so far.
  int64_t Abandon();

  // Of the piece under way.
  std::optional<uint32_t> piece() const;

 private:
  ContentFile* const file_;
  std::unique_ptr<ContentFile::Incoming> incoming_;
  uint32_t piece_ = 0;
  int64_t received_ = 0;
};

// Whether an error of the above is the source's fault.
bool IsSourcesFault(const absl::Status& status);

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_PIECE_DOWNLOAD_H_
