#include "worker/collective/node_window.h"

#include <algorithm>
#include <cstring>

#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// Slices begin at cache lines.
constexpr size_t kLine = 16;
// Elements summed over all ranks before the next ones are looked at: they stay
// in the first cache.
constexpr size_t kBlock = 2048;
// How far behind copying in, in chunks, the next stages are. A rank may be so
// much ahead of the others before it waits for them.
constexpr size_t kReduceLag = 1;
constexpr size_t kOutLag = 2;
// With leaders: start, reduce and complete of the exchange between nodes, then
// copying out.
constexpr size_t kLeaderLags[] = {2, 4, 6};
constexpr size_t kLeaderOutLag = 7;
// Of a rank alone on its node, which starts at once: reduce and complete.
constexpr size_t kAloneLags[] = {2, 4};
// A rank that waits for its leader may be waiting for another node's rank.
constexpr absl::Duration kLeaderGrace = absl::Seconds(3);

void Scale(float scale, const float* in, size_t n, float* out) {
  if (scale == 1.0f) {
    std::memcpy(out, in, n * sizeof(float));
    return;
  }
  for (size_t i = 0; i < n; ++i) out[i] = scale * in[i];
}

void Add(const float* in, size_t n, float* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += in[i];
}

void AddScaled(float scale, const float* in, size_t n, float* sum) {
  for (size_t i = 0; i < n; ++i) sum[i] += scale * in[i];
}

}  // namespace

size_t NodeWindow::FlagBytes(const Shape& shape) {
  return (3 * static_cast<size_t>(shape.ranks) + 1) * sizeof(SharedFlag);
}

size_t NodeWindow::SizeBytes(const Shape& shape) {
  const size_t arrays = static_cast<size_t>(shape.ranks) + 1;
  return FlagBytes(shape) + shape.depth * arrays * shape.chunk * sizeof(float);
}

NodeWindow::NodeWindow(const Shape& shape, int rank, char* memory,
                       Waiter* waiter, LeaderExchange* leaders)
    : shape_(shape),
      rank_(rank),
      waiter_(waiter),
      leaders_(leaders),
      copied_in_(reinterpret_cast<SharedFlag*>(memory)),
      reduced_(copied_in_ + shape.ranks),
      copied_out_(reduced_ + shape.ranks),
      total_(copied_out_ + shape.ranks),
      slots_(reinterpret_cast<float*>(total_ + 1)) {}

float* NodeWindow::Input(size_t slot, int rank) const {
  const size_t arrays = static_cast<size_t>(shape_.ranks) + 1;
  return slots_ + (slot * arrays + static_cast<size_t>(rank)) * shape_.chunk;
}

NodeWindow::Piece NodeWindow::PieceOf(absl::Span<float> values,
                                      size_t index) const {
  const uint32_t number = next_ + static_cast<uint32_t>(index);
  return {.values = values.subspan(index * shape_.chunk, shape_.chunk),
          .number = number,
          .slot = number % shape_.depth};
}

size_t NodeWindow::SliceBegin(int rank, size_t n) const {
  const size_t lines = (n + kLine - 1) / kLine;
  const size_t begin = lines * static_cast<size_t>(rank) /
                       static_cast<size_t>(shape_.ranks) * kLine;
  return std::min(begin, n);
}

absl::Status NodeWindow::AwaitAll(const SharedFlag* flags, uint32_t target) {
  for (int i = 1; i < shape_.ranks; ++i) {
    // Not everybody waits for the same one first.
    const int whom = (rank_ + i) % shape_.ranks;
    ABSL_RETURN_IF_ERROR(waiter_->Await(flags[whom], target, whom));
  }
  return absl::OkStatus();
}

absl::Status NodeWindow::AwaitTotal(uint32_t target) {
  if (leaders_ != nullptr) return absl::OkStatus();  // its own
  return waiter_->Await(*total_, target, 0, kLeaderGrace);
}

