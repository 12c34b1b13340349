#include "worker/collective/mpi_leaders.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "worker/collective/mpi_status.h"

namespace koinon::worker {
namespace {

// A rank that waits for another node's leader may be waiting for one of that
// node's ranks, whom that leader names sooner.
constexpr absl::Duration kGrace = absl::Seconds(1);

int SumTag(size_t slot) { return static_cast<int>(2 * slot); }
int TotalTag(size_t slot) { return static_cast<int>(2 * slot + 1); }

void Scale(float scale, size_t n, float* values) {
  if (scale == 1.0f) return;
  for (size_t i = 0; i < n; ++i) values[i] *= scale;
}

// sum becomes scale * sum + in.
void Add(const float* in, size_t n, float scale, float* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] = scale * sum[i] + in[i];
}

}  // namespace

MpiLeaders::MpiLeaders(MPI_Comm leaders, size_t chunk, size_t depth,
                       Waiter* waiter, std::function<std::string(int)> name)
    : leaders_(leaders), waiter_(waiter), name_(std::move(name)) {
  MPI_Comm_rank(leaders_, &node_);
  MPI_Comm_size(leaders_, &nodes_);
  const auto nodes = static_cast<size_t>(nodes_);
  slice_ = (chunk + nodes - 1) / nodes;
  slots_.resize(depth);
  for (Slot& slot : slots_) {
    slot.received.resize(nodes * slice_);
    slot.receives.assign(nodes, MPI_REQUEST_NULL);
    slot.sends.assign(nodes, MPI_REQUEST_NULL);
    slot.total_sends.assign(nodes, MPI_REQUEST_NULL);
  }
}

MpiLeaders::~MpiLeaders() {
  for (Slot& slot : slots_) {
    for (auto* requests : {&slot.receives, &slot.sends, &slot.total_sends}) {
      for (MPI_Request& request : *requests) {
        if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
      }
    }
  }
}

size_t MpiLeaders::SliceBegin(int node, size_t n) const {
  return n * static_cast<size_t>(node) / static_cast<size_t>(nodes_);
}

absl::Status MpiLeaders::Await(std::vector<MPI_Request>* requests) {
  const auto done = [&]() -> absl::StatusOr<bool> {
    int flag = 0;
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Testall(nodes_, requests->data(), &flag, MPI_STATUSES_IGNORE),
        "MPI_Testall"));
    return flag != 0;
  };
  const auto whom = [&] {
    for (int node = 0; node < nodes_; ++node) {
      int flag = 0;
      MPI_Request& request = (*requests)[static_cast<size_t>(node)];
      if (request == MPI_REQUEST_NULL) continue;
      if (MPI_Request_get_status(request, &flag, MPI_STATUS_IGNORE) ==
              MPI_SUCCESS &&
          flag == 0) {
        return name_(node);
      }
    }
    return std::string("another node");
  };
  return waiter_->AwaitPoll(done, whom, kGrace);
}

absl::Status MpiLeaders::Start(size_t slot, absl::Span<float> values,
                               float scale) {
  Slot& s = slots_[slot];
  s.values = values;
  s.scale = scale;
  const size_t n = values.size();
  const size_t own = SliceBegin(node_ + 1, n) - SliceBegin(node_, n);
  for (int i = 1; i < nodes_; ++i) {
    const int node = (node_ + i) % nodes_;
    const auto index = static_cast<size_t>(node);
    const size_t begin = SliceBegin(node, n);
    const size_t end = SliceBegin(node + 1, n);
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Irecv(s.received.data() + index * slice_, static_cast<int>(own),
                  MPI_FLOAT, node, SumTag(slot), leaders_, &s.receives[index]),
        "MPI_Irecv"));
    Scale(scale, end - begin, values.data() + begin);
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Isend(values.data() + begin, static_cast<int>(end - begin),
                  MPI_FLOAT, node, SumTag(slot), leaders_, &s.sends[index]),
        "MPI_Isend"));
  }
  return absl::OkStatus();
}

void MpiLeaders::AddUp(Slot* slot) {
  const size_t begin = SliceBegin(node_, slot->values.size());
  const size_t size = SliceBegin(node_ + 1, slot->values.size()) - begin;
  float* const own = slot->values.data() + begin;
  const auto received = [&](int node) {
    return slot->received.data() + static_cast<size_t>(node) * slice_;
  };
  // Those before this node come first: theirs add up where the first one's are.
  for (int node = 1; node < node_; ++node) {
    Add(received(node), size, 1, received(0));
  }
  const int first = node_ > 0 ? 0 : 1;
  Add(received(first), size, slot->scale, own);
  for (int node = std::max(node_, first) + 1; node < nodes_; ++node) {
    Add(received(node), size, 1, own);
  }
}

absl::Status MpiLeaders::Reduce(size_t slot) {
  Slot& s = slots_[slot];
  ABSL_RETURN_IF_ERROR(Await(&s.receives));
  AddUp(&s);
  // Totals come to where sums are sent from.
  ABSL_RETURN_IF_ERROR(Await(&s.sends));
  const size_t n = s.values.size();
  const size_t begin = SliceBegin(node_, n);
  const size_t size = SliceBegin(node_ + 1, n) - begin;
  for (int i = 1; i < nodes_; ++i) {
    const int node = (node_ + i) % nodes_;
    const auto index = static_cast<size_t>(node);
    const size_t first = SliceBegin(node, n);
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Irecv(s.values.data() + first,
                  static_cast<int>(SliceBegin(node + 1, n) - first), MPI_FLOAT,
                  node, TotalTag(slot), leaders_, &s.receives[index]),
        "MPI_Irecv"));
    ABSL_RETURN_IF_ERROR(FromMpi(
        MPI_Isend(s.values.data() + begin, static_cast<int>(size), MPI_FLOAT,
                  node, TotalTag(slot), leaders_, &s.total_sends[index]),
        "MPI_Isend"));
  }
  return absl::OkStatus();
}

absl::Status MpiLeaders::Complete(size_t slot) {
  return Await(&slots_[slot].receives);
}

absl::Status MpiLeaders::Drain(size_t slot) {
  return Await(&slots_[slot].total_sends);
}

absl::Status MpiLeaders::Broadcast(absl::Span<char> bytes) {
  MPI_Request request = MPI_REQUEST_NULL;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Ibcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE,
                         0, leaders_, &request),
              "MPI_Ibcast"));
  const auto done = [&]() -> absl::StatusOr<bool> {
    int flag = 0;
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "MPI_Test"));
    return flag != 0;
  };
  return waiter_->AwaitPoll(
      done, [&] { return node_ == 0 ? "another node" : name_(0); }, kGrace);
}

bool MpiLeaders::Progress() {
  bool under_way = false;
  for (Slot& slot : slots_) {
    for (auto* requests : {&slot.receives, &slot.sends, &slot.total_sends}) {
      for (const MPI_Request& request : *requests) {
        if (request == MPI_REQUEST_NULL) continue;
        int flag = 0;
        MPI_Request_get_status(request, &flag, MPI_STATUS_IGNORE);
        under_way = under_way || flag == 0;
      }
    }
  }
  return under_way;
}

}  // namespace koinon::worker
