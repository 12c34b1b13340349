#include "dht/swarm/serve.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "dht/swarm/origin_book.h"
#include "dht/swarm/upload.h"

namespace koinon::dht {
namespace {

using Reactor = grpc::ServerBidiReactor<v1::FetchRequest, v1::FetchReply>;

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

absl::StatusOr<Bitmap> HaveOf(const v1::OpenContent& open, uint32_t pieces) {
  if (open.have().empty()) return Bitmap(pieces);
  auto have = Bitmap::FromBytes(open.have(), pieces);
  if (have.ok()) return have;
  return absl::InvalidArgumentError(
      absl::StrCat("open.have: ", have.status().message()));
}

}  // namespace

struct Seeder::State {
  State(ContentBoard* board, Options options)
      : board(board),
        options(options),
        book(options.copies),
        slots(options.slots) {}

  void Pulse();
  std::vector<std::shared_ptr<Stream>> AllStreams();
  absl::Status CheckRoomFor(const Contact& caller)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status Enter(uint64_t id, std::shared_ptr<Stream> stream);
  void Leave(uint64_t id, const Upload* upload);
  // Some stream has pieces to tell of.
  void WantPulse();
  // Changes who has or wants a slot, and tells the streams that get one, but
  // for `asking`: whether that one does.
  template <typename Change>
  bool ChangeSlots(Change change, uint64_t asking = 0);

  ContentBoard* const board;
  const Options options;
  OriginBook book;

  Mutex mutex;
  CondVar wake;
  std::map<uint64_t, std::shared_ptr<Stream>> streams ABSL_GUARDED_BY(mutex);
  bool pulse_wanted ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  Counts past ABSL_GUARDED_BY(mutex);  // of streams that are over
  uint64_t next_id ABSL_GUARDED_BY(mutex) = 1;
  std::thread pulse;

