#include "worker/collective/mpi_communicator.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "worker/collective/mpi_leaders.h"
#include "worker/collective/mpi_status.h"
#include "worker/collective/node_window.h"
#include "worker/collective/waiter.h"

namespace koinon::worker {
namespace {

constexpr int kGatherTag = 1;
constexpr int kGatheredTag = 2;
constexpr int kAnnounceTag = 3;
constexpr int kExplainTag = 4;
constexpr size_t kMaxExplanationBytes = 512;
constexpr int kLooks = 1000;
// Elements of a chunk: small enough for all slots to stay in the caches, large
// enough for the waiting in between not to matter.
constexpr size_t kNodeChunk = size_t{64} << 10;
constexpr size_t kLeaderChunk = size_t{128} << 10;
// A rank that only hears of others through rank 0 lets it speak first.
constexpr absl::Duration kGrace = absl::Seconds(3);
// Between looks at whether there is an announcement: what an idle rank costs.
constexpr absl::Duration kIdlePause = absl::Milliseconds(2);
constexpr int kSpins = 200;
constexpr int kAbortCode = 1;

struct Neighbour {
  int rank = 0;  // in the site
  pid_t pid = 0;
  char host[MPI_MAX_PROCESSOR_NAME] = {};
};

bool IsAlive(const Neighbour& neighbour) {
  return kill(neighbour.pid, 0) == 0 || errno != ESRCH;
}

const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

int CoresOfThisProcess() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
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
      result = Explained(StatusOf(result));
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

  // What rank 0 has heard of the reason, which another may see from nearer by;
  // another tells it.
  absl::Status Explained(const absl::Status& seen);

  absl::StatusOr<std::vector<std::string>> Gather(absl::string_view mine);
  absl::Status Announce(absl::string_view message);
  absl::StatusOr<std::string> AwaitAnnouncement();
  std::string NameOf(int rank) const {
    return absl::StrCat("rank ", rank, " (host ",
                        everybody_[static_cast<size_t>(rank)].host, ")");
  }

  const Options options_;
  Place place_;
  std::vector<Neighbour> everybody_;   // by rank
  std::vector<Neighbour> neighbours_;  // of this node, by node rank
  std::vector<int> leader_of_node_;    // ranks
  bool pids_visible_ = true;
  std::atomic<bool> failed_ = false;
  std::string explanation_;  // on its way to rank 0
  Totals totals_;
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Comm leaders_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
  std::unique_ptr<Waiter> waiter_;
  std::unique_ptr<MpiLeaders> exchange_;
  std::unique_ptr<NodeWindow> node_window_;

