#include "worker/collective/mpi_communicator.h"

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/collective/mpi_leaders.h"
#include "worker/collective/mpi_messages.h"
#include "worker/collective/mpi_roster.h"
#include "worker/collective/mpi_status.h"
#include "worker/collective/node_window.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {
namespace {

// Elements of a chunk: small enough for all slots to stay in the caches, large
// enough for the waiting in between not to matter.
constexpr size_t kNodeChunk = size_t{64} << 10;
constexpr size_t kLeaderChunk = size_t{128} << 10;
// Without other ranks on any node, a chunk is so much for each of the nodes.
constexpr size_t kLoneSlice = size_t{128} << 10;
constexpr size_t kMostLoneSlices = 8;
// Looks at a flag before sleeping, of a rank that has a processor to look from.
constexpr int kSpins = 5000;
constexpr int kAbortCode = 1;

const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

int SpinsAt(const Communicator::Place& place) {
  return place.cores >= 1 ? kSpins : 0;
}

// The same on every rank, also where nodes have different numbers of them.
size_t ChunkAt(const Communicator::Place& place) {
  if (place.nodes == 1) return kNodeChunk;
  if (place.nodes < place.size) return kLeaderChunk;
  return kLoneSlice *
         std::min(kMostLoneSlices, static_cast<size_t>(place.nodes));
}

NodeWindow::Shape ShapeAt(const Communicator::Place& place, size_t chunk) {
  NodeWindow::Shape shape;
  shape.leaders = place.nodes > 1;
  shape.ranks = place.node_size;
  shape.chunk = chunk > 0 ? chunk : ChunkAt(place);
  shape.depth = NodeWindow::MinDepth(shape.leaders);
  return shape;
}

}  // namespace

class MpiCommunicator::Ranks {
 public:
  explicit Ranks(const Options& options) : options_(options) {}
  ~Ranks();

  absl::Status Open();

  // What a call needs beside its work: whether another rank failed it...
  template <typename Work>
  auto Checked(Work work) {
    auto result = work();
    if (absl::IsUnavailable(StatusOf(result)) && !failed_.exchange(true)) {
      result = messages_->Explained(StatusOf(result));
    }
    return result;
  }
  // ...and its time.
  template <typename Work>
  auto Timed(size_t bytes, Work work) {
    const absl::Time start = options_.clock->Now();
    auto result = Checked(work);
    totals_.time += options_.clock->Now() - start;
    totals_.bytes += static_cast<int64_t>(bytes);
    return result;
  }

  const Options options_;
  std::unique_ptr<MpiRoster> roster_;
  std::atomic<bool> failed_ = false;
  Totals totals_;
  std::unique_ptr<Waiter> waiter_;
  std::unique_ptr<MpiMessages> messages_;
  std::unique_ptr<NodeWindow> node_window_;

 private:
  // Memory that the ranks of this node share, all zeros.
  absl::StatusOr<char*> OpenMemory(const NodeWindow::Shape& shape);
  void OpenWaiter();
  void OpenLeaders(const NodeWindow::Shape& shape);

  MPI_Win memory_ = MPI_WIN_NULL;
  std::unique_ptr<MpiLeaders> exchange_;  // of a leader of several nodes
};

MpiCommunicator::Ranks::~Ranks() {
  node_window_.reset();
  exchange_.reset();
  if (roster_ == nullptr) return;
  if (failed_) {
    roster_->Abandon();
  } else if (memory_ != MPI_WIN_NULL) {
    MPI_Win_free(&memory_);
  }
}

absl::Status MpiCommunicator::Ranks::Open() {
  ABSL_ASSIGN_OR_RETURN(roster_, MpiRoster::Meet(options_.ranks_per_node));
  const NodeWindow::Shape shape = ShapeAt(roster_->place(), options_.chunk);
  ABSL_ASSIGN_OR_RETURN(char* const memory, OpenMemory(shape));
  OpenWaiter();
  messages_ = std::make_unique<MpiMessages>(roster_.get(), waiter_.get());
  OpenLeaders(shape);
  node_window_ =
      std::make_unique<NodeWindow>(shape, roster_->place().node_rank, memory,
                                   waiter_.get(), exchange_.get());
  return absl::OkStatus();
}