absl::Status NodeWindow::AwaitFree(const Piece& piece) {
  return AwaitAll(copied_out_,
                  piece.number + 1 - static_cast<uint32_t>(shape_.depth));
}

absl::Status NodeWindow::CopyIn(const Piece& piece, float scale) {
  ABSL_RETURN_IF_ERROR(AwaitFree(piece));
  const size_t n = piece.values.size();
  const size_t begin = SliceBegin(rank_, n);
  const size_t end = SliceBegin(rank_ + 1, n);
  float* const input = Input(piece.slot, rank_);
  // All but the slice that this rank sums itself.
  Scale(scale, piece.values.data(), begin, input);
  Scale(scale, piece.values.data() + end, n - end, input + end);
  copied_in_[rank_].Publish(piece.number + 1);
  return absl::OkStatus();
}

absl::Status NodeWindow::Reduce(const Piece& piece, float scale) {
  ABSL_RETURN_IF_ERROR(AwaitAll(copied_in_, piece.number + 1));
  const size_t n = piece.values.size();
  const size_t slice_end = SliceBegin(rank_ + 1, n);
  float* const sum = Total(piece.slot);
  for (size_t begin = SliceBegin(rank_, n); begin < slice_end;
       begin += kBlock) {
    const size_t size = std::min(kBlock, slice_end - begin);
    float* const own = piece.values.data() + begin;
    for (int rank = 0; rank < shape_.ranks; ++rank) {
      const float* const in = Input(piece.slot, rank) + begin;
      if (rank == 0) {
        Scale(rank == rank_ ? scale : 1, rank == rank_ ? own : in, size,
              sum + begin);
      } else if (rank == rank_) {
        AddScaled(scale, own, size, sum + begin);
      } else {
        Add(in, size, sum + begin);
      }
    }
    if (!shape_.leaders) std::copy_n(sum + begin, size, own);
  }
  reduced_[rank_].Publish(piece.number + 1);
  return absl::OkStatus();
}

absl::Status NodeWindow::Lead(absl::Span<float> values, size_t step,
                              size_t chunks) {
  const auto due = [&](size_t lag) {
    return step >= lag && step - lag < chunks;
  };
  if (due(kLeaderLags[0])) {
    const Piece piece = PieceOf(values, step - kLeaderLags[0]);
    ABSL_RETURN_IF_ERROR(AwaitAll(reduced_, piece.number + 1));
    ABSL_RETURN_IF_ERROR(leaders_->Start(
        piece.slot, absl::MakeSpan(Total(piece.slot), piece.values.size()), 1));
  }
  if (due(kLeaderLags[1])) {
    ABSL_RETURN_IF_ERROR(
        leaders_->Reduce(PieceOf(values, step - kLeaderLags[1]).slot));
  }
  if (due(kLeaderLags[2])) {
    const Piece piece = PieceOf(values, step - kLeaderLags[2]);
    ABSL_RETURN_IF_ERROR(leaders_->Complete(piece.slot));
    total_->Publish(piece.number + 1);
  }
  return absl::OkStatus();
}

absl::Status NodeWindow::CopyOut(const Piece& piece) {
  const size_t n = piece.values.size();
  const float* const total = Total(piece.slot);
  if (shape_.leaders) {
    ABSL_RETURN_IF_ERROR(AwaitTotal(piece.number + 1));
    std::copy_n(total, n, piece.values.data());
    if (leaders_ != nullptr) {
      ABSL_RETURN_IF_ERROR(leaders_->Drain(piece.slot));
    }
  } else {
    ABSL_RETURN_IF_ERROR(AwaitAll(reduced_, piece.number + 1));
    const size_t begin = SliceBegin(rank_, n);
    const size_t end = SliceBegin(rank_ + 1, n);
    std::copy_n(total, begin, piece.values.data());
    std::copy_n(total + end, n - end, piece.values.data() + end);
  }
  copied_out_[rank_].Publish(piece.number + 1);
  return absl::OkStatus();
}

