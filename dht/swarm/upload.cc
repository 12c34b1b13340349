#include "dht/swarm/upload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace koinon::dht {
namespace {

// An answer's; nobody fetches from more at once.
constexpr size_t kMaxOthers = 50;

// Of the pieces that were begun last: no fewer than a caller wants at a time.
constexpr size_t kMaxLast = 64;

// Among the wants: one of the origin's choice, which it makes when it is about
// to send it.
constexpr uint32_t kAny = 0xffffffff;  // no piece: there are 2^31 at most

void AddOthers(const std::function<std::vector<Contact>()>& others,
               google::protobuf::RepeatedPtrField<v1::Contact>* out) {
  if (!others) return;
  for (const Contact& contact : others()) {
    if (static_cast<size_t>(out->size()) == kMaxOthers) return;
    *out->Add() = ContactToProto(contact);
  }
}

}  // namespace

Upload::Upload(std::shared_ptr<ContentFile> file, Bitmap caller_have,
               OriginBook* book, const OriginBook::Caller& caller,
               Options options)
    : file_(std::move(file)),
      book_(book),
      options_(std::move(options)),
      seat_(book == nullptr
                ? OriginBook::Seat{}
                : book->Join(*Digest::FromBytes(file_->content().root()),
                             caller, caller_have)),
      caller_have_(std::move(caller_have)),
      told_(file_->have()) {
  v1::FetchReply reply;
  v1::ContentOpened* opened = reply.mutable_opened();
  opened->set_have(told_.ToBytes());
  opened->set_origin(book_ != nullptr);
  AddOthers(options_.others, opened->mutable_others());
  MutexLock lock(&mutex_);
  control_.push_back(std::move(reply));
}

Upload::~Upload() {
  if (book_ == nullptr) return;
  MutexLock lock(&mutex_);
  // Who has everything goes on serving; what others had is out of reach.
  book_->Leave(seat_, /*whole=*/caller_have_.full());
}

absl::Status Upload::OnRequest(const v1::FetchRequest& request) {
  MutexLock lock(&mutex_);
  switch (request.message_case()) {
    case v1::FetchRequest::kWant:
      return OnWant(request.want());
    case v1::FetchRequest::kWantAny:
      return OnWantAny(request.want_any().count());
    case v1::FetchRequest::kHave:
      return OnHave(request.have());
    case v1::FetchRequest::kCancel:
      OnCancel(request.cancel());
      return absl::OkStatus();
    case v1::FetchRequest::kWantPieceLayer: {
      ABSL_RETURN_IF_ERROR(CheckRoom(1));
      v1::FetchReply reply;  // no hashes: not known here yet
      std::string* hashes = reply.mutable_piece_layer()->mutable_hashes();
      for (const Digest& hash : file_->piece_layer()) *hashes += hash.ToBytes();
      control_.push_back(std::move(reply));
      return absl::OkStatus();
    }
    case v1::FetchRequest::kOpen:
      return absl::InvalidArgumentError("open: the content is open already");
    case v1::FetchRequest::MESSAGE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("a request that this version knows not");
}

absl::Status Upload::CheckRoom(size_t more) const {
  const size_t waiting = wants_.size() + control_.size();
  if (more <= options_.max_wants && waiting <= options_.max_wants - more) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("at most ", options_.max_wants,
                   " pieces may be asked for and not yet sent; ", waiting,
                   " are, and ", more, " more are asked for"));
}

absl::Status Upload::CheckPiece(uint32_t piece) const {
  if (piece < file_->map().pieces()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "piece ", piece, ": the content has ", file_->map().pieces(), " pieces"));
}

absl::Status Upload::OnWant(const v1::WantPieces& want) {
  ABSL_RETURN_IF_ERROR(CheckRoom(want.pieces_size()));
  caller_count_ = std::max<size_t>(caller_count_, want.caller_has());
  for (const uint32_t piece : want.pieces()) {
    ABSL_RETURN_IF_ERROR(CheckPiece(piece));
    if (!file_->Has(piece)) {
      Refuse(piece, "it is not here");
    } else if (book_ == nullptr) {
      wants_.push_back(piece);
    } else if (!want.last_resort()) {
      Refuse(piece, "an origin chooses: want_any, or last_resort");
    } else if (!book_->Grant(seat_, piece)) {
      Refuse(piece, "it has been sent, or peers have it");
    } else {
      ++counts_.last_resort;
      wants_.push_back(piece);
    }
  }
  return absl::OkStatus();
}

