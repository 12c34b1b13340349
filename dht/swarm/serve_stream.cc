#include "dht/swarm/serve_stream.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/swarm/bitmap.h"
#include "dht/swarm/content_board.h"
#include "dht/swarm/content_file.h"
#include "dht/swarm/origin_book.h"
#include "dht/swarm/reply_bytes.h"
#include "grpcpp/support/proto_buffer_reader.h"

namespace koinon::dht {
namespace {

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

bool Parse(grpc::ByteBuffer* bytes, v1::FetchRequest* request) {
  grpc::ProtoBufferReader reader(bytes);
  return reader.status().ok() && request->ParseFromZeroCopyStream(&reader);
}

absl::StatusOr<Bitmap> HaveOf(const v1::OpenContent& open, uint32_t pieces) {
  if (open.have().empty()) return Bitmap(pieces);
  auto have = Bitmap::FromBytes(open.have(), pieces);
  if (have.ok()) return have;
  return absl::InvalidArgumentError(
      absl::StrCat("open.have: ", have.status().message()));
}

}  // namespace

void Seeder::Stream::Begin(const absl::Status& refused) {
  self_ = shared_from_this();
  if (!refused.ok()) return Close(refused);
  MutexLock lock(&mutex_);
  if (!finished_) StartRead(&incoming_bytes_);
}

void Seeder::Stream::Close(const absl::Status& status) {
  {
    MutexLock lock(&mutex_);
    if (!close_.has_value()) close_ = status;
  }
  Write();
}

void Seeder::Stream::OnSlot() {
  has_slot_ = true;
  Write();
}

void Seeder::Stream::OnPiece(uint32_t piece) {
  if (upload_->OnPiece(piece)) state_->WantPulse();
}

void Seeder::Stream::OnPulse(absl::Duration passed) {
  if (!opened_) return CountIdle(passed, state_->options.idle / 10);
  upload_->FlushHaves();
  Write();
  CountIdle(passed, state_->options.idle);
}

Upload::Counts Seeder::Stream::counts() const {
  return opened_ ? upload_->counts() : Upload::Counts();
}

void Seeder::Stream::OnReadDone(bool ok) {
  if (!ok) return Close(absl::OkStatus());
  moved_ = true;
  const absl::Status status = OnRequest();
  if (!status.ok()) return Close(status);
  Write();
  MutexLock lock(&mutex_);
  if (!finished_) StartRead(&incoming_bytes_);
}

absl::Status Seeder::Stream::OnRequest() {
  if (!Parse(&incoming_bytes_, &incoming_)) {
    return absl::InvalidArgumentError("bytes that are no request");
  }
  return upload_ == nullptr ? Open() : upload_->OnRequest(incoming_);
}

void Seeder::Stream::OnWriteDone(bool ok) {
  moved_ = true;
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !close_.has_value()) close_ = absl::CancelledError("broken");
  }
  Write();
}

void Seeder::Stream::OnCancel() {
  cancelled_ = true;
  Close(absl::CancelledError("cancelled"));
}

void Seeder::Stream::OnDone() {
  if (cancelled_ && upload_ != nullptr) upload_->DoubtLast();
  if (listener_ != 0) state_->board->Unlisten(listener_);
  state_->Leave(id_, upload_.get());
  state_->ChangeSlots([this](SendSlots* slots) { slots->Release(id_); });
  const std::shared_ptr<Stream> last = std::move(self_);
}

absl::Status Seeder::Stream::Open() {
  if (!incoming_.has_open()) {
    return absl::FailedPreconditionError("the first request must be open");
  }
  const v1::OpenContent& open = incoming_.open();
  const auto root = Digest::FromBytes(open.root());
  if (!root.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("open.root: ", root.status().message()));
  }
  std::shared_ptr<ContentFile> file = state_->board->Find(*root);
  if (file == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("content ", root->ToShortHex(), " is not here"));
  }
  ABSL_ASSIGN_OR_RETURN(Bitmap have, HaveOf(open, file->map().pieces()));
  const bool may_serve = caller_.member.IsZero() || !caller_.node.IsZero();
  const bool serves = may_serve && !open.caller().address().empty();
  const bool origin = state_->options.is_origin && file->whole();
  state_->book.Forget([this](const Digest& kept) {
    return state_->board->Find(kept) != nullptr;
  });
  upload_ = std::make_unique<Upload>(
      file, std::move(have), origin ? &state_->book : nullptr,
      OriginBook::Caller{
          .node = WhoCalls(),
          .place = {.site = caller_.site, .crosses = open.cross_site()},
          .serves = serves},
      UploadOptions(*root));
  opened_ = true;
  if (!file->complete()) Listen(*root);
  return absl::OkStatus();
}