absl::Status NodeWindow::SumAlone(absl::Span<float> values, float scale) {
  if (leaders_ == nullptr) {
    if (scale != 1.0f) {
      Scale(scale, values.data(), values.size(), values.data());
    }
    return absl::OkStatus();
  }
  const size_t chunks = (values.size() + shape_.chunk - 1) / shape_.chunk;
  for (size_t step = 0; step < chunks + kAloneLags[1]; ++step) {
    if (step < chunks) {
      const Piece piece = PieceOf(values, step);
      ABSL_RETURN_IF_ERROR(leaders_->Start(piece.slot, piece.values, scale));
    }
    if (step >= kAloneLags[0] && step - kAloneLags[0] < chunks) {
      const size_t slot = PieceOf(values, step - kAloneLags[0]).slot;
      ABSL_RETURN_IF_ERROR(leaders_->Reduce(slot));
    }
    if (step >= kAloneLags[1]) {
      const size_t slot = PieceOf(values, step - kAloneLags[1]).slot;
      ABSL_RETURN_IF_ERROR(leaders_->Complete(slot));
      ABSL_RETURN_IF_ERROR(leaders_->Drain(slot));
    }
  }
  next_ += static_cast<uint32_t>(chunks);
  return absl::OkStatus();
}

absl::Status NodeWindow::Sum(absl::Span<float> values, float scale) {
  if (shape_.ranks == 1) return SumAlone(values, scale);
  const size_t chunks = (values.size() + shape_.chunk - 1) / shape_.chunk;
  const size_t out_lag = shape_.leaders ? kLeaderOutLag : kOutLag;
  if (chunks == 0) return absl::OkStatus();
  for (size_t step = 0; step < chunks + out_lag; ++step) {
    if (step < chunks) {
      ABSL_RETURN_IF_ERROR(CopyIn(PieceOf(values, step), scale));
    }
    if (step >= kReduceLag && step - kReduceLag < chunks) {
      ABSL_RETURN_IF_ERROR(Reduce(PieceOf(values, step - kReduceLag), scale));
    }
    if (leaders_ != nullptr) {
      ABSL_RETURN_IF_ERROR(Lead(values, step, chunks));
    }
    if (step >= out_lag) {
      ABSL_RETURN_IF_ERROR(CopyOut(PieceOf(values, step - out_lag)));
    }
  }
  next_ += static_cast<uint32_t>(chunks);
  return absl::OkStatus();
}

absl::Status NodeWindow::Broadcast(absl::Span<char> bytes) {
  const size_t chunk_bytes = shape_.chunk * sizeof(float);
  for (size_t begin = 0; begin < bytes.size(); begin += chunk_bytes) {
    const absl::Span<char> part = bytes.subspan(begin, chunk_bytes);
    const Piece piece = {
        .values = {}, .number = next_, .slot = next_ % shape_.depth};
    char* const total = reinterpret_cast<char*>(Total(piece.slot));
    if (rank_ == 0) {
      ABSL_RETURN_IF_ERROR(AwaitFree(piece));
      if (leaders_ != nullptr) {
        ABSL_RETURN_IF_ERROR(leaders_->Broadcast(part));
      }
      std::copy(part.begin(), part.end(), total);
      total_->Publish(piece.number + 1);
    } else {
      ABSL_RETURN_IF_ERROR(
          waiter_->Await(*total_, piece.number + 1, 0, kLeaderGrace));
      std::copy_n(total, part.size(), part.data());
    }
    // Nothing was copied in or reduced, and nobody will wait for it.
    copied_in_[rank_].Publish(piece.number + 1);
    reduced_[rank_].Publish(piece.number + 1);
    copied_out_[rank_].Publish(piece.number + 1);
    ++next_;
  }
  return absl::OkStatus();
}

}  // namespace koinon::worker