 private:
  absl::Status OpenCommunicators();
  absl::Status MeetNeighbours();
  absl::Status OpenWindow();
  absl::Status AwaitRequest(MPI_Request* request, int whom,
                            absl::Duration grace, MPI_Status* status);
  absl::StatusOr<std::vector<std::string>> GatherAtFirst(
      absl::string_view mine);
  absl::StatusOr<std::vector<std::string>> GatherFromFirst(
      absl::string_view mine);
};

MpiCommunicator::Ranks::~Ranks() {
  node_window_.reset();
  exchange_.reset();
  if (failed_) return;
  if (window_ != MPI_WIN_NULL) MPI_Win_free(&window_);
  for (MPI_Comm* comm : {&leaders_, &node_, &world_}) {
    if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
  }
}

absl::Status MpiCommunicator::Ranks::Open() {
  ABSL_RETURN_IF_ERROR(OpenCommunicators());
  ABSL_RETURN_IF_ERROR(MeetNeighbours());
  return OpenWindow();
}

absl::Status MpiCommunicator::Ranks::OpenCommunicators() {
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(world_, &place_.rank);
  MPI_Comm_size(world_, &place_.size);
  ABSL_RETURN_IF_ERROR(FromMpi(
      options_.ranks_per_node > 0
          ? MPI_Comm_split(world_, place_.rank / options_.ranks_per_node,
                           place_.rank, &node_)
          : MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, place_.rank,
                                MPI_INFO_NULL, &node_),
      "MPI_Comm_split_type"));
  MPI_Comm_rank(node_, &place_.node_rank);
  MPI_Comm_size(node_, &place_.node_size);
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_split(world_, place_.node_rank == 0 ? 0 : MPI_UNDEFINED,
                             place_.rank, &leaders_),
              "MPI_Comm_split"));
  int node_and_nodes[2] = {0, 1};
  if (leaders_ != MPI_COMM_NULL) {
    MPI_Comm_rank(leaders_, &node_and_nodes[0]);
    MPI_Comm_size(leaders_, &node_and_nodes[1]);
  }
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Bcast(node_and_nodes, 2, MPI_INT, 0, node_), "MPI_Bcast"));
  place_.node = node_and_nodes[0];
  place_.nodes = node_and_nodes[1];
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Ranks::MeetNeighbours() {
  Neighbour self;
  self.rank = place_.rank;
  self.pid = getpid();
  int length = 0;
  MPI_Get_processor_name(self.host, &length);
  everybody_.resize(static_cast<size_t>(place_.size));
  neighbours_.resize(static_cast<size_t>(place_.node_size));
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Allgather(&self, sizeof(self), MPI_BYTE, everybody_.data(),
                            sizeof(self), MPI_BYTE, world_),
              "MPI_Allgather"));
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Allgather(&self, sizeof(self), MPI_BYTE, neighbours_.data(),
                            sizeof(self), MPI_BYTE, node_),
              "MPI_Allgather"));
  std::vector<int> nodes(static_cast<size_t>(place_.size));
  ABSL_RETURN_IF_ERROR(FromMpi(
      MPI_Allgather(&place_.node, 1, MPI_INT, nodes.data(), 1, MPI_INT, world_),
      "MPI_Allgather"));
  leader_of_node_.assign(static_cast<size_t>(place_.nodes), -1);
  for (int rank = place_.size - 1; rank >= 0; --rank) {
    leader_of_node_[static_cast<size_t>(nodes[static_cast<size_t>(rank)])] =
        rank;
  }
  // Ranks in containers of their own do not see each other's processes.
  for (const Neighbour& neighbour : neighbours_) {
    pids_visible_ = pids_visible_ && IsAlive(neighbour);
  }
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Ranks::OpenWindow() {
  const bool several = place_.nodes > 1;
  NodeWindow::Shape shape;
  shape.ranks = place_.node_size;
  shape.chunk = options_.chunk > 0 ? options_.chunk
                                   : (several ? kLeaderChunk : kNodeChunk);
  shape.depth = NodeWindow::MinDepth(several);
  shape.leaders = several;
  const MPI_Aint own =
      place_.node_rank == 0
          ? static_cast<MPI_Aint>(NodeWindow::SizeBytes(shape) + 64)
          : 0;
  char* memory = nullptr;
  const int allocated =
      MPI_Win_allocate_shared(own, 1, MPI_INFO_NULL, node_, &memory, &window_);
  if (allocated != MPI_SUCCESS) {
    return absl::FailedPreconditionError(
        absl::StrCat("memory shared by the ranks of this node: ",
                     FromMpi(allocated, "MPI_Win_allocate_shared").message()));
  }
  MPI_Aint size = 0;
  int unit = 0;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Win_shared_query(window_, 0, &size, &unit, &memory),
              "MPI_Win_shared_query"));
  // The same in every process: pages are.
  memory += (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64;
  if (place_.node_rank == 0) {
    std::memset(memory, 0, NodeWindow::SizeBytes(shape));
  }
  ABSL_RETURN_IF_ERROR(FromMpi(MPI_Barrier(node_), "MPI_Barrier"));

  Waiter::Options waiting;
  waiting.limit = options_.patience;
  waiting.spins = CoresOfThisProcess() >= 2 * place_.node_size ? kSpins : 0;
  waiting.name = [this](int node_rank) {
    return NameOf(neighbours_[static_cast<size_t>(node_rank)].rank);
  };
  if (pids_visible_) {
    waiting.alive = [this](int node_rank) {
      return IsAlive(neighbours_[static_cast<size_t>(node_rank)]);
    };
  }
  const bool leads = several && leaders_ != MPI_COMM_NULL;
  if (leads) {
    waiting.progress = [this] {
      return exchange_ != nullptr && exchange_->Progress();
    };
  }
  waiter_ = std::make_unique<Waiter>(std::move(waiting));
  if (leads) {
    exchange_ = std::make_unique<MpiLeaders>(
        leaders_, shape.chunk, shape.depth, waiter_.get(), [this](int node) {
          return NameOf(leader_of_node_[static_cast<size_t>(node)]);
        });
  }
  node_window_ = std::make_unique<NodeWindow>(shape, place_.node_rank, memory,
                                              waiter_.get(), exchange_.get());
  return absl::OkStatus();
}

