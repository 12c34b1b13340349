#include "worker/collective/mpi_messages.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "worker/collective/mpi_status.h"

namespace koinon::worker {
namespace {

constexpr int kGatherTag = 1;
constexpr int kGatheredTag = 2;
constexpr int kAnnounceTag = 3;
constexpr int kExplainTag = 4;
constexpr size_t kMaxExplanationBytes = 512;
constexpr int kLooks = 1000;
// A rank that only hears of others through rank 0 lets it speak first.
constexpr absl::Duration kGrace = absl::Seconds(3);
// Between looks at whether there is an announcement: what an idle rank costs.
constexpr absl::Duration kIdlePause = absl::Milliseconds(2);

}  // namespace

absl::Status MpiMessages::AwaitRequest(MPI_Request* request, int whom,
                                       absl::Duration grace,
                                       MPI_Status* status) {
  const auto done = [&]() -> absl::StatusOr<bool> {
    int flag = 0;
    ABSL_RETURN_IF_ERROR(FromMpi(MPI_Test(request, &flag, status), "MPI_Test"));
    return flag != 0;
  };
  return waiter_->AwaitPoll(
      done, [&] { return roster_->NameOf(whom); }, grace);
}

absl::StatusOr<std::vector<std::string>> MpiMessages::GatherAtFirst(
    absl::string_view mine) {
  const auto ranks = static_cast<size_t>(size());
  std::vector<std::string> all(ranks);
  std::vector<MPI_Request> requests(ranks, MPI_REQUEST_NULL);
  all[0] = std::string(mine);
  for (size_t rank = 1; rank < ranks; ++rank) {
    all[rank].resize(Communicator::kMaxGatheredBytes);
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Irecv(all[rank].data(), Communicator::kMaxGatheredBytes,
                          MPI_BYTE, static_cast<int>(rank), kGatherTag,
                          roster_->world(), &requests[rank]),
                "MPI_Irecv"));
  }
  std::string joined;
  for (size_t rank = 0; rank < ranks; ++rank) {
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
  for (size_t rank = 1; rank < ranks; ++rank) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Isend(joined.data(), static_cast<int>(joined.size()),
                          MPI_BYTE, static_cast<int>(rank), kGatheredTag,
                          roster_->world(), &requests[rank]),
                "MPI_Isend"));
  }
  for (size_t rank = 1; rank < ranks; ++rank) {
    ABSL_RETURN_IF_ERROR(AwaitRequest(&requests[rank], static_cast<int>(rank),
                                      absl::ZeroDuration(), MPI_STATUS_IGNORE));
  }
  return all;
}

absl::StatusOr<std::vector<std::string>> MpiMessages::GatherFromFirst(
    absl::string_view mine) {
  MPI_Request send = MPI_REQUEST_NULL, receive = MPI_REQUEST_NULL;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Isend(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, 0,
                        kGatherTag, roster_->world(), &send),
              "MPI_Isend"));
  const auto ranks = static_cast<size_t>(size());
  std::string joined(ranks * (Communicator::kMaxGatheredBytes + sizeof(int)),
                     '\0');
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Irecv(joined.data(), static_cast<int>(joined.size()),
                        MPI_BYTE, 0, kGatheredTag, roster_->world(), &receive),
              "MPI_Irecv"));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&send, 0, kGrace, MPI_STATUS_IGNORE));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&receive, 0, kGrace, MPI_STATUS_IGNORE));
  std::vector<std::string> all;
  const char* next = joined.data();
  for (size_t rank = 0; rank < ranks; ++rank) {
    int length = 0;
    std::memcpy(&length, next, sizeof(length));
    next += sizeof(length);
    all.emplace_back(next, static_cast<size_t>(length));
    next += length;
  }
  return all;
}

absl::StatusOr<std::vector<std::string>> MpiMessages::Gather(
    absl::string_view mine) {
  if (mine.size() > Communicator::kMaxGatheredBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gathered: expected at most ", Communicator::kMaxGatheredBytes,
        " bytes, found ", mine.size()));
  }
  return rank() == 0 ? GatherAtFirst(mine) : GatherFromFirst(mine);
}

void MpiMessages::Explain(const absl::Status& seen) {
  // Short enough to be on its way at once, whatever rank 0 does.
  explanation_ = std::string(seen.message().substr(0, kMaxExplanationBytes));
  MPI_Request request = MPI_REQUEST_NULL;
  int sent = 0;
  if (MPI_Isend(explanation_.data(), static_cast<int>(explanation_.size()),
                MPI_BYTE, 0, kExplainTag, roster_->world(),
                &request) == MPI_SUCCESS) {
    MPI_Test(&request, &sent, MPI_STATUS_IGNORE);
  }
}

absl::Status MpiMessages::Explained(const absl::Status& seen) {
  if (rank() != 0) {
    Explain(seen);
    return seen;
  }
  MPI_Status status;
  int there = 0;
  // Each look lets messages move a little.
  for (int look = 0; look < kLooks && there == 0; ++look) {
    if (MPI_Iprobe(MPI_ANY_SOURCE, kExplainTag, roster_->world(), &there,
                   &status) != MPI_SUCCESS) {
      return seen;
    }
  }
  if (there == 0) return seen;
  std::string heard(kMaxExplanationBytes, '\0');
  int size = 0;
  if (MPI_Recv(heard.data(), static_cast<int>(heard.size()), MPI_BYTE,
               status.MPI_SOURCE, kExplainTag, roster_->world(),
               &status) != MPI_SUCCESS) {
    return seen;
  }
  MPI_Get_count(&status, MPI_BYTE, &size);
  heard.resize(static_cast<size_t>(size));
  return absl::UnavailableError(heard);
}

absl::Status MpiMessages::Announce(absl::string_view message) {
  if (message.size() > Communicator::kMaxAnnouncementBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "announcement: expected at most ", Communicator::kMaxAnnouncementBytes,
        " bytes, found ", message.size()));
  }
  std::vector<MPI_Request> requests(static_cast<size_t>(size()),
                                    MPI_REQUEST_NULL);
  for (int rank = 1; rank < size(); ++rank) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Isend(message.data(), static_cast<int>(message.size()),
                          MPI_BYTE, rank, kAnnounceTag, roster_->world(),
                          &requests[static_cast<size_t>(rank)]),
                "MPI_Isend"));
  }
  for (int rank = 1; rank < size(); ++rank) {
    ABSL_RETURN_IF_ERROR(AwaitRequest(&requests[static_cast<size_t>(rank)],
                                      rank, absl::ZeroDuration(),
                                      MPI_STATUS_IGNORE));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MpiMessages::AwaitAnnouncement() {
  MPI_Status status;
  int there = 0;
  while (true) {
    ABSL_RETURN_IF_ERROR(
        FromMpi(MPI_Iprobe(0, kAnnounceTag, roster_->world(), &there, &status),
                "MPI_Iprobe"));
    if (there != 0) break;
    absl::SleepFor(kIdlePause);
  }
  int size = 0;
  MPI_Get_count(&status, MPI_BYTE, &size);
  std::string message(static_cast<size_t>(size), '\0');
  MPI_Request request = MPI_REQUEST_NULL;
  ABSL_RETURN_IF_ERROR(
      FromMpi(MPI_Irecv(message.data(), size, MPI_BYTE, 0, kAnnounceTag,
                        roster_->world(), &request),
              "MPI_Irecv"));
  ABSL_RETURN_IF_ERROR(AwaitRequest(&request, 0, kGrace, MPI_STATUS_IGNORE));
  return message;
}

}  // namespace koinon::worker