  Mutex slots_mutex;
  SendSlots slots ABSL_GUARDED_BY(slots_mutex);
};

// Steps: 1. read Open, find the content, answer Opened; 2. read requests into
// the Upload, and write what it has to say, one message at a time; 3. when
// reading ends, or Close is called, Finish. Its second owners hold it no longer
// than OnDone allows: it gives itself up there.
class Seeder::Stream final : public Reactor,
                             public std::enable_shared_from_this<Stream> {
 public:
  Stream(std::shared_ptr<State> state, uint64_t id, Contact caller)
      : state_(std::move(state)), id_(id), caller_(std::move(caller)) {}

  // `refused`: OK, or why there is nothing for the caller.
  void Begin(const absl::Status& refused) {
    self_ = shared_from_this();
    if (!refused.ok()) return Close(refused);
    MutexLock lock(&mutex_);
    if (!finished_) StartRead(&incoming_);
  }

  const Contact& caller() const { return caller_; }

  void OnReadDone(bool ok) override {
    if (!ok) return Close(absl::OkStatus());
    moved_ = true;
    const absl::Status status =
        upload_ == nullptr ? Open() : upload_->OnRequest(incoming_);
    if (!status.ok()) return Close(status);
    Write();
    MutexLock lock(&mutex_);
    if (!finished_) StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    moved_ = true;
    {
      MutexLock lock(&mutex_);
      writing_ = false;
      if (!ok && !close_.has_value()) close_ = absl::CancelledError("broken");
    }
    Write();
  }

  void OnCancel() override { Close(absl::CancelledError("cancelled")); }

  void OnDone() override {
    if (listener_ != 0) state_->board->Unlisten(listener_);
    state_->Leave(id_, upload_.get());
    state_->ChangeSlots([this](SendSlots* slots) { slots->Release(id_); });
    const std::shared_ptr<Stream> last = std::move(self_);
  }

  void Close(const absl::Status& status) {
    {
      MutexLock lock(&mutex_);
      if (!close_.has_value()) close_ = status;
    }
    Write();
  }

  // It may begin a piece now.
  void OnSlot() {
    has_slot_ = true;
    Write();
  }

  void OnPiece(uint32_t piece) {
    if (upload_->OnPiece(piece)) state_->WantPulse();
  }

  // `passed`: since the last one.
  void OnPulse(absl::Duration passed) {
    if (!opened_) return CountIdle(passed, state_->options.idle / 10);
    upload_->FlushHaves();
    Write();
    CountIdle(passed, state_->options.idle);
  }

  Upload::Counts counts() const {
    return opened_ ? upload_->counts() : Upload::Counts();
  }

 private:
  absl::Status Open() {
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
    const bool serves = !open.caller().address().empty();
    const bool origin = state_->options.is_origin && file->complete();
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

  // Zero if it does not say.
  Key WhoCalls() const {
    if (!caller_.id.IsZero()) return caller_.id;
    // In plaintext it is whom it claims to be.
    const auto claimed = ContactFromProto(incoming_.open().caller());
    return claimed.ok() ? claimed->id : Key();
  }

  Upload::Options UploadOptions(const Digest& root) const {
    return Upload::Options{
        .max_wants = state_->options.max_wants,
        .block_bytes = state_->options.block_bytes,
        .others =
            [state = state_, root, self = WhoCalls()] {
              std::vector<Contact> others = state->board->OthersOf(root);
              std::erase_if(others,
                            [&](const Contact& c) { return c.id == self; });
              return others;
            },
    };
  }

  void Listen(const Digest& root) {
    listener_ = state_->board->Listen(
        root, [stream = weak_from_this()](uint32_t piece) {
          if (const auto alive = stream.lock()) alive->OnPiece(piece);
        });
    if (upload_->CatchUp()) state_->WantPulse();
  }

  void CountIdle(absl::Duration passed, absl::Duration bound) {
    idle_ = moved_.exchange(false) ? absl::ZeroDuration() : idle_ + passed;
    if (idle_ < bound) return;
    Close(absl::UnavailableError(
        absl::StrCat("nothing has moved for ", absl::FormatDuration(idle_))));
  }

  // Writes what there is to write, or finishes. The reply is filled in under no
  // lock, for that reads the file; `again_` says that there may be more since.
  void Write() {
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
      if (filled) {
        CountBlock();
        // A piece's beginning goes out with what follows it: its first block,
        // or that it cannot be read.
        StartWrite(&outgoing_, outgoing_.has_piece_start()
                                   ? grpc::WriteOptions().set_buffer_hint()
                                   : grpc::WriteOptions());
        return;
      }
      writing_ = false;
      if (!again_) return;
    }
  }

  // As the upload's; of whoever set writing_.
  bool NextReply() {
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

  void GiveSlotBack() {
    begun_ = false;
    if (!has_slot_.exchange(false)) return;
    state_->ChangeSlots([this](SendSlots* slots) { slots->Release(id_); });
  }

  // False: it is told when it has one.
  bool AskForSlot() {
    const double has = upload_->caller_has();
    const bool given = state_->ChangeSlots(
        [&](SendSlots* slots) { slots->Ask(id_, has); }, id_);
    if (given) has_slot_ = true;
    return given;
  }

  void CountBlock() {
    if (outgoing_.has_block()) {
      state_->board->CountServed(
          static_cast<int64_t>(outgoing_.block().data().size()));
    }
  }

  const std::shared_ptr<State> state_;  // second owner: the seeder
  const uint64_t id_;
  const Contact caller_;
  std::shared_ptr<Stream> self_;  // from Begin to OnDone

  // Reads come one at a time; others look only once opened_ is true.
  v1::FetchRequest incoming_;
  std::unique_ptr<Upload> upload_;
  std::atomic<bool> opened_{false};
  uint64_t listener_ = 0;

  std::atomic<bool> has_slot_{false};
  std::atomic<bool> moved_{false};
  absl::Duration idle_;  // the pulse's

  // Of whoever set writing_.
  v1::FetchReply outgoing_;
  bool begun_ = false;  // a piece, with the slot

  Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool again_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> close_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Seeder::State::CheckRoomFor(const Contact& caller) {
  if (streams.size() >= options.max_streams) {
    return absl::ResourceExhaustedError(
        absl::StrCat("max_streams: ", streams.size(), " fetch here already"));
  }
  if (caller.id.IsZero()) return absl::OkStatus();  // it says not who it is
  const size_t own =
      std::count_if(streams.begin(), streams.end(), [&](const auto& stream) {
        return stream.second->caller().id == caller.id;
      });
  if (own < options.max_streams_per_caller) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("max_streams_per_caller: node ", caller.id.ToShortHex(),
                   " has ", own, " streams here already"));
}

absl::Status Seeder::State::Enter(uint64_t id, std::shared_ptr<Stream> stream) {
  MutexLock lock(&mutex);
  if (stopping) return absl::UnavailableError("this node is stopping");
  if (const absl::Status room = CheckRoomFor(stream->caller()); !room.ok()) {
    ++past.refused;
    return room;
  }
  streams[id] = std::move(stream);
  wake.Signal();
  return absl::OkStatus();
}

void Seeder::State::Leave(uint64_t id, const Upload* upload) {
  const Upload::Counts counts =
      upload == nullptr ? Upload::Counts() : upload->counts();
  std::shared_ptr<Stream> left;  // not to die under the lock
  MutexLock lock(&mutex);
  const auto it = streams.find(id);
  if (it == streams.end()) return;
  left = std::move(it->second);
  streams.erase(it);
  past.pieces += counts.pieces;
  past.last_resort += counts.last_resort;
  past.refused += counts.refused;
}

template <typename Change>
bool Seeder::State::ChangeSlots(Change change, uint64_t asking) {
  std::vector<uint64_t> given;
  {
    MutexLock lock(&slots_mutex);
    change(&slots);
    while (const auto next = slots.Next()) given.push_back(*next);
  }
  bool is_given = false;
  for (const uint64_t id : given) {
    std::shared_ptr<Stream> stream;
    if (id == asking) {
      is_given = true;
      continue;
    }
    {
      MutexLock lock(&mutex);
      // One that is leaving gives its slot back in a moment.
      if (const auto it = streams.find(id); it != streams.end()) {
        stream = it->second;
      }
    }
    if (stream != nullptr) stream->OnSlot();
  }
  return is_given;
}

void Seeder::State::WantPulse() {
  MutexLock lock(&mutex);
  pulse_wanted = true;
  wake.Signal();
}

// Tells streams of new pieces, not too often, and ends those that are idle.
void Seeder::State::Pulse() {
  MutexLock lock(&mutex);
  while (!stopping) {
    if (streams.empty()) {
      wake.Wait(&mutex);
      continue;
    }
    // Shorter than it was, never longer: a stream may live too long for idling.
    absl::Duration passed;
    if (!pulse_wanted) {
      const absl::Duration sweep =
          std::min(absl::Seconds(1), options.idle / 20);
      if (wake.WaitWithTimeout(&mutex, sweep)) passed = sweep;
    }
    if (pulse_wanted && !stopping) {
      if (wake.WaitWithTimeout(&mutex, options.have_every)) {
        passed += options.have_every;
      }
    }
    pulse_wanted = false;
    mutex.Unlock();
    ChangeSlots([&](SendSlots* slots) { slots->Pass(passed); });
    for (const auto& stream : AllStreams()) stream->OnPulse(passed);
    mutex.Lock();
  }
}

std::vector<std::shared_ptr<Seeder::Stream>> Seeder::State::AllStreams() {
  MutexLock lock(&mutex);
  std::vector<std::shared_ptr<Stream>> all;
  for (const auto& [id, stream] : streams) all.push_back(stream);
  return all;
}

Seeder::Seeder(ContentBoard* board, Options options)
    : state_(std::make_shared<State>(board, options)) {
  state_->pulse = std::thread([state = state_.get()] { state->Pulse(); });
  board->ListenToGone([state = std::weak_ptr<State>(state_)](const Key& node) {
    if (const auto alive = state.lock()) alive->book.OnGone(node);
  });
}

Seeder::~Seeder() {
  Stop();
  state_->pulse.join();
}

Reactor* Seeder::Serve(const absl::Status& allowed, Contact caller) {
  uint64_t id = 0;
  {
    MutexLock lock(&state_->mutex);
    id = state_->next_id++;
    if (!allowed.ok()) ++state_->past.refused;
  }
  const auto stream = std::make_shared<Stream>(state_, id, std::move(caller));
  stream->Begin(allowed.ok() ? state_->Enter(id, stream) : allowed);
  return stream.get();
}

void Seeder::Stop() {
  {
    MutexLock lock(&state_->mutex);
    state_->stopping = true;
    state_->wake.SignalAll();
  }
  for (const auto& stream : state_->AllStreams()) {
    stream->Close(absl::UnavailableError("this node is stopping"));
  }
}

Seeder::Counts Seeder::counts() const {
  Counts counts;
  {
    MutexLock lock(&state_->mutex);
    counts = state_->past;
    counts.streams = static_cast<int64_t>(state_->streams.size());
  }
  for (const auto& stream : state_->AllStreams()) {
    const Upload::Counts open = stream->counts();
    counts.pieces += open.pieces;
    counts.last_resort += open.last_resort;
    counts.refused += open.refused;
  }
  return counts;
}

}  // namespace koinon::dht
