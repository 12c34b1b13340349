#include "aggregation/core/gram_pass.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "aggregation/core/gram_kernel.h"
#include "base/check.h"
#include "base/mutex.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// Read at once of each point: 16 KiB.
constexpr size_t kPiece = 4 * kGramBlock;
// One thread's share at a time.
constexpr size_t kStrip = 4 * kPiece;
// Packed rows that stay in the second-level cache while others meet them.
constexpr size_t kGroupsAtOnce = 40;
// Up to so many rows, the next block's raw values have room beside them.
constexpr size_t kRowsFetchedAhead = 200;
// Sums of strips that wait for being added up in order.
constexpr size_t kWaitingBytes = size_t{32} << 20;
// A sample's columns lie in runs of so many.
constexpr size_t kSampleRun = 64;

// Between these, neither a product nor a block's sum of products leaves fp32's
// range, and what is lost below it is 2^-36 of a row's squared norm at most.
constexpr uint32_t kSmallest = std::bit_cast<uint32_t>(0x1p-40f);
constexpr uint32_t kLargest = std::bit_cast<uint32_t>(0x1p+40f);

constexpr float kZeros[kPiece] = {};

// Uninitialised, so that pages are taken when they are written, and aligned.
class Floats {
 public:
  explicit Floats(size_t count)
      : data_(static_cast<float*>(
            ::operator new(count * sizeof(float), std::align_val_t(64)))) {}
  float* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* data) const {
      ::operator delete(data, std::align_val_t(64));
    }
  };
  std::unique_ptr<float, Free> data_;
};

// Rows in groups of nearly the same size, and the tiles that pairs of groups
// make: tile (g, h), h <= g, has kGramSums sums.
struct Groups {
  size_t rows = 0;
  size_t count = 0;

  explicit Groups(size_t n)
      : rows(n), count((n + kGramGroup - 1) / kGramGroup) {}
  size_t First(size_t group) const { return group * rows / count; }
  size_t Size(size_t group) const { return First(group + 1) - First(group); }
  size_t Tiles() const { return count * (count + 1) / 2; }
  size_t Sums() const { return Tiles() * kGramSums; }
};
inline size_t TileIndex(size_t g, size_t h) { return g * (g + 1) / 2 + h; }

// A value that is not finite: of which point, and where in the block.
struct BadValue {
  size_t point;
  size_t column;
};

// One block of columns of all points: packs them and adds their products.
class BlockPass {
 public:
  BlockPass(InstructionSet set, size_t points, size_t centre)
      : kernel_(GramKernelOf(set)),
        centre_(centre),
        groups_(points - 1),
        panel_(groups_.rows * kGramBlock),
        exponents_(groups_.rows) {}

  const Groups& groups() const { return groups_; }
  // Of the r-th packed row: all points but the centre.
  size_t PointOf(size_t r) const { return r < centre_ ? r : r + 1; }

  // values: [points][count]; ahead: [points], the next block's, or empty; sums:
  // [groups().Sums()]. False if a value is not finite, with its place.
  bool Run(absl::Span<const float* const> values,
           absl::Span<const float* const> ahead, size_t count, double* sums,
           BadValue* bad) {
    scaled_ = false;
    for (size_t g = 0; g < groups_.count; ++g) {
      if (!Pack(g, values, ahead, count, bad)) return false;
    }
    const size_t steps = (count + kGramLanes - 1) / kGramLanes;
    FlushSubnormals flush;
    for (size_t first = 0; first < groups_.count; first += kGroupsAtOnce) {
      for (size_t g = first; g < groups_.count; ++g) {
        const size_t last = std::min(g, first + kGroupsAtOnce - 1);
        for (size_t h = first; h <= last; ++h) {
          AddTile(g, h, steps, ahead, sums);
        }
      }
    }
    return true;
  }

 private:
  float* Panel(size_t group) const {
    return panel_.get() + groups_.First(group) * kGramBlock;
  }

