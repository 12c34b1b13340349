#ifndef KOINON_WORKER_COLLECTIVE_MPI_ROSTER_H_
#define KOINON_WORKER_COLLECTIVE_MPI_ROSTER_H_

#include <mpi.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/collective/communicator.h"

namespace koinon::worker {

// Who the ranks of MPI_COMM_WORLD are: their places, hosts and processes, and
// the groups in which they exchange. Constant after Meet, but for who is alive;
// any thread.
class MpiRoster {
 public:
  // Collective. ranks_per_node: as MpiCommunicator::Options.
  static absl::StatusOr<std::unique_ptr<MpiRoster>> Meet(int ranks_per_node);
  // Collective, unless Abandon was called.
  ~MpiRoster();
  MpiRoster(const MpiRoster&) = delete;
  MpiRoster& operator=(const MpiRoster&) = delete;

  // The ranks cannot go on together: what they made together stays.
  void Abandon() { abandoned_ = true; }

  const Communicator::Place& place() const { return place_; }
  MPI_Comm world() const { return world_; }      // ours alone
  MPI_Comm node() const { return node_; }        // by node rank
  MPI_Comm leaders() const { return leaders_; }  // by node; null on others

  // "rank 3 (host b)", for messages.
  std::string NameOf(int rank) const;
  std::string NameOfNeighbour(int node_rank) const;
  std::string NameOfLeader(int node) const;

  // Ranks in containers of their own do not see each other's processes.
  bool pids_visible() const { return pids_visible_; }
  bool IsAlive(int node_rank) const;
  // Of this node, as far as can be seen.
  std::vector<int> DeadRanks() const;

 private:
  struct Rank {
    int rank = 0;  // in the site
    int node = 0;
    pid_t pid = 0;
    char host[MPI_MAX_PROCESSOR_NAME] = {};
  };
  static bool IsAlive(const Rank& rank);

  MpiRoster() = default;
  absl::Status OpenCommunicators(int ranks_per_node);
  absl::Status ShareCores(MPI_Comm machine);
  absl::Status MeetRanks();

  Communicator::Place place_;
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Comm leaders_ = MPI_COMM_NULL;
  std::vector<Rank> ranks_;          // by rank
  std::vector<Rank> neighbours_;     // of this node, by node rank
  std::vector<int> leader_of_node_;  // ranks
  bool pids_visible_ = true;
  bool abandoned_ = false;
};

}  // namespace koinon::worker

#endif  // KOINON_WORKER_COLLECTIVE_MPI_ROSTER_H_
