#include "aggregation/core/combine.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/fold.h"
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

// The rows that count, with their weights: none of them 0.
struct Sum {
  const ModelLayout& layout;
  Rows rows;
  std::vector<double> weights;
  double scale = 1;
};

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
struct RowTile {
  size_t first = 0;  // index of the group's first row
  size_t n = 0;
  size_t offset = 0;  // of the tile in the parameters
  size_t count = 0;
  const float* row[kGroup];
};

// The pass over one strip: tile by tile, and in each tile group by group.
class StripPass {
 public:
  StripPass(Fold fold, const Sum& sum, Workspace* workspace)
      : fold_(fold), sum_(sum), workspace_(workspace) {
    groups_ = (sum.rows.size() + kGroup - 1) / kGroup;
    tile_ = groups_ == 1 ? kLongTile : kTile;
  }

  // out: [end - begin]
  absl::Status Run(size_t begin, size_t end, float* out) {
    begin_ = begin;
    end_ = end;
    out_ = out;
    const size_t tiles = (end - begin + tile_ - 1) / tile_;
    const size_t steps = tiles * groups_;
    RowTile now, next;
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
  absl::Status Read(size_t step, RowTile* rows) {
    const size_t group = step % groups_;
    rows->first = group * sum_.rows.size() / groups_;
    rows->n = (group + 1) * sum_.rows.size() / groups_ - rows->first;
    rows->offset = begin_ + step / groups_ * tile_;
    rows->count = std::min(tile_, end_ - rows->offset);
    for (size_t i = 0; i < rows->n; ++i) {
      const Row& row = sum_.rows[rows->first + i];
      auto values = row.values->Read(rows->offset, rows->count,
                                     workspace_->scratch[step % 2][i]);
      if (!values.ok()) return row.Blame(values.status());
      rows->row[i] = *values;
    }
    return absl::OkStatus();
  }

  // The end of the tile is folded apart, for there the fetching goes on with
  // the rows that come next.
  absl::Status FoldRows(const RowTile& rows, const RowTile* next) {
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

  bool FoldPart(const RowTile& rows, const float* const* ahead, size_t begin,
                size_t end) {
    if (begin == end) return true;
    const float* from[kGroup];
    for (size_t i = 0; i < rows.n; ++i) from[i] = rows.row[i] + begin;
    FoldBlock block;
    block.rows = from;
    block.ahead = ahead;
    block.weights = sum_.weights.data() + rows.first;
    block.n = rows.n;
    block.count = end - begin;
    block.first = rows.first == 0;
    // One group keeps its sums in registers, whatever the tile's length.
    block.sum = groups_ == 1 ? nullptr : workspace_->sum + begin;
    if (rows.first + rows.n == sum_.rows.size()) {
      block.out = out_ + (rows.offset - begin_) + begin;
    }
    block.scale = sum_.scale;
    return fold_(block);
  }

  // Which row made the tile's sum infinite or NaN.
  absl::Status Culprit(const RowTile& rows) const {
    std::vector<float> scratch(rows.count);
    for (const Row& row : sum_.rows) {
      auto values = row.values->Read(rows.offset, rows.count, scratch.data());
      if (!values.ok()) return row.Blame(values.status());
      const float* const end = *values + rows.count;
      const float* bad =
          std::find_if(*values, end, [](float x) { return !std::isfinite(x); });
      if (bad == end) continue;
      const size_t element = rows.offset + static_cast<size_t>(bad - *values);
      return row.Blame(absl::DataLossError(
          absl::StrCat(sum_.layout.DescribeElement(element), " is ",
                       std::isnan(*bad) ? "NaN" : "infinite",
                       ", though it was checked on arrival")));
    }
    return absl::InternalError(
        absl::StrCat("the sum of finite values is not finite in elements [",
                     rows.offset, ", ", rows.offset + rows.count, ")"));
  }

  const Fold fold_;
  const Sum& sum_;
  Workspace* const workspace_;
  size_t groups_ = 0;
  size_t tile_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
  float* out_ = nullptr;
};

}  // namespace

ExactWeights ExactWeights::Of(absl::Span<const double> weights) {
  ExactWeights exact = Linear(weights);
  const double sum =
      std::accumulate(exact.weights.begin(), exact.weights.end(), 0.0);
  KOINON_CHECK(sum > 0);
  exact.scale = 1 / sum;
  return exact;
}

ExactWeights ExactWeights::Linear(absl::Span<const double> coefficients) {
  KOINON_CHECK(!coefficients.empty());
  const double largest =
      *std::max_element(coefficients.begin(), coefficients.end());
  KOINON_CHECK(std::isfinite(largest));
  const int exponent = largest > 0 ? std::ilogb(largest) : 0;
  ExactWeights exact;
  for (double coefficient : coefficients) {
    KOINON_CHECK(coefficient >= 0);
    const double part = std::scalbn(coefficient, -exponent);
    exact.weights.push_back(part < kSmallestPart ? 0 : RoundToWeightBits(part));
  }
  exact.scale = std::scalbn(1.0, exponent);
  return exact;
}

std::vector<double> ExactWeights::Normalised() const {
  std::vector<double> normalised = weights;
  for (double& weight : normalised) weight *= scale;
  return normalised;
}

absl::Status CombineRows(const ModelLayout& layout, absl::Span<const Row> rows,
                         const ExactWeights& weights,
                         InstructionSet instruction_set, ThreadPool* pool,
                         UpdateSink* out) {
  KOINON_CHECK(!rows.empty() && weights.weights.size() == rows.size());
  ABSL_ASSIGN_OR_RETURN(instruction_set,
                        ResolveInstructionSet(instruction_set));
  const Fold fold = FoldOf(instruction_set);
  Sum sum = {layout, {}, {}, weights.scale};
  for (size_t i = 0; i < rows.size(); ++i) {
    if (weights.weights[i] == 0) continue;
    sum.rows.push_back(rows[i]);
    sum.weights.push_back(weights.weights[i]);
  }
  const size_t elements = layout.total_elements();
  Workspaces workspaces;
  for (size_t begin = 0; begin < elements; begin += kSlab) {
    const size_t count = std::min(kSlab, elements - begin);
    const size_t strips = (count + kStrip - 1) / kStrip;
    float* const window = out->Window(begin, count);
    std::vector<absl::Status> results(strips);
    pool->ParallelFor(strips, [&](size_t strip) {
      const size_t from = strip * kStrip;
      const size_t to = std::min(count, from + kStrip);
      if (sum.rows.empty()) {
        std::fill(window + from, window + to, 0.0f);
        return;
      }
      std::unique_ptr<Workspace> workspace = workspaces.Take();
      results[strip] = StripPass(fold, sum, workspace.get())
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
  return CombineRows(set.layout(), RowsOf(set), weights, InstructionSet::kBest,
                     pool, out);
}

}  // namespace koinon::aggregation
