#include "dht/swarm/piece_download.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/swarm/hash_list.h"

namespace koinon::dht {

absl::Status PieceDownload::OnStart(const v1::PieceStart& start) {
  if (incoming_ != nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(
        "piece ", start.piece(), " started within piece ", piece_));
  }
  ABSL_ASSIGN_OR_RETURN(std::vector<Digest> leaves,
                        DecodeHashes(start.leaf_hashes()));
  ABSL_ASSIGN_OR_RETURN(incoming_,
                        file_->Begin(start.piece(), std::move(leaves)));
  piece_ = start.piece();
  received_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<PieceDownload::Done>> PieceDownload::OnBlock(
    const v1::Block& block) {
  if (incoming_ == nullptr || block.data().empty() || block.piece() != piece_ ||
      static_cast<int64_t>(block.offset()) != received_) {
    return absl::InvalidArgumentError(
        absl::StrCat("block of piece ", block.piece(), " at ", block.offset(),
                     ": not what comes next"));
  }
  ABSL_RETURN_IF_ERROR(incoming_->Append(
      absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(block.data().data()),
                          block.data().size())));
  received_ += static_cast<int64_t>(block.data().size());
  if (incoming_->left() > 0) return std::nullopt;
  const std::unique_ptr<ContentFile::Incoming> incoming = std::move(incoming_);
  ABSL_ASSIGN_OR_RETURN(const bool is_new, incoming->Finish());
  return Done{
      .piece = piece_, .bytes = std::exchange(received_, 0), .is_new = is_new};
}

int64_t PieceDownload::Abandon() {
  incoming_.reset();
  return std::exchange(received_, 0);
}

std::optional<uint32_t> PieceDownload::piece() const {
  if (incoming_ == nullptr) return std::nullopt;
  return piece_;
}

bool IsSourcesFault(const absl::Status& status) {
  return absl::IsDataLoss(status) || absl::IsInvalidArgument(status) ||
         absl::IsFailedPrecondition(status);
}

}  // namespace koinon::dht