absl::Status MpiCommunicator::Ranks::AwaitRequest(MPI_Request* request,
                                                  int whom,
                                                  absl::Duration grace,
                                                  MPI_Status* status) {
  const auto done = [&]() -> absl::StatusOr<bool> {
    int flag = 0;
    ABSL_RETURN_IF_ERROR(FromMpi(MPI_Test(request, &flag, status), "MPI_Test"));
    return flag != 0;
  };
  return waiter_->AwaitPoll(
      done, [&] { return NameOf(whom); }, grace);
}

absl::StatusOr<std::vector<std::string>> MpiCommunicator::Ranks::GatherAtFirst(
    absl::string_view mine) {
  const auto size = static_cast<size_t>(place_.size);
  std::vector<std::string> all(size);
  std::vector<MPI_Request> requests(size, MPI_REQUEST_NULL);
  all[0] = std::string(mine);
  for (size_t rank = 1; rank < size; ++rank) {
    all[rank].resize(kMaxGatheredBytes);
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Irecv(all[rank].data(), kMaxGatheredBytes, MPI_BYTE,
                  static_cast<int>(rank), kGatherTag, world_, &requests[rank]),
        "MPI_Irecv"));
  }
  std::string joined;
  for (size_t rank = 0; rank < size; ++rank) {
    int received = static_cast<int>(mine.size());
    if (rank > 0) {
      MPI_Status status;
      ABSL_RETURN_IF_ERROR(AwaitRequest(&requests[rank], static_cast<int>(rank),
                                        absl::ZeroDuration(), &status));
      MPI_Get_count(&status, MPI_BYTE, &received);
      all[rank].resize(static_cast<size_t>(received));
    }
    joined.append(reinterpret_cast<const char*>(&received), sizeof(received));
    joined.append(all[rank]);
  }
  for (size_t rank = 1; rank < size; ++rank) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Isend(joined.data(), static_cast<int>(joined.size()),
                          MPI_BYTE, static_cast<int>(rank), kGatheredTag,
                          world_, &requests[rank]),
                "MPI_Isend"));
  }
  for (size_t rank = 1; rank < size; ++rank) {
    ABSL_RETURN_IF_ERROR(AwaitRequest(&requests[rank], static_cast<int>(rank),
                                      absl::ZeroDuration(), MPI_STATUS_IGNORE));
  }
  return all;
}

absl::StatusOr<std::vector<std::string>>
MpiCommunicator::Ranks::GatherFromFirst(absl::string_view mine) {
  MPI_Request send = MPI_REQUEST_NULL, receive = MPI_REQUEST_NULL;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Isend(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, 0,
                        kGatherTag, world_, &send),
              "MPI_Isend"));
  const size_t size = static_cast<size_t>(place_.size);
  std::string joined(size * (kMaxGatheredBytes + sizeof(int)), '\0');
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Irecv(joined.data(), static_cast<int>(joined.size()),
                        MPI_BYTE, 0, kGatheredTag, world_, &receive),
              "MPI_Irecv"));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&send, 0, kGrace, MPI_STATUS_IGNORE));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&receive, 0, kGrace, MPI_STATUS_IGNORE));
  std::vector<std::string> all;
  const char* next = joined.data();
  for (size_t rank = 0; rank < size; ++rank) {
    int length = 0;
    std::memcpy(&length, next, sizeof(length));
    next += sizeof(length);
    all.emplace_back(next, static_cast<size_t>(length));
    next += length;
  }
  return all;
}

absl::StatusOr<std::vector<std::string>> MpiCommunicator::Ranks::Gather(
    absl::string_view mine) {
  if (mine.size() > kMaxGatheredBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("gathered: expected at most ", kMaxGatheredBytes,
                     " bytes, found ", mine.size()));
  }
  return place_.rank == 0 ? GatherAtFirst(mine) : GatherFromFirst(mine);
}

