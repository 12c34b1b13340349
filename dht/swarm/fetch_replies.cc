// What comes from the sources, as SwarmFetch's threads take it.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "dht/swarm/fetch_state.h"
#include "dht/swarm/hash_list.h"

namespace koinon::dht {
namespace {

// Of those whom one reply names; of more, the first. Who is no coordinator may
// say what it likes.
constexpr int kMaxOthers = 50;
constexpr int kMaxOthersOfPeers = 16;

absl::Status NotExpected(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, " was not expected"));
}

// Of what a source may owe. All else, such as endless news or what says
// nothing, does not keep it from being taken as silent.
bool MayBeOwed(const v1::FetchReply& reply) {
  return reply.has_opened() || reply.has_piece_start() || reply.has_block() ||
         reply.has_piece_layer();
}

}  // namespace

void SwarmFetch::State::OnReady(const SourcePtr& source) {
  MutexLock lock(&mutex_);
  if (stopping_) {
    news_.Signal();
  } else if (source->queued) {
    source->again = true;
  } else {
    Enqueue(source);
  }
}

void SwarmFetch::State::OnGone() {
  MutexLock lock(&mutex_);
  --open_streams_;
  news_.Signal();
}

void SwarmFetch::State::Enqueue(const SourcePtr& source) {
  source->queued = true;
  source->again = false;
  ready_.push_back(source);
  work_.Signal();
}

void SwarmFetch::State::Work() {
  v1::FetchReply reply;
  std::string spare;
  while (true) {
    SourcePtr source;
    {
      MutexLock lock(&mutex_);
      while (ready_.empty() && !stopping_) work_.Wait(&mutex_);
      if (stopping_) return;
      source = std::move(ready_.front());
      ready_.pop_front();
    }
    const bool more = TakeOne(source, &reply, &spare);
    MutexLock lock(&mutex_);
    source->queued = false;
    // At the end of the queue: nobody keeps the others waiting.
    if (more || source->again) Enqueue(source);
  }
}

bool SwarmFetch::State::TakeOne(const SourcePtr& source, v1::FetchReply* reply,
                                std::string* spare) {
  if (!source->stream->Take(reply, spare)) {
    if (source->stream->over()) {
      const absl::Status status = source->stream->status();
      Drop(source, status.ok() ? absl::UnavailableError("it ended the stream")
                               : status);
      CountWasted(source->download.Abandon());
    }
    return false;
  }
  {
    MutexLock lock(&mutex_);
    if (source->gone) return false;
  }
  const absl::Status status = OnReply(source, *reply);
  if (status.ok()) {
    if (!MayBeOwed(*reply)) return true;
    MutexLock lock(&mutex_);
    source->heard = clock_.Now();
    return true;
  }
  CountWasted(source->download.Abandon());
  if (IsSourcesFault(status) && !source->opened) {
    // Whoever it is: nothing has shown that it is who was meant.
    Drop(source, status);
  } else if (IsSourcesFault(status)) {
    OnLied(source, status);
  } else if (absl::IsUnauthenticated(status) ||
             absl::IsPermissionDenied(status)) {
    Drop(source, status);
  } else {
    Fail(status);
  }
  return false;
}

absl::Status SwarmFetch::State::OnReply(const SourcePtr& source,
                                        const v1::FetchReply& reply) {
  if (!source->opened && !reply.has_opened()) return NotExpected("a reply");
  switch (reply.message_case()) {
    case v1::FetchReply::kOpened:
      return OnOpened(source, reply.opened());
    case v1::FetchReply::kHave:
      return OnHave(source, reply.have());
    case v1::FetchReply::kPieceStart:
      return OnPieceStart(source, reply.piece_start());
    case v1::FetchReply::kBlock:
      return OnBlock(source, reply.block());
    case v1::FetchReply::kRefused:
      OnRefused(source, reply.refused());
      return absl::OkStatus();
    case v1::FetchReply::kPieceLayer:
      return OnPieceLayer(source, reply.piece_layer());
    case v1::FetchReply::kNone:
      return OnNone(source, reply.none());
    case v1::FetchReply::MESSAGE_NOT_SET:
      break;  // of a later version
  }
  return absl::OkStatus();
}

void SwarmFetch::State::AddOthers(
    const Source& source,
    const google::protobuf::RepeatedPtrField<v1::Contact>& others) {
  const bool coordinator = source.candidate.origin;
  const auto namer = coordinator ? FetchCandidates::Namer::kTask
                                 : FetchCandidates::Namer::kPeer;
  const int most = coordinator ? kMaxOthers : kMaxOthersOfPeers;
  for (int i = 0; i < std::min(others.size(), most); ++i) {
    const auto contact = ContactFromProto(others[i]);
    if (contact.ok()) candidates_.Add(*contact, namer);
  }
}

absl::Status SwarmFetch::State::OnOpened(const SourcePtr& source,
                                         const v1::ContentOpened& opened) {
  if (source->opened) return NotExpected("another opening");
  const Contact& contact = source->candidate.contact;
  const auto context = source->stream->auth_context();
  ABSL_RETURN_IF_ERROR(host_->CheckIs(contact, *context));
  ABSL_ASSIGN_OR_RETURN(
      const Bitmap have,
      Bitmap::FromBytes(opened.have(), file_->map().pieces()));
  {
    MutexLock lock(&mutex_);
    if (source->gone) return absl::OkStatus();  // it was dropped meanwhile
    source->opened = true;
    source->opened_at = clock_.Now();
    // Only the one that is known as such may choose what it gives.
    source->origin = opened.origin() &&
                     (source->candidate.origin || !options_.origin.has_value());
    candidates_.OnWorked(source->candidate.number);
    AddOthers(*source, opened.others());
    picker_.AddSource(source->candidate.number, source->origin);
    picker_.OnHave(source->candidate.number, have);
    source->may_have_layer = have.count() > 0;
    has_news_ = true;
    news_.Signal();
  }
  return absl::OkStatus();
}