  bool Pack(size_t group, absl::Span<const float* const> values,
            absl::Span<const float* const> ahead, size_t count, BadValue* bad) {
    const size_t first = groups_.First(group);
    const size_t size = groups_.Size(group);
    for (size_t r = 0; r < size; ++r) {
      const size_t point = PointOf(first + r);
      GramRow row;
      row.x = values[point];
      row.centre = values[centre_];
      row.count = count;
      row.rows = size;
      row.ahead = ahead.empty() ? row.x : ahead[point];
      row.packed = Panel(group) + r * kGramLanes;
      const uint32_t largest = kernel_.pack(row);
      exponents_[first + r] = 0;
      if (largest == 0 || (largest >= kSmallest && largest <= kLargest)) {
        continue;
      }
      if (FindBad(values, point, count, bad) ||
          FindBad(values, centre_, count, bad)) {
        return false;
      }
      exponents_[first + r] = PackScaled(row);
      scaled_ = true;
    }
    return true;
  }

  static bool FindBad(absl::Span<const float* const> values, size_t point,
                      size_t count, BadValue* bad) {
    for (size_t j = 0; j < count; ++j) {
      if (std::isfinite(values[point][j])) continue;
      *bad = {point, j};
      return true;
    }
    return false;
  }

  // Packs again, divided by 2^exponent, so that the largest is in [1, 2].
  // Returns the exponent.
  static int PackScaled(const GramRow& row) {
    const auto difference = [&](size_t j) {
      return static_cast<double>(row.x[j]) - static_cast<double>(row.centre[j]);
    };
    double largest = 0;
    for (size_t j = 0; j < row.count; ++j) {
      largest = std::max(largest, std::fabs(difference(j)));
    }
    const int exponent = std::ilogb(largest);
    const double scale = std::scalbn(1.0, -exponent);
    for (size_t j = 0; j < row.count; ++j) {
      row.packed[j / kGramLanes * row.rows * kGramLanes + j % kGramLanes] =
          static_cast<float>(difference(j) * scale);
    }
    return exponent;
  }

  void AddTile(size_t g, size_t h, size_t steps,
               absl::Span<const float* const> ahead, double* sums) {
    const size_t index = TileIndex(g, h);
    GramTile tile;
    tile.a = Panel(g);
    tile.b = Panel(h);
    tile.rows_a = groups_.Size(g);
    tile.rows_b = groups_.Size(h);
    tile.steps = steps;
    tile.sums = sums + index * kGramSums;
    for (size_t k = 0; k < 4; ++k) tile.ahead[k] = tile.a;
    if (!ahead.empty()) {
      // What packing leaves of the next block, spread evenly over the tiles.
      const size_t quarters = 3 * groups_.rows;
      const size_t first = index * quarters / groups_.Tiles();
      const size_t last = (index + 1) * quarters / groups_.Tiles();
      for (size_t q = first; q < std::min(last, first + 4); ++q) {
        tile.ahead[q - first] =
            ahead[PointOf(q / 3)] + (1 + q % 3) * kGramFetch;
      }
    }
    double factors[kGramSums] = {};
    if (scaled_) {
      for (size_t r = 0; r < tile.rows_a; ++r) {
        for (size_t c = 0; c < tile.rows_b; ++c) {
          factors[r * tile.rows_b + c] =
              std::scalbn(1.0, exponents_[groups_.First(g) + r] +
                                   exponents_[groups_.First(h) + c]);
        }
      }
      tile.factors = factors;
    }
    kernel_.dots(tile);
  }

  const GramKernel kernel_;
  const size_t centre_;
  const Groups groups_;
  const Floats panel_;          // [groups][steps][rows of group][kGramLanes]
  std::vector<int> exponents_;  // [rows]
  bool scaled_ = false;         // whether an exponent of the block is not 0
};

absl::Status Blame(const GramOptions& options, const Row& point, float value,
                   size_t element) {
  return point.Blame(absl::DataLossError(
      absl::StrCat(options.layout.DescribeElement(element), " is ",
                   std::isnan(value) ? "NaN" : "infinite",
                   ", though it was checked on arrival")));
}