absl::Status MpiCommunicator::Ranks::Explained(const absl::Status& seen) {
  if (place_.rank != 0) {
    // Short enough to be on its way at once, whatever rank 0 does.
    explanation_ = std::string(seen.message().substr(0, kMaxExplanationBytes));
    MPI_Request request = MPI_REQUEST_NULL;
    int sent = 0;
    if (MPI_Isend(explanation_.data(), static_cast<int>(explanation_.size()),
                  MPI_BYTE, 0, kExplainTag, world_, &request) == MPI_SUCCESS) {
      MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
    }
    return seen;
  }
  MPI_Status status;
  int there = 0;
  // Each look lets messages move a little.
  for (int look = 0; look < kLooks && there == 0; ++look) {
    if (MPI_Iprobe(MPI_ANY_SOURCE, kExplainTag, world_, &there, &status) !=
        MPI_SUCCESS) {
      return seen;
    }
  }
  if (there == 0) return seen;
  std::string heard(kMaxExplanationBytes, '\0');
  int size = 0;
  if (MPI_Recv(heard.data(), static_cast<int>(heard.size()), MPI_BYTE,
               status.MPI_SOURCE, kExplainTag, world_,
               &status) != MPI_SUCCESS) {
    return seen;
  }
  MPI_Get_count(&status, MPI_BYTE, &size);
  heard.resize(static_cast<size_t>(size));
  return absl::UnavailableError(heard);
}

absl::Status MpiCommunicator::Ranks::Announce(absl::string_view message) {
  if (message.size() > kMaxAnnouncementBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("announcement: expected at most ", kMaxAnnouncementBytes,
                     " bytes, found ", message.size()));
  }
  std::vector<MPI_Request> requests(static_cast<size_t>(place_.size),
                                    MPI_REQUEST_NULL);
  for (int rank = 1; rank < place_.size; ++rank) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Isend(message.data(), static_cast<int>(message.size()),
                          MPI_BYTE, rank, kAnnounceTag, world_,
                          &requests[static_cast<size_t>(rank)]),
                "MPI_Isend"));
  }
  for (int rank = 1; rank < place_.size; ++rank) {
    ABSL_RETURN_IF_ERROR(AwaitRequest(&requests[static_cast<size_t>(rank)],
                                      rank, absl::ZeroDuration(),
                                      MPI_STATUS_IGNORE));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MpiCommunicator::Ranks::AwaitAnnouncement() {
  MPI_Status status;
  int there = 0;
  while (true) {
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Iprobe(0, kAnnounceTag, world_, &there, &status), "MPI_Iprobe"));
    if (there != 0) break;
    absl::SleepFor(kIdlePause);
  }
  int size = 0;
  MPI_Get_count(&status, MPI_BYTE, &size);
  std::string message(static_cast<size_t>(size), '\0');
  MPI_Request request = MPI_REQUEST_NULL;
  ABSL_RETURN_IF_ERROR(FromMpi(MPI_Irecv(message.data(), size, MPI_BYTE, 0,
                                         kAnnounceTag, world_, &request),
                               "MPI_Irecv"));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&request, 0, kGrace, MPI_STATUS_IGNORE));
  return message;
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
  return ranks_->place_;
}

std::string MpiCommunicator::NameOf(int rank) const {
  return ranks_->NameOf(rank);
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
  return ranks_->Timed(0, [&] { return ranks_->Gather(mine); });
}

absl::Status MpiCommunicator::Announce(absl::string_view message) {
  return ranks_->Checked([&] { return ranks_->Announce(message); });
}

absl::StatusOr<std::string> MpiCommunicator::AwaitAnnouncement() {
  return ranks_->Checked([&] { return ranks_->AwaitAnnouncement(); });
}

Communicator::Totals MpiCommunicator::totals() const { return ranks_->totals_; }

bool MpiCommunicator::broken() const { return ranks_->failed_; }

std::vector<int> MpiCommunicator::DeadRanks() const {
  std::vector<int> dead;
  for (const Neighbour& neighbour : ranks_->neighbours_) {
    if (ranks_->pids_visible_ && !IsAlive(neighbour)) {
      dead.push_back(neighbour.rank);
    }
  }
  return dead;
}

void MpiCommunicator::Abort(absl::string_view reason) {
  LogError("the site ends",
           {{"rank", ranks_->place_.rank}, {"reason", reason}});
  MPI_Abort(ranks_->world_, kAbortCode);
  std::_Exit(kAbortCode);
}

}  // namespace koinon::worker
