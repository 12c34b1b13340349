#include "aggregation/core/columns.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/column_kernels.h"
#include "aggregation/core/row_mixing.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// One read of a row, and one thread's share at a time. Long enough for disks
// and for the processor's prefetching; with many rows, short enough that the
// rows' tiles stay in the caches when they had to be copied.
constexpr size_t kTile = 4096;
constexpr size_t kLongTile = 16384;
constexpr size_t kFewRows = 32;
// One window of the sink.
constexpr size_t kSlab = size_t{1} << 20;
// Coordinates are sampled in runs: one visit to a row's memory for many.
constexpr size_t kSampledRun = 64;

static_assert(kSlab % kLongTile == 0 && kTile % kSampledRun == 0);

// Every n-th run of coordinates.
struct Sample {
  explicit Sample(size_t elements) {
    const size_t runs = (elements + kSampledRun - 1) / kSampledRun;
    const size_t most = kSampledCoordinates / kSampledRun;
    period = std::max<size_t>(1, (runs + most - 1) / most) * kSampledRun;
  }
  // The first sampled coordinate that is not before `offset`, which starts a
  // run.
  size_t NextFrom(size_t offset) const {
    return (offset + period - 1) / period * period;
  }

  size_t period = 0;
};

struct AlignedDelete {
  void operator()(float* floats) const {
    ::operator delete[](floats, std::align_val_t{64});
  }
};

using Floats = std::unique_ptr<float[], AlignedDelete>;

// On a cache line's border. Not value-initialised: that would touch every page.
Floats NewFloats(size_t count) {
  return Floats(new (std::align_val_t{64}) float[count]);
}

// What one thread needs while it works on a tile. Sources in memory never touch
// `scratch`.
struct Workspace {
  Workspace(size_t n, size_t m, size_t mixed_rows, size_t stride,
            size_t kernel_floats)
      : scratch(NewFloats(n * stride)),
        mixed(NewFloats(mixed_rows * stride)),
        source_rows(n),
        rows(m),
        run_rows(m),
        kernel(NewFloats(kernel_floats)) {}

  Floats scratch;  // [n][stride]
  Floats mixed;    // [mixed_rows][stride]
  std::vector<const float*> source_rows;
  std::vector<const float*> rows;
  std::vector<const float*> run_rows;
  Floats kernel;
};

// How often each row's value was left out, over all threads.
class OutsideCounts {
 public:
  explicit OutsideCounts(size_t m) : counts_(m) {}

  void Add(const std::vector<const float*>& rows, const float* low,
           const float* high, size_t count) {
    MutexLock lock(&mutex_);
    coordinates_ += static_cast<int64_t>(count);
    for (size_t i = 0; i < rows.size(); ++i) {
      int32_t outside = 0;
      for (size_t j = 0; j < count; ++j) {
        outside += rows[i][j] < low[j] || rows[i][j] > high[j] ? 1 : 0;
      }
      counts_[i] += outside;
    }
  }

  OutsideShares Shares() {
    MutexLock lock(&mutex_);
    OutsideShares shares;
    shares.coordinates = coordinates_;
    for (int64_t count : counts_) {
      shares.shares.push_back(coordinates_ == 0
                                  ? 0
                                  : static_cast<double>(count) /
                                        static_cast<double>(coordinates_));
    }
    return shares;
  }

 private:
  Mutex mutex_;
  int64_t coordinates_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<int64_t> counts_ ABSL_GUARDED_BY(mutex_);
};

// One call of ReduceColumns.
class ColumnPass {
 public:
  ColumnPass(const ModelLayout& layout, const ColumnInput& input,
             const ColumnRule& rule, InstructionSet set, OutsideCounts* outside)
      : layout_(layout),
        input_(input),
        program_(ColumnProgram::For(rule, input.size())),
        kernel_(ColumnKernelFor(set)),
        mixing_(input.mixing, input.rows.size(), set),
        sample_(layout.total_elements()),
        outside_(outside),
        tile_(std::max(input.size(), input.rows.size()) <= kFewRows ? kLongTile
                                                                    : kTile),
        stride_(tile_ + kSampledRun) {}