absl::Status Upload::OnWantAny(uint32_t count) {
  ABSL_RETURN_IF_ERROR(CheckRoom(count));
  wants_.insert(wants_.end(), count, kAny);
  return absl::OkStatus();
}

absl::Status Upload::OnHave(const v1::HavePieces& have) {
  for (const uint32_t piece : have.pieces()) {
    ABSL_RETURN_IF_ERROR(CheckPiece(piece));
    caller_have_.Set(piece);
    if (book_ != nullptr) book_->OnHave(seat_, piece);
  }
  return absl::OkStatus();
}

void Upload::OnCancel(const v1::CancelPieces& cancel) {
  for (const uint32_t piece : cancel.pieces()) {
    if (piece == kAny) continue;
    const auto it = std::find(wants_.begin(), wants_.end(), piece);
    if (it != wants_.end()) {
      wants_.erase(it);
      Drop(piece, "cancelled");
    } else if (current_.has_value() && current_->piece == piece) {
      current_->cancelled = true;
    }
  }
}

void Upload::Refuse(uint32_t piece, absl::string_view reason) {
  ++counts_.refused;
  v1::FetchReply reply;
  reply.mutable_refused()->set_piece(piece);
  reply.mutable_refused()->set_reason(std::string(reason));
  control_.push_back(std::move(reply));
}

void Upload::Drop(uint32_t piece, absl::string_view reason) {
  if (book_ != nullptr) book_->OnBroken(seat_, piece);
  Refuse(piece, reason);
}

bool Upload::AddHave(uint32_t piece) {
  if (piece >= told_.size() || told_.Has(piece)) return false;
  told_.Set(piece);
  if (caller_have_.Has(piece)) return false;
  haves_.push_back(piece);
  return true;
}

bool Upload::OnPiece(uint32_t piece) {
  MutexLock lock(&mutex_);
  return AddHave(piece);
}

bool Upload::CatchUp() {
  const Bitmap have = file_->have();
  bool any = false;
  MutexLock lock(&mutex_);
  for (uint32_t piece = 0; piece < have.size(); ++piece) {
    if (have.Has(piece)) any |= AddHave(piece);
  }
  return any;
}

void Upload::FlushHaves() {
  MutexLock lock(&mutex_);
  haves_due_ = !haves_.empty();
}

bool Upload::TakeControl(v1::FetchReply* reply) {
  if (!control_.empty()) {
    *reply = std::move(control_.front());
    control_.pop_front();
    return true;
  }
  if (!haves_due_) return false;
  haves_due_ = false;
  v1::HavePieces* have = reply->mutable_have();
  have->clear_pieces();
  for (const uint32_t piece : haves_) {
    if (!caller_have_.Has(piece)) have->add_pieces(piece);
  }
  haves_.clear();
  return have->pieces_size() > 0;
}

// The next piece to send. None if there is none, or what was to be the origin's
// choice finds no piece: then no more of its choice is on its way.
std::optional<uint32_t> Upload::TakeWant() {
  const uint32_t piece = wants_.front();
  wants_.pop_front();
  if (piece != kAny) return piece;
  std::optional<uint32_t> chosen;
  // One that the disk has lost counts as given, and is not chosen again.
  do {
    chosen = book_ == nullptr ? std::nullopt : book_->Choose(seat_);
  } while (chosen.has_value() && !file_->Has(*chosen));
  if (!chosen.has_value()) std::erase(wants_, kAny);
  return chosen;
}

bool Upload::wants_to_begin() const {
  MutexLock lock(&mutex_);
  return !current_.has_value() && !wants_.empty();
}

bool Upload::piece_under_way() const {
  MutexLock lock(&mutex_);
  return current_.has_value();
}

double Upload::caller_has() const {
  MutexLock lock(&mutex_);
  const size_t has = std::max(caller_count_, caller_have_.count());
  const size_t all = std::max<size_t>(caller_have_.size(), 1);
  return static_cast<double>(std::min(has, all)) / static_cast<double>(all);
}

