#include "aggregation/core/combine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// Rows folded together: each pass over a tile loads and stores its sums once.
constexpr size_t kGroup = kMaxFoldRows;
// A tile of one row is one read and a few pages: long enough for the
// processor's prefetching. With several groups, short enough that the sums of a
// tile stay in L1; with one group sums never leave the registers.
constexpr size_t kTile = 4096;
constexpr size_t kLongTile = 16384;
// One thread's share at a time.
constexpr size_t kStrip = 2 * kLongTile;
// One window of the sink.
constexpr size_t kSlab = 32 * kStrip;
// How far ahead of use a row is fetched.
constexpr size_t kFetchAhead = 512;

// Below this part of the largest weight, a product with an fp32 value is under
// half of the smallest fp32: it cannot move a mean, and would not be exact.
constexpr double kSmallestPart = 0x1p-300;

double RoundToWeightBits(double weight) {
  constexpr int kDropped = 53 - kWeightBits;
  auto bits = std::bit_cast<uint64_t>(weight);
  bits += uint64_t{1} << (kDropped - 1);  // may carry into the exponent: right
  bits &= ~((uint64_t{1} << kDropped) - 1);
  return std::bit_cast<double>(bits);
}

// What one thread needs while it works on a strip. Sources in memory never
// touch `scratch`.
struct Workspace {
  alignas(64) double sum[kTile];
  alignas(64) float scratch[2][kGroup][kLongTile];
};

// As many workspaces as threads were ever busy at once.
class Workspaces {
 public:
  std::unique_ptr<Workspace> Take() {
    {
      MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(idle_.back());
        idle_.pop_back();
        return workspace;
      }
    }
    // Not value-initialised: that would touch every page.
    return std::unique_ptr<Workspace>(new Workspace);
  }
  void Return(std::unique_ptr<Workspace> workspace) {
    MutexLock lock(&mutex_);
    idle_.push_back(std::move(workspace));
  }

 private:
  Mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_ ABSL_GUARDED_BY(mutex_);
};

// A tile of a group of rows.
struct Rows {
  size_t first = 0;  // index of the group's first update
  size_t n = 0;
  size_t offset = 0;  // of the tile in the parameters
  size_t count = 0;
  const float* row[kGroup];
};

// The pass over one strip: tile by tile, and in each tile group by group.
class StripPass {
 public:
  StripPass(Fold fold, const UpdateSet& set, const ExactWeights& weights,
            Workspace* workspace)
      : fold_(fold), set_(set), weights_(weights), workspace_(workspace) {
    groups_ = (set.size() + kGroup - 1) / kGroup;
    tile_ = groups_ == 1 ? kLongTile : kTile;
  }

  // out: [end - begin]
  absl::Status Run(size_t begin, size_t end, float* out) {
    begin_ = begin;
    end_ = end;
    out_ = out;
    const size_t tiles = (end - begin + tile_ - 1) / tile_;
    const size_t steps = tiles * groups_;
    Rows now, next;
    ABSL_RETURN_IF_ERROR(Read(0, &now));
    for (size_t step = 0; step < steps; ++step) {
      const bool more = step + 1 < steps;
      if (more) ABSL_RETURN_IF_ERROR(Read(step + 1, &next));
      ABSL_RETURN_IF_ERROR(FoldRows(now, more ? &next : nullptr));
      std::swap(now, next);
    }
    FinishFolds();
    return absl::OkStatus();
  }

 private:
  // Groups differ by at most one row, so that none is a lonely one.
  absl::Status Read(size_t step, Rows* rows) {
    const size_t group = step % groups_;
    rows->first = group * set_.size() / groups_;
    rows->n = (group + 1) * set_.size() / groups_ - rows->first;
    rows->offset = begin_ + step / groups_ * tile_;
    rows->count = std::min(tile_, end_ - rows->offset);
    for (size_t i = 0; i < rows->n; ++i) {
      auto row = set_.values(rows->first + i)
                     .Read(rows->offset, rows->count,
                           workspace_->scratch[step % 2][i]);
      if (!row.ok()) {
        return BlameWorker(set_.worker(rows->first + i), row.status());
      }
      rows->row[i] = *row;
    }
    return absl::OkStatus();
  }

  // The end of the tile is folded apart, for there the fetching goes on with
  // the rows that come next.
  absl::Status FoldRows(const Rows& rows, const Rows* next) {
    const float* ahead[kGroup];
    const size_t body = rows.count > kFetchAhead ? rows.count - kFetchAhead : 0;
    for (size_t i = 0; i < rows.n; ++i) ahead[i] = rows.row[i] + kFetchAhead;
    bool finite = FoldPart(rows, ahead, 0, body);
    for (size_t i = 0; next != nullptr && i < std::min(rows.n, next->n); ++i) {
      ahead[i] = next->row[i];
    }
    finite &= FoldPart(rows, ahead, body, rows.count);
    return finite ? absl::OkStatus() : Culprit(rows);
  }

