#include "aggregation/core/gram.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

constexpr size_t kBlock = 4096;

// The points of one block of columns, less the centre. [points][count]
class Block {
 public:
  Block(const ModelLayout& layout, absl::Span<const Row> rows, size_t n)
      : layout_(layout), rows_(rows), n_(n) {
    points_.resize(rows.size() + 1, std::vector<double>(kBlock));
  }

  absl::Status Load(size_t offset, size_t count, size_t centre) {
    std::vector<float> scratch(kBlock);
    for (size_t i = 0; i < rows_.size(); ++i) {
      auto values = rows_[i].values->Read(offset, count, scratch.data());
      if (!values.ok()) return rows_[i].Blame(values.status());
      std::vector<double>& point = points_[i < n_ ? i : i + 1];
      for (size_t j = 0; j < count; ++j) {
        const float x = (*values)[j];
        if (!std::isfinite(x)) {
          return rows_[i].Blame(absl::DataLossError(
              absl::StrCat(layout_.DescribeElement(offset + j), " is ",
                           std::isnan(x) ? "NaN" : "infinite",
                           ", though it was checked on arrival")));
        }
        point[j] = x;
      }
    }
    std::fill(points_[n_].begin(), points_[n_].end(), 0.0);
    const std::vector<double> c = points_[centre];
    for (std::vector<double>& point : points_) {
      for (size_t j = 0; j < count; ++j) point[j] -= c[j];
    }
    return absl::OkStatus();
  }

  double Dot(size_t i, size_t k, size_t count) const {
    double sum = 0;
    for (size_t j = 0; j < count; ++j) sum += points_[i][j] * points_[k][j];
    return sum;
  }

 private:
  const ModelLayout& layout_;
  const absl::Span<const Row> rows_;
  const size_t n_;
  std::vector<std::vector<double>> points_;
};

}  // namespace

absl::StatusOr<Gram> ComputeGram(const ModelLayout& layout,
                                 absl::Span<const Row> updates,
                                 const UpdateSource* previous,
                                 InstructionSet instruction_set,
                                 ThreadPool* pool) {
  KOINON_CHECK(!updates.empty());
  ABSL_RETURN_IF_ERROR(ResolveInstructionSet(instruction_set).status());
  Rows rows(updates.begin(), updates.end());
  if (previous != nullptr) rows.push_back({previous, nullptr});
  Gram gram;
  gram.n = updates.size();
  gram.has_previous = previous != nullptr;
  const size_t points = gram.points();
  gram.products.resize(points * points);
  Block block(layout, rows, gram.n);
  const size_t elements = layout.total_elements();
  for (size_t begin = 0; begin < elements; begin += kBlock) {
    const size_t count = std::min(kBlock, elements - begin);
    ABSL_RETURN_IF_ERROR(block.Load(begin, count, gram.n / 2));
    pool->ParallelFor(points, [&](size_t i) {
      for (size_t k = 0; k <= i; ++k) {
        const double sum = gram.At(i, k) + block.Dot(i, k, count);
        gram.products[i * points + k] = sum;
        gram.products[k * points + i] = sum;
      }
    });
  }
  return gram;
}

}  // namespace koinon::aggregation