absl::Status SwarmFetch::State::OnHave(const SourcePtr& source,
                                       const v1::HavePieces& have) {
  MutexLock lock(&mutex_);
  for (const uint32_t piece : have.pieces()) {
    if (piece >= file_->map().pieces()) return NotExpected("a piece beyond");
    picker_.OnHave(source->candidate.number, piece);
  }
  source->may_have_layer = !source->layer_wanted;
  has_news_ = true;
  news_.Signal();
  return absl::OkStatus();
}

absl::Status SwarmFetch::State::OnPieceLayer(const SourcePtr& source,
                                             const v1::PieceLayer& layer) {
  {
    MutexLock lock(&mutex_);
    if (!source->layer_wanted) return NotExpected("a piece layer");
    source->layer_wanted = false;
    // One that has not got it itself will have it later.
    if (has_layer_ || layer.hashes().empty()) return absl::OkStatus();
  }
  ABSL_ASSIGN_OR_RETURN(std::vector<Digest> hashes,
                        DecodeHashes(layer.hashes()));
  ABSL_RETURN_IF_ERROR(file_->SetPieceLayer(std::move(hashes)));
  MutexLock lock(&mutex_);
  has_layer_ = true;
  has_news_ = true;
  news_.Signal();
  return absl::OkStatus();
}

absl::Status SwarmFetch::State::OnPieceStart(const SourcePtr& source,
                                             const v1::PieceStart& start) {
  {
    MutexLock lock(&mutex_);
    if (source->asked.erase(start.piece()) == 0) {
      if (source->any_may_come == 0) return NotExpected("a piece");
      --source->any_may_come;
      if (source->any_owed > 0) --source->any_owed;
    }
    source->asked.insert(start.piece());  // it is still owed
    picker_.OnStarted(source->candidate.number, start.piece(), clock_.Now());
  }
  return source->download.OnStart(start);
}

// Whether a block of the piece brings the fetch nearer to its end. Somebody may
// send what is here already, or begin pieces again and again and end none: once
// as much is wasted as there is, only whole pieces count.
bool SwarmFetch::State::Moves(uint32_t piece) const {
  return piece < picker_.have().size() && !picker_.have().Has(piece) &&
         traffic_.wasted() <= file_->map().size_bytes;
}

absl::Status SwarmFetch::State::OnBlock(const SourcePtr& source,
                                        const v1::Block& block) {
  const int64_t size = static_cast<int64_t>(block.data().size());
  v1::SwarmTraffic moved;
  bool moves = false;
  {
    MutexLock lock(&mutex_);
    moves = Moves(block.piece());
    if (source->origin) {
      moved.set_from_origin(size);
      traffic_.set_from_origin(traffic_.from_origin() + size);
    } else {
      moved.set_from_peers(size);
      traffic_.set_from_peers(traffic_.from_peers() + size);
    }
    if (moves) last_progress_ = clock_.Now();
    if (moves) ++writing_;
  }
  host_->board()->CountFetched(moved);
  auto done = source->download.OnBlock(block);
  if (moves) {
    MutexLock lock(&mutex_);
    --writing_;
  }
  if (!done.ok()) {
    CountWasted(size);
    return done.status();
  }
  if (done->has_value()) OnPieceDone(source, **done);
  return absl::OkStatus();
}

void SwarmFetch::State::OnPieceDone(const SourcePtr& source,
                                    const PieceDownload::Done& done) {
  int64_t have = 0;
  {
    MutexLock lock(&mutex_);
    source->asked.erase(done.piece);
    picker_.OnPiece(source->candidate.number, done.piece, clock_.Now());
    if (done.is_new) {
      last_progress_ = clock_.Now();
      candidates_.OnGave(source->candidate.number);
      have_bytes_ += done.bytes;
      to_tell_.push_back(done.piece);
    }
    have = have_bytes_;
    has_news_ = true;
    news_.Signal();
  }
  if (!done.is_new) return CountWasted(done.bytes);
  host_->board()->OnPiece(root_, done.piece);
  if (options_.on_progress) {
    options_.on_progress(have, file_->map().size_bytes);
  }
}

void SwarmFetch::State::OnRefused(const SourcePtr& source,
                                  const v1::PieceRefused& refused) {
  if (source->download.piece() == refused.piece()) {
    CountWasted(source->download.Abandon());
  }
  MutexLock lock(&mutex_);
  if (source->asked.erase(refused.piece()) > 0) source->heard = clock_.Now();
  picker_.OnRefused(source->candidate.number, refused.piece(), clock_.Now());
  has_news_ = true;
  news_.Signal();
}

absl::Status SwarmFetch::State::OnNone(const SourcePtr& source,
                                       const v1::NoneForYou& none) {
  MutexLock lock(&mutex_);
  if (source->any_may_come == 0) return NotExpected("that it gives none");
  --source->any_may_come;
  if (source->any_owed > 0) source->heard = clock_.Now();
  source->any_owed = 0;
  AddOthers(*source, none.others());
  picker_.OnNoneForYou(source->candidate.number, clock_.Now());
  has_news_ = true;
  news_.Signal();
  return absl::OkStatus();
}

}  // namespace koinon::dht