CentredProducts Unpack(const BlockPass& pass, size_t points, size_t centre,
                       const double* sums) {
  CentredProducts products;
  products.points = points;
  products.centre = centre;
  products.values.resize(points * points);
  const Groups& groups = pass.groups();
  for (size_t g = 0; g < groups.count; ++g) {
    for (size_t h = 0; h <= g; ++h) {
      const double* tile = sums + TileIndex(g, h) * kGramSums;
      for (size_t r = 0; r < groups.Size(g); ++r) {
        const size_t columns = g == h ? r + 1 : groups.Size(h);
        for (size_t c = 0; c < columns; ++c) {
          products.Set(pass.PointOf(groups.First(g) + r),
                       pass.PointOf(groups.First(h) + c),
                       tile[r * groups.Size(h) + c]);
        }
      }
    }
  }
  return products;
}

// What one thread needs while it works on a strip.
class StripPass {
 public:
  StripPass(const GramOptions& options, absl::Span<const Row> points,
            size_t centre)
      : options_(options),
        points_(points),
        block_(options.instruction_set, points.size(), centre),
        scratch_(2 * points.size() * kPiece) {
    for (auto& piece : pieces_) piece.resize(points.size());
    values_.resize(points.size());
    ahead_.resize(points.size());
  }

  const BlockPass& block() const { return block_; }