absl::StatusOr<char*> MpiCommunicator::Ranks::OpenMemory(
    const NodeWindow::Shape& shape) {
  const size_t size_bytes = NodeWindow::SizeBytes(shape);
  const bool owns = roster_->place().node_rank == 0;
  const MPI_Aint own = owns ? static_cast<MPI_Aint>(size_bytes + 64) : 0;
  char* memory = nullptr;
  const int allocated = MPI_Win_allocate_shared(
      own, 1, MPI_INFO_NULL, roster_->node(), &memory, &memory_);
  if (allocated != MPI_SUCCESS) {
    return absl::FailedPreconditionError(
        absl::StrCat("memory shared by the ranks of this node: ",
                     FromMpi(allocated, "MPI_Win_allocate_shared").message()));
  }
  MPI_Aint size = 0;
  int unit = 0;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Win_shared_query(memory_, 0, &size, &unit, &memory),
              "MPI_Win_shared_query"));
  // The same in every process: pages are.
  memory += (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
  // No more: what a rank alone on its node never touches takes no memory.
  if (owns) std::memset(memory, 0, NodeWindow::FlagBytes(shape));
  ABSL_RETURN_IF_ERROR(FromMpi(MPI_Barrier(roster_->node()), "MPI_Barrier"));
  return memory;
}

void MpiCommunicator::Ranks::OpenWaiter() {
  Waiter::Options waiting;
  waiting.limit = options_.patience;
  waiting.spins = SpinsAt(roster_->place());
  waiting.name = [this](int node_rank) {
    return roster_->NameOfNeighbour(node_rank);
  };
  if (roster_->pids_visible()) {
    waiting.alive = [this](int node_rank) {
      return roster_->IsAlive(node_rank);
    };
  }
  if (roster_->place().nodes > 1 && roster_->place().node_rank == 0) {
    waiting.progress = [this] {
      return exchange_ != nullptr && exchange_->Progress();
    };
  }
  waiter_ = std::make_unique<Waiter>(std::move(waiting));
}

void MpiCommunicator::Ranks::OpenLeaders(const NodeWindow::Shape& shape) {
  if (!shape.leaders || roster_->place().node_rank != 0) return;
  exchange_ = std::make_unique<MpiLeaders>(
      roster_->leaders(), shape.chunk, shape.depth, waiter_.get(),
      [this](int node) { return roster_->NameOfLeader(node); });
}

absl::StatusOr<std::unique_ptr<MpiCommunicator>> MpiCommunicator::Create(
    const Options& options) {
  auto ranks = std::make_unique<Ranks>(options);
  if (absl::Status status = ranks->Open(); !status.ok()) {
    ranks->failed_ = true;
    return status;
  }
  return std::unique_ptr<MpiCommunicator>(
      new MpiCommunicator(std::move(ranks)));
}

MpiCommunicator::MpiCommunicator(std::unique_ptr<Ranks> ranks)
    : ranks_(std::move(ranks)) {}
MpiCommunicator::~MpiCommunicator() = default;

const Communicator::Place& MpiCommunicator::place() const {
  return ranks_->roster_->place();
}

std::string MpiCommunicator::NameOf(int rank) const {
  return ranks_->roster_->NameOf(rank);
}

absl::Status MpiCommunicator::AllReduce(absl::Span<float> values, float scale) {
  return ranks_->Timed(values.size() * sizeof(float), [&] {
    return ranks_->node_window_->Sum(values, scale);
  });
}

absl::Status MpiCommunicator::Broadcast(absl::Span<char> bytes) {
  return ranks_->Timed(bytes.size(),
                       [&] { return ranks_->node_window_->Broadcast(bytes); });
}

absl::StatusOr<std::vector<std::string>> MpiCommunicator::AllGather(
    absl::string_view mine) {
  return ranks_->Timed(0, [&] { return ranks_->messages_->Gather(mine); });
}

absl::Status MpiCommunicator::Announce(absl::string_view message) {
  return ranks_->Checked([&] { return ranks_->messages_->Announce(message); });
}

absl::StatusOr<std::string> MpiCommunicator::AwaitAnnouncement() {
  return ranks_->Checked(
      [&] { return ranks_->messages_->AwaitAnnouncement(); });
}

Communicator::Totals MpiCommunicator::totals() const { return ranks_->totals_; }

bool MpiCommunicator::broken() const { return ranks_->failed_; }

std::vector<int> MpiCommunicator::DeadRanks() const {
  return ranks_->roster_->DeadRanks();
}

void MpiCommunicator::Abort(absl::string_view reason) {
  LogError("the site ends", {{"rank", place().rank}, {"reason", reason}});
  MPI_Abort(ranks_->roster_->world(), kAbortCode);
  std::_Exit(kAbortCode);
}

}  // namespace koinon::worker