  bool FoldPart(const Rows& rows, const float* const* ahead, size_t begin,
                size_t end) {
    if (begin == end) return true;
    const float* from[kGroup];
    for (size_t i = 0; i < rows.n; ++i) from[i] = rows.row[i] + begin;
    FoldBlock block;
    block.rows = from;
    block.ahead = ahead;
    block.weights = weights_.weights.data() + rows.first;
    block.n = rows.n;
    block.count = end - begin;
    block.first = rows.first == 0;
    // One group keeps its sums in registers, whatever the tile's length.
    block.sum = groups_ == 1 ? nullptr : workspace_->sum + begin;
    if (rows.first + rows.n == set_.size()) {
      block.out = out_ + (rows.offset - begin_) + begin;
    }
    block.scale = weights_.scale;
    return fold_(block);
  }

  // Which update made the tile's sum infinite or NaN.
  absl::Status Culprit(const Rows& rows) const {
    std::vector<float> scratch(rows.count);
    for (size_t i = 0; i < set_.size(); ++i) {
      auto row = set_.values(i).Read(rows.offset, rows.count, scratch.data());
      if (!row.ok()) return BlameWorker(set_.worker(i), row.status());
      const float* const end = *row + rows.count;
      const float* bad =
          std::find_if(*row, end, [](float x) { return !std::isfinite(x); });
      if (bad == end) continue;
      const size_t element = rows.offset + static_cast<size_t>(bad - *row);
      return BlameWorker(set_.worker(i),
                         absl::DataLossError(absl::StrCat(
                             set_.layout().DescribeElement(element), " is ",
                             std::isnan(*bad) ? "NaN" : "infinite",
                             ", though it was checked on arrival")));
    }
    return absl::InternalError(
        absl::StrCat("the mean of finite values is not finite in elements [",
                     rows.offset, ", ", rows.offset + rows.count, ")"));
  }

  const Fold fold_;
  const UpdateSet& set_;
  const ExactWeights& weights_;
  Workspace* const workspace_;
  size_t groups_ = 0;
  size_t tile_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  float* out_ = nullptr;
};

}  // namespace

ExactWeights ExactWeights::Of(absl::Span<const double> weights) {
  KOINON_CHECK(!weights.empty());
  const double largest = *std::max_element(weights.begin(), weights.end());
  KOINON_CHECK(largest > 0 && std::isfinite(largest));
  const int exponent = std::ilogb(largest);
  ExactWeights exact;
  double sum = 0;
  for (double weight : weights) {
    KOINON_CHECK(weight >= 0);
    const double part = std::scalbn(weight, -exponent);
    exact.weights.push_back(part < kSmallestPart ? 0 : RoundToWeightBits(part));
    sum += exact.weights.back();
  }
  exact.scale = 1 / sum;
  return exact;
}

std::vector<double> ExactWeights::Normalised() const {
  std::vector<double> normalised = weights;
  for (double& weight : normalised) weight *= scale;
  return normalised;
}

absl::Status CombineUpdatesBy(Fold fold, const UpdateSet& set,
                              const ExactWeights& weights, ThreadPool* pool,
                              UpdateSink* out) {
  KOINON_CHECK(set.size() > 0 && weights.weights.size() == set.size());
  Workspaces workspaces;
  for (size_t begin = 0; begin < set.elements(); begin += kSlab) {
    const size_t count = std::min(kSlab, set.elements() - begin);
    const size_t strips = (count + kStrip - 1) / kStrip;
    float* const window = out->Window(begin, count);
    std::vector<absl::Status> results(strips);
    pool->ParallelFor(strips, [&](size_t strip) {
      const size_t from = strip * kStrip;
      const size_t to = std::min(count, from + kStrip);
      std::unique_ptr<Workspace> workspace = workspaces.Take();
      results[strip] = StripPass(fold, set, weights, workspace.get())
                           .Run(begin + from, begin + to, window + from);
      workspaces.Return(std::move(workspace));
    });
    for (const absl::Status& result : results) ABSL_RETURN_IF_ERROR(result);
    ABSL_RETURN_IF_ERROR(out->Commit(begin, count));
  }
  return absl::OkStatus();
}

absl::Status CombineUpdates(const UpdateSet& set, const ExactWeights& weights,
                            ThreadPool* pool, UpdateSink* out) {
  return CombineUpdatesBy(FoldPaths().front().fold, set, weights, pool, out);
}

}  // namespace koinon::aggregation