Key Seeder::Stream::WhoCalls() const {
  if (!caller_.member.IsZero()) return caller_.node;
  // In plaintext it is whom it claims to be.
  const auto claimed = ContactFromProto(incoming_.open().caller());
  return claimed.ok() ? claimed->id : Key();
}

Upload::Options Seeder::Stream::UploadOptions(const Digest& root) const {
  return Upload::Options{
      .max_wants = state_->options.max_wants,
      .block_bytes = state_->options.block_bytes,
      .spare = state_->spare,
      .on_lost = [state = state_] { state->board->CountLost(); },
      .others =
          [state = state_, root, self = WhoCalls()] {
            std::vector<Contact> others = state->board->OthersOf(root);
            std::erase_if(others,
                          [&](const Contact& c) { return c.id == self; });
            return others;
          },
  };
}

void Seeder::Stream::Listen(const Digest& root) {
  listener_ =
      state_->board->Listen(root, [stream = weak_from_this()](uint32_t piece) {
        if (const auto alive = stream.lock()) alive->OnPiece(piece);
      });
  if (upload_->CatchUp()) state_->WantPulse();
}

void Seeder::Stream::CountIdle(absl::Duration passed, absl::Duration bound) {
  idle_ = moved_.exchange(false) ? absl::ZeroDuration() : idle_ + passed;
  if (idle_ < bound) return;
  Close(absl::UnavailableError(
      absl::StrCat("nothing has moved for ", absl::FormatDuration(idle_))));
}

void Seeder::Stream::Write() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      again_ = true;
      if (writing_ || finished_) return;
      if (close_.has_value()) {
        finished_ = true;
        Finish(ToGrpc(*close_));
        return;
      }
      if (!opened_) return;
      writing_ = true;
      again_ = false;
    }
    const bool filled = NextReply();
    MutexLock lock(&mutex_);
    if (filled) return SendReply();
    writing_ = false;
    if (!again_) return;
  }
}

void Seeder::Stream::SendReply() {
  if (outgoing_.has_block()) {
    state_->board->CountServed(
        static_cast<int64_t>(outgoing_.block().data().size()));
  }
  // A piece's beginning goes out with what follows it: its first block, or that
  // it cannot be read.
  const auto options = outgoing_.has_piece_start()
                           ? grpc::WriteOptions().set_buffer_hint()
                           : grpc::WriteOptions();
  outgoing_bytes_ = EncodeReply(&outgoing_, state_->spare);
  StartWrite(&outgoing_bytes_, options);
}

bool Seeder::Stream::NextReply() {
  // A slot is for one piece; for the next one others may go first.
  if (begun_ && !upload_->piece_under_way()) GiveSlotBack();
  while (!upload_->NextReply(&outgoing_, has_slot_)) {
    GiveSlotBack();
    if (!upload_->wants_to_begin() || !AskForSlot()) return false;
  }
  if (outgoing_.has_piece_start()) begun_ = true;
  if (outgoing_.has_block()) {
    state_->ChangeSlots([this](SendSlots* slots) { slots->OnMoved(id_); });
  }
  return true;
}

void Seeder::Stream::GiveSlotBack() {
  begun_ = false;
  if (!has_slot_.exchange(false)) return;
  state_->ChangeSlots([this](SendSlots* slots) { slots->Release(id_); });
}

bool Seeder::Stream::AskForSlot() {
  const double has = upload_->caller_has();
  const bool given =
      state_->ChangeSlots([&](SendSlots* slots) { slots->Ask(id_, has); }, id_);
  if (given) has_slot_ = true;
  return given;
}

}  // namespace koinon::dht
