#ifndef KOINON_DHT_SWARM_FETCH_STATE_H_
#define KOINON_DHT_SWARM_FETCH_STATE_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "dht/swarm/fetch_candidates.h"
#include "dht/swarm/fetch_stream.h"
#include "dht/swarm/fetcher.h"
#include "dht/swarm/piece_download.h"
#include "dht/swarm/piece_picker.h"

namespace koinon::dht {

// The inner part of SwarmFetch: one driver (Run's thread) that connects, asks
// and gives up, and a few threads that verify and write what comes, each the
// replies of one source at a time. Streams call OnReady from gRPC's threads.
//
// The lock is held for bookkeeping only: bytes are hashed and written, and
// requests sent, under none.
class SwarmFetch::State final
    : public std::enable_shared_from_this<SwarmFetch::State> {
 public:
  State(SwarmHost* host, Options options);

  absl::Status Run();
  void Cancel();
  v1::SwarmTraffic traffic() const;
  std::vector<std::string> liars() const;

 private:
  // Somebody that pieces are fetched from. What is not guarded belongs to the
  // thread that has it from `ready_`.
  struct Source {
    Source(FetchCandidates::Candidate candidate, ContentFile* file)
        : candidate(std::move(candidate)), download(file) {}

    const FetchCandidates::Candidate candidate;
    std::shared_ptr<FetchStream> stream;  // set before anybody else looks
    PieceDownload download;

    // Guarded by mutex_.
    bool queued = true;  // in ready_, or with a thread; until it has a stream
    bool again = false;  // something came meanwhile
    bool gone = false;
    bool opened = false;
    bool origin = false;
    bool may_have_layer = false;  // and has not been asked since
    bool layer_wanted = false;
    std::set<uint32_t> asked;
    uint32_t any_owed = 0;
    // Of any that was asked for, at most so many answers: that it gives none
    // ends what had reached it by then, and what was on its way is answered.
    uint64_t any_may_come = 0;
    absl::Time heard;
    absl::Time opened_at;

    bool owes() const {
      return !opened || layer_wanted || any_owed > 0 || !asked.empty();
    }
  };
  using SourcePtr = std::shared_ptr<Source>;  // driver, threads and streams
  using Requests =
      std::vector<std::pair<std::shared_ptr<FetchStream>, v1::FetchRequest>>;

  // --- The driver: fetch_state.cc ---
  absl::Status Drive();
  void Begin();
  std::optional<absl::Status> Outcome(absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AskAll();
  void AskForLayer(const SourcePtr& source, absl::Time now, Requests* requests)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Ask(const SourcePtr& source, absl::Time now, Requests* requests)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void TellOrigin(absl::Time now, bool at_once, Requests* requests)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WaitForNews();
  void End(bool in_peace);
  // Until all streams are gone; false after `patience`.
  bool AwaitStreams(absl::Duration patience);

  // --- Whom it fetches from: fetch_sources.cc; the driver's ---
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool MayGiveWay(const Source& source, absl::Time now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropIdle();
  void ConnectMore();
  void Connect(const FetchCandidates::Candidate& candidate);
  void DropSilent();
  void Discover();

  // --- What comes: fetch_replies.cc ---
  void OnReady(const SourcePtr& source);
  void OnGone();
  void Enqueue(const SourcePtr& source) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Work();
  // Into `reply`, with `spare` as FetchStream::Take: the thread's.
  bool TakeOne(const SourcePtr& source, v1::FetchReply* reply,
               std::string* spare);
  absl::Status OnReply(const SourcePtr& source, const v1::FetchReply& reply);
  absl::Status OnOpened(const SourcePtr& source,
                        const v1::ContentOpened& opened);
  absl::Status OnHave(const SourcePtr& source, const v1::HavePieces& have);
  absl::Status OnPieceStart(const SourcePtr& source,
                            const v1::PieceStart& start);
  bool Moves(uint32_t piece) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OnBlock(const SourcePtr& source, const v1::Block& block);
  void OnPieceDone(const SourcePtr& source, const PieceDownload::Done& done);
  absl::Status OnPieceLayer(const SourcePtr& source,
                            const v1::PieceLayer& layer);
  void OnRefused(const SourcePtr& source, const v1::PieceRefused& refused);
  absl::Status OnNone(const SourcePtr& source, const v1::NoneForYou& none);
  void AddOthers(const Source& source,
                 const google::protobuf::RepeatedPtrField<v1::Contact>& others)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- Both; a source that is given up: fetch_sources.cc ---
  // False if it had gone already.
  bool Forget(const SourcePtr& source) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(const SourcePtr& source, const absl::Status& why);
  void OnLied(const SourcePtr& source, const absl::Status& why);
  void Fail(const absl::Status& status);
  void CountWasted(int64_t bytes);

  SwarmHost* const host_;
  const Options options_;
  const std::shared_ptr<ContentFile> file_;  // second owner: the board
  const Digest root_;
  const Clock& clock_;

  mutable Mutex mutex_;
  CondVar news_;  // for the driver
  CondVar work_;  // for the threads
  PiecePicker picker_ ABSL_GUARDED_BY(mutex_);
  FetchCandidates candidates_ ABSL_GUARDED_BY(mutex_);
  std::map<FetchCandidates::Number, SourcePtr> sources_ ABSL_GUARDED_BY(mutex_);
  std::deque<SourcePtr> ready_ ABSL_GUARDED_BY(mutex_);
  size_t open_streams_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t writing_ ABSL_GUARDED_BY(mutex_) = 0;  // threads, to the file
  bool has_news_ ABSL_GUARDED_BY(mutex_) = false;
  bool has_layer_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<uint32_t> to_tell_ ABSL_GUARDED_BY(mutex_);
  absl::Time told_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool discovering_ ABSL_GUARDED_BY(mutex_) = false;
  bool discovered_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_discovery_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_progress_ ABSL_GUARDED_BY(mutex_);
  int64_t have_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  v1::SwarmTraffic traffic_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> liars_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace koinon::dht

#endif  // KOINON_DHT_SWARM_FETCH_STATE_H_