  absl::Status Run(size_t begin, size_t end, double* sums) {
    ABSL_RETURN_IF_ERROR(Read(begin, end, 0));
    size_t now = 0;
    for (size_t piece = begin; piece < end; piece += kPiece, now = 1 - now) {
      const size_t next = piece + kPiece;
      if (next < end) ABSL_RETURN_IF_ERROR(Read(next, end, 1 - now));
      const size_t count = std::min(kPiece, end - piece);
      for (size_t from = 0; from < count; from += kGramBlock) {
        for (size_t i = 0; i < points_.size(); ++i) {
          values_[i] = pieces_[now][i] + from;
          ahead_[i] = from + kGramBlock < count ? values_[i] + kGramBlock
                                                : pieces_[1 - now][i];
        }
        const bool more = from + kGramBlock < count || next < end;
        const bool fetch = more && points_.size() <= kRowsFetchedAhead;
        BadValue bad;
        if (!block_.Run(values_, fetch ? ahead_ : kNothing,
                        std::min(kGramBlock, count - from), sums, &bad)) {
          return Blame(options_, points_[bad.point],
                       values_[bad.point][bad.column],
                       piece + from + bad.column);
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  static inline const std::vector<const float*> kNothing = {};

  absl::Status Read(size_t offset, size_t end, size_t slot) {
    const size_t count = std::min(kPiece, end - offset);
    for (size_t i = 0; i < points_.size(); ++i) {
      if (points_[i].values == nullptr) {
        pieces_[slot][i] = kZeros;
        continue;
      }
      auto values = points_[i].values->Read(
          offset, count, scratch_.get() + (slot * points_.size() + i) * kPiece);
      if (!values.ok()) return points_[i].Blame(values.status());
      pieces_[slot][i] = *values;
    }
    return absl::OkStatus();
  }

  const GramOptions& options_;
  const absl::Span<const Row> points_;
  BlockPass block_;
  const Floats scratch_;  // [2][points][kPiece]
  std::vector<const float*> pieces_[2];
  std::vector<const float*> values_;
  std::vector<const float*> ahead_;
};

// As many passes as threads were ever busy at once.
class StripPasses {
 public:
  StripPasses(const GramOptions& options, absl::Span<const Row> points,
              size_t centre)
      : options_(options), points_(points), centre_(centre) {}

  std::unique_ptr<StripPass> Take() {
    {
      MutexLock lock(&mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<StripPass> pass = std::move(idle_.back());
        idle_.pop_back();
        return pass;
      }
    }
    return std::make_unique<StripPass>(options_, points_, centre_);
  }
  void Return(std::unique_ptr<StripPass> pass) {
    MutexLock lock(&mutex_);
    idle_.push_back(std::move(pass));
  }

 private:
  const GramOptions& options_;
  const absl::Span<const Row> points_;
  const size_t centre_;
  Mutex mutex_;
  std::vector<std::unique_ptr<StripPass>> idle_ ABSL_GUARDED_BY(mutex_);
};

struct FreeDoubles {
  void operator()(double* data) const {
    ::operator delete[](data, std::align_val_t(64));
  }
};
using Doubles = std::unique_ptr<double[], FreeDoubles>;

Doubles Zeros(size_t count) {
  Doubles zeros(new (std::align_val_t(64)) double[count]);
  std::fill_n(zeros.get(), count, 0.0);
  return zeros;
}

}  // namespace

absl::StatusOr<CentredProducts> ComputeCentredProducts(
    const GramOptions& options, absl::Span<const Row> points, size_t centre) {
  KOINON_CHECK(centre < points.size());
  const size_t elements = options.layout.total_elements();
  const size_t strips = (elements + kStrip - 1) / kStrip;
  StripPasses passes(options, points, centre);
  std::unique_ptr<StripPass> any = passes.Take();
  const size_t sums = any->block().groups().Sums();
  passes.Return(std::move(any));
  Doubles total = Zeros(sums);
  const auto threads = static_cast<size_t>(options.pool->threads());
  const size_t wave = std::min(
      strips, std::max(threads, kWaitingBytes / sizeof(double) / (sums + 1)));
  std::vector<Doubles> waiting(wave);
  std::vector<absl::Status> results(wave);
  for (size_t first = 0; first < strips; first += wave) {
    const size_t count = std::min(wave, strips - first);
    options.pool->ParallelFor(count, [&](size_t i) {
      const size_t begin = (first + i) * kStrip;
      waiting[i] = Zeros(sums);
      std::unique_ptr<StripPass> pass = passes.Take();
      results[i] = pass->Run(begin, std::min(elements, begin + kStrip),
                             waiting[i].get());
      passes.Return(std::move(pass));
    });
    for (size_t i = 0; i < count; ++i) {
      ABSL_RETURN_IF_ERROR(results[i]);
      for (size_t k = 0; k < sums; ++k) total[k] += waiting[i][k];
    }
  }
  return Unpack(passes.Take()->block(), points.size(), centre, total.get());
}

absl::StatusOr<CentredProducts> SampleCentredProducts(
    const GramOptions& options, absl::Span<const Row> points, size_t centre) {
  KOINON_CHECK(centre < points.size());
  const size_t elements = options.layout.total_elements();
  const size_t count = std::min(elements, kGramBlock);
  const size_t runs = (count + kSampleRun - 1) / kSampleRun;
  const auto element = [&](size_t column) {
    if (count == elements) return column;
    const size_t first =
        column / kSampleRun * (elements - kSampleRun) / (runs - 1);
    return first + column % kSampleRun;
  };
  const Floats sample(points.size() * kGramBlock);
  std::vector<const float*> values;
  for (size_t i = 0; i < points.size(); ++i) {
    float* const to = sample.get() + i * kGramBlock;
    values.push_back(to);
    for (size_t column = 0; column < count; column += kSampleRun) {
      const size_t run = std::min(kSampleRun, count - column);
      if (points[i].values == nullptr) {
        std::fill_n(to + column, run, 0.0f);
        continue;
      }
      auto read = points[i].values->Read(element(column), run, to + column);
      if (!read.ok()) return points[i].Blame(read.status());
      if (*read != to + column) std::copy_n(*read, run, to + column);
    }
  }
  BlockPass block(options.instruction_set, points.size(), centre);
  const Doubles sums = Zeros(block.groups().Sums());
  BadValue bad;
  if (!block.Run(values, {}, count, sums.get(), &bad)) {
    return Blame(options, points[bad.point], values[bad.point][bad.column],
                 element(bad.column));
  }
  return Unpack(block, points.size(), centre, sums.get());
}

}  // namespace koinon::aggregation