bool Upload::NextReply(v1::FetchReply* reply, bool may_begin) {
  while (true) {
    Current current;
    bool starts = false;
    bool any = false;
    bool none = false;
    {
      MutexLock lock(&mutex_);
      if (current_.has_value() && current_->cancelled) {
        Drop(current_->piece, "cancelled");
        current_.reset();
      }
      if (TakeControl(reply)) return true;
      if (!current_.has_value()) {
        if (wants_.empty() || !may_begin) return false;
        any = wants_.front() == kAny;
        if (const auto piece = TakeWant(); piece.has_value()) {
          starts = true;
          current_ = Current{.piece = *piece};
        } else {
          none = true;
        }
      }
      if (!none) current = *current_;
    }
    if (none) {
      reply->mutable_none()->clear_others();  // of an earlier one
      AddOthers(options_.others, reply->mutable_none()->mutable_others());
      return true;
    }
    // The file is read under no lock; only this function changes current_.
    if (starts ? StartPiece(current.piece, reply) : FillBlock(current, reply)) {
      return true;
    }
    if (starts && any && !file_->Has(current.piece)) {  // another will do
      MutexLock lock(&mutex_);
      wants_.push_front(kAny);
    }
  }
}

bool Upload::StartPiece(uint32_t piece, v1::FetchReply* reply) {
  const bool doubted = file_->TakeDoubt(piece);
  if (doubted) file_->Doubt({piece});  // until all of it was compared
  const bool compare = doubted || book_ != nullptr;
  auto leaves = file_->LeavesOf(piece, compare);
  if (!leaves.ok()) {
    GiveUp(piece, leaves.status());
    return false;
  }
  v1::PieceStart* start = reply->mutable_piece_start();
  start->set_piece(piece);
  start->clear_leaf_hashes();
  for (const Digest& leaf : *leaves) {
    start->mutable_leaf_hashes()->append(leaf.ToBytes());
  }
  MutexLock lock(&mutex_);
  if (compare) {
    current_->check =
        std::make_shared<LeafCheck>(file_->map(), piece, *std::move(leaves));
  }
  last_.push_back(piece);
  if (last_.size() > kMaxLast) last_.pop_front();
  return true;
}

void Upload::GiveUp(uint32_t piece, const absl::Status& why) {
  if (!absl::IsDataLoss(why)) {
    LogWarning("a piece cannot be served",
               {{"file", file_->path()}, {"piece", piece}, {"reason", why}});
  } else if (file_->Lose(piece)) {
    LogError("the disk has lost a piece, which is served no longer",
             {{"file", file_->path()}, {"piece", piece}, {"reason", why}});
    if (options_.on_lost) options_.on_lost();
  }
  MutexLock lock(&mutex_);
  current_.reset();
  Drop(piece, "it cannot be read");
}

void Upload::DoubtLast() {
  std::vector<uint32_t> last;
  {
    MutexLock lock(&mutex_);
    last.assign(last_.begin(), last_.end());
  }
  file_->Doubt(last);
}

bool Upload::FillBlock(const Current& current, v1::FetchReply* reply) {
  const int64_t piece_bytes = file_->map().PieceBytes(current.piece);
  const size_t size =
      std::min<int64_t>(options_.block_bytes, piece_bytes - current.sent);
  v1::Block* block = reply->mutable_block();
  block->set_piece(current.piece);
  block->set_offset(static_cast<uint32_t>(current.sent));
  if (options_.spare != nullptr) {
    *block->mutable_data() = options_.spare->Take();
  }
  block->mutable_data()->resize(size);
  uint8_t* const data =
      reinterpret_cast<uint8_t*>(block->mutable_data()->data());
  absl::Status read = file_->Read(
      current.piece, static_cast<uint32_t>(current.sent), size, data);
  if (read.ok() && current.check != nullptr) {
    read = current.check->Check(absl::MakeConstSpan(data, size));
  }
  if (!read.ok()) {
    GiveUp(current.piece, read);
    return false;
  }
  MutexLock lock(&mutex_);
  counts_.bytes += size;
  current_->sent += size;
  if (current_->sent == piece_bytes) {
    if (current_->check != nullptr) file_->TakeDoubt(current_->piece);
    current_.reset();
    ++counts_.pieces;
  }
  return true;
}

Upload::Counts Upload::counts() const {
  MutexLock lock(&mutex_);
  return counts_;
}

}  // namespace koinon::dht