  absl::Status Run(ThreadPool* pool, UpdateSink* out) {
    const size_t elements = layout_.total_elements();
    for (size_t begin = 0; begin < elements; begin += kSlab) {
      const size_t count = std::min(kSlab, elements - begin);
      const size_t tiles = (count + tile_ - 1) / tile_;
      float* const window = out->Window(begin, count);
      std::vector<absl::Status> results(tiles);
      pool->ParallelFor(tiles, [&](size_t tile) {
        const size_t from = tile * tile_;
        const size_t length = std::min(tile_, count - from);
        std::unique_ptr<Workspace> workspace = Take();
        results[tile] =
            ReduceTile(begin + from, length, window + from, workspace.get());
        FinishColumnKernels();
        Return(std::move(workspace));
      });
      for (const absl::Status& result : results) ABSL_RETURN_IF_ERROR(result);
      ABSL_RETURN_IF_ERROR(out->Commit(begin, count));
    }
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<Workspace> Take() {
    {
      MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(idle_.back());
        idle_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>(input_.rows.size(), input_.size(),
                                       mixing_.mixed_rows(), stride_,
                                       program_.ScratchFloats());
  }
  void Return(std::unique_ptr<Workspace> workspace) {
    MutexLock lock(&mutex_);
    idle_.push_back(std::move(workspace));
  }

  // out: [count]
  absl::Status ReduceTile(size_t offset, size_t count, float* out,
                          Workspace* workspace) {
    ABSL_RETURN_IF_ERROR(Read(offset, count, workspace));
    const bool finite = mixing_.Mix(workspace->source_rows, count, stride_,
                                    workspace->mixed.get(), &workspace->rows) &&
                        ReduceRows(offset, count, out, workspace);
    return finite ? absl::OkStatus() : Culprit(offset, count, *workspace);
  }

  absl::Status Read(size_t offset, size_t count, Workspace* workspace) {
    for (size_t i = 0; i < input_.rows.size(); ++i) {
      const Row& row = input_.rows[i];
      auto values = row.values->Read(offset, count,
                                     workspace->scratch.get() + i * stride_);
      if (!values.ok()) return row.Blame(values.status());
      workspace->source_rows[i] = *values;
    }
    return absl::OkStatus();
  }

  // Run by run, where a run is sampled or lies between two that are. False if a
  // value is not finite.
  bool ReduceRows(size_t offset, size_t count, float* out,
                  Workspace* workspace) {
    size_t from = 0;
    while (from < count) {
      size_t to = count;
      bool sampled = false;
      if (outside_ != nullptr) {
        const size_t next = sample_.NextFrom(offset + from) - offset;
        sampled = next == from;
        to = std::min(count, sampled ? from + kSampledRun : next);
      }
      if (!ReduceRun(from, to - from, sampled, out + from, workspace)) {
        return false;
      }
      from = to;
    }
    return true;
  }

  bool ReduceRun(size_t from, size_t count, bool sampled, float* out,
                 Workspace* workspace) {
    for (size_t i = 0; i < workspace->rows.size(); ++i) {
      workspace->run_rows[i] = workspace->rows[i] + from;
    }
    float low[kSampledRun], high[kSampledRun];
    ColumnBlock block;
    block.rows = workspace->run_rows.data();
    block.count = count;
    block.out = out;
    block.low = sampled ? low : nullptr;
    block.high = sampled ? high : nullptr;
    if (!kernel_(program_, block, workspace->kernel.get())) return false;
    if (sampled) outside_->Add(workspace->run_rows, low, high, count);
    return true;
  }

  // Whose value is not finite, in a tile that has one.
  absl::Status Culprit(size_t offset, size_t count,
                       const Workspace& workspace) const {
    for (size_t i = 0; i < input_.rows.size(); ++i) {
      const float* const begin = workspace.source_rows[i];
      const float* const end = begin + count;
      const float* const bad =
          std::find_if(begin, end, [](float x) { return !std::isfinite(x); });
      if (bad == end) continue;
      const size_t element = offset + static_cast<size_t>(bad - begin);
      return input_.rows[i].Blame(absl::DataLossError(
          absl::StrCat(layout_.DescribeElement(element), " is ",
                       std::isnan(*bad) ? "NaN" : "infinite",
                       ", though it was checked on arrival")));
    }
    return absl::InternalError(absl::StrCat(
        "a mixture of finite values is not finite in fp32 in elements [",
        offset, ", ", offset + count, ")"));
  }

  const ModelLayout& layout_;
  const ColumnInput& input_;
  const ColumnProgram program_;
  const ColumnKernel kernel_;
  const RowMixing mixing_;
  const Sample sample_;
  OutsideCounts* const outside_;
  const size_t tile_;
  // Between rows that were copied: not a power of two, for then the same
  // columns of all rows would compete for the same places in the caches.
  const size_t stride_;

  Mutex mutex_;
  // As many as threads were ever busy at once.
  std::vector<std::unique_ptr<Workspace>> idle_ ABSL_GUARDED_BY(mutex_);
};

absl::Status CheckWeights(const std::vector<double>& weights, size_t m) {
  if (weights.size() != m) {
    return absl::InvalidArgumentError(absl::StrCat(
        "weighted median: ", weights.size(), " weights, expected ", m));
  }
  bool any = false;
  for (size_t i = 0; i < m; ++i) {
    if (!std::isfinite(weights[i]) || weights[i] < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("weighted median: weight ", i, " is ", weights[i],
                       ", expected a finite one >= 0"));
    }
    any = any || weights[i] > 0;
  }
  if (any) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "weighted median: all ", m, " weights are 0, expected one > 0"));
}

