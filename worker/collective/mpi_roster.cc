#include "worker/collective/mpi_roster.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "worker/collective/core_share.h"
#include "worker/collective/mpi_status.h"

namespace koinon::worker {

absl::StatusOr<std::unique_ptr<MpiRoster>> MpiRoster::Meet(int ranks_per_node) {
  auto roster = absl::WrapUnique(new MpiRoster);
  absl::Status status = roster->OpenCommunicators(ranks_per_node);
  if (status.ok()) status = roster->MeetRanks();
  if (status.ok()) return roster;
  roster->Abandon();
  return status;
}

MpiRoster::~MpiRoster() {
  if (abandoned_) return;
  for (MPI_Comm* comm : {&leaders_, &node_, &world_}) {
    if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
  }
}

absl::Status MpiRoster::OpenCommunicators(int ranks_per_node) {
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(world_, &place_.rank);
  MPI_Comm_size(world_, &place_.size);
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, place_.rank,
                                  MPI_INFO_NULL, &node_),
              "MPI_Comm_split_type"));
  ABSL_RETURN_IF_ERROR(ShareCores(node_));
  ABSL_RETURN_IF_ERROR(FromMpi(MPI_Allreduce(&place_.cores, &place_.least_cores,
                                             1, MPI_DOUBLE, MPI_MIN, world_),
                               "MPI_Allreduce"));
  if (ranks_per_node > 0) {
    MPI_Comm_free(&node_);
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Comm_split(world_, place_.rank / ranks_per_node,
                               place_.rank, &node_),
                "MPI_Comm_split"));
  }
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

absl::Status MpiRoster::ShareCores(MPI_Comm machine) {
  int ranks = 0;
  MPI_Comm_size(machine, &ranks);
  const std::vector<int> own = AllowedCores();
  const std::string mask = EncodeCores(own);
  std::string masks(static_cast<size_t>(ranks) * kCoreMaskBytes, '\0');
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Allgather(mask.data(), kCoreMaskBytes, MPI_BYTE, masks.data(),
                            kCoreMaskBytes, MPI_BYTE, machine),
              "MPI_Allgather"));
  std::vector<std::vector<int>> neighbours;
  for (size_t begin = 0; begin < masks.size(); begin += kCoreMaskBytes) {
    neighbours.push_back(
        DecodeCores(absl::string_view(masks).substr(begin, kCoreMaskBytes)));
  }
  place_.cores = ShareOfCores(own, neighbours);
  return absl::OkStatus();
}

absl::Status MpiRoster::MeetRanks() {
  Rank self;
  self.rank = place_.rank;
  self.node = place_.node;
  self.pid = getpid();
  int length = 0;
  MPI_Get_processor_name(self.host, &length);
  ranks_.resize(static_cast<size_t>(place_.size));
  neighbours_.resize(static_cast<size_t>(place_.node_size));
  for (const auto& [comm, all] :
       {std::pair(world_, &ranks_), std::pair(node_, &neighbours_)}) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Allgather(&self, sizeof(self), MPI_BYTE, all->data(),
                              sizeof(self), MPI_BYTE, comm),
                "MPI_Allgather"));
  }
  leader_of_node_.assign(static_cast<size_t>(place_.nodes), -1);
  for (const Rank& rank : ranks_) {
    int& leader = leader_of_node_[static_cast<size_t>(rank.node)];
    if (leader < 0) leader = rank.rank;
  }
  for (const Rank& neighbour : neighbours_) {
    pids_visible_ = pids_visible_ && IsAlive(neighbour);
  }
  return absl::OkStatus();
}

std::string MpiRoster::NameOf(int rank) const {
  return absl::StrCat("rank ", rank, " (host ",
                      ranks_[static_cast<size_t>(rank)].host, ")");
}

std::string MpiRoster::NameOfNeighbour(int node_rank) const {
  return NameOf(neighbours_[static_cast<size_t>(node_rank)].rank);
}

std::string MpiRoster::NameOfLeader(int node) const {
  return NameOf(leader_of_node_[static_cast<size_t>(node)]);
}

bool MpiRoster::IsAlive(const Rank& rank) {
  return kill(rank.pid, 0) == 0 || errno != ESRCH;
}

bool MpiRoster::IsAlive(int node_rank) const {
  return IsAlive(neighbours_[static_cast<size_t>(node_rank)]);
}

std::vector<int> MpiRoster::DeadRanks() const {
  std::vector<int> dead;
  if (!pids_visible_) return dead;
  for (const Rank& neighbour : neighbours_) {
    if (!IsAlive(neighbour)) dead.push_back(neighbour.rank);
  }
  return dead;
}

}  // namespace koinon::worker