absl::Status CheckRule(const ColumnRule& rule, size_t m) {
  switch (rule.kind) {
    case ColumnRule::kMedian:
      return absl::OkStatus();
    case ColumnRule::kTrimmedMean:
      if (rule.trim < m - rule.trim && rule.trim < m) return absl::OkStatus();
      return absl::InvalidArgumentError(
          absl::StrCat("trimmed mean: trim of ", rule.trim,
                       " on each side, expected 2 trim < ", m, " rows"));
    case ColumnRule::kMeanAround:
      if (rule.keep >= 1 && rule.keep <= m) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat(
          "mean around the median: keep ", rule.keep, ", expected 1 to ", m));
    case ColumnRule::kWeightedMedian:
      return CheckWeights(rule.weights, m);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown column rule ", static_cast<int>(rule.kind)));
}

absl::Status CheckInput(const ColumnInput& input) {
  if (input.rows.empty()) {
    return absl::InvalidArgumentError("columns of 0 rows, expected 1 or more");
  }
  for (size_t i = 0; i < input.mixing.size(); ++i) {
    const std::vector<double>& row = input.mixing[i];
    if (row.size() != input.rows.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("mixing row ", i, ": ", row.size(),
                       " coefficients, expected ", input.rows.size()));
    }
    for (double coefficient : row) {
      if (std::isfinite(coefficient)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          "mixing row ", i, " has ", coefficient, ", expected finite numbers"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReduceColumns(const ModelLayout& layout, const ColumnInput& input,
                           const ColumnRule& rule,
                           InstructionSet instruction_set, ThreadPool* pool,
                           UpdateSink* out, OutsideShares* shares) {
  ABSL_RETURN_IF_ERROR(CheckInput(input));
  ABSL_RETURN_IF_ERROR(CheckRule(rule, input.size()));
  ABSL_ASSIGN_OR_RETURN(const InstructionSet set,
                        ResolveInstructionSet(instruction_set));
  OutsideCounts outside(input.size());
  ABSL_RETURN_IF_ERROR(ColumnPass(layout, input, rule, set,
                                  shares != nullptr ? &outside : nullptr)
                           .Run(pool, out));
  if (shares != nullptr) *shares = outside.Shares();
  return absl::OkStatus();
}

}  // namespace koinon::aggregation
