#include "aggregation/reference/columns.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

namespace koinon::aggregation {
namespace {

using Column = std::vector<float>;

bool Before(float a, float b) {
  return a < b || (a == b && std::signbit(a) && !std::signbit(b));
}

// The column's kept values, ascending, and their mean.
using Keep = std::function<Column(const Column& column, const Column& sorted)>;

ReferenceColumns ForEachColumn(absl::Span<const std::vector<float>> rows,
                               const Keep& keep) {
  ReferenceColumns reference;
  for (size_t j = 0; j < rows[0].size(); ++j) {
    Column column;
    for (const std::vector<float>& row : rows) column.push_back(row[j]);
    Column sorted = column;
    std::sort(sorted.begin(), sorted.end(), Before);
    const Column kept = keep(column, sorted);
    long double sum = -0.0L;
    long double magnitude = 0;
    for (float x : kept) {
      sum += x;
      magnitude += std::fabs(x);
    }
    const auto count = static_cast<long double>(kept.size());
    reference.value.push_back(static_cast<double>(sum / count));
    reference.magnitude.push_back(static_cast<double>(magnitude / count));
    reference.low.push_back(kept.front());
    reference.high.push_back(kept.back());
  }
  return reference;
}

Column Ranks(const Column& sorted, size_t first, size_t count) {
  const auto begin = sorted.begin() + static_cast<ptrdiff_t>(first);
  return Column(begin, begin + static_cast<ptrdiff_t>(count));
}

Column Middles(const Column& sorted) {
  const size_t n = sorted.size();
  return Ranks(sorted, (n - 1) / 2, n % 2 == 0 ? 2 : 1);
}

}  // namespace

ReferenceColumns MedianReference(absl::Span<const std::vector<float>> rows) {
  return ForEachColumn(rows, [](const Column&, const Column& sorted) {
    return Middles(sorted);
  });
}

ReferenceColumns TrimmedMeanReference(absl::Span<const std::vector<float>> rows,
                                      size_t trim) {
  return ForEachColumn(rows, [trim](const Column&, const Column& sorted) {
    return Ranks(sorted, trim, sorted.size() - 2 * trim);
  });
}

ReferenceColumns MeanAroundReference(absl::Span<const std::vector<float>> rows,
                                     size_t keep) {
  return ForEachColumn(rows, [keep](const Column&, const Column& sorted) {
    const Column middles = Middles(sorted);
    const long double median =
        (static_cast<long double>(middles.front()) + middles.back()) / 2;
    Column nearest = sorted;
    // Stable: of two equally near, the smaller first.
    std::stable_sort(nearest.begin(), nearest.end(),
                     [median](float a, float b) {
                       return std::fabs(a - median) < std::fabs(b - median);
                     });
    nearest.resize(keep);
    std::sort(nearest.begin(), nearest.end(), Before);
    return nearest;
  });
}

ReferenceColumns WeightedMedianReference(
    absl::Span<const std::vector<float>> rows,
    absl::Span<const double> weights) {
  return ForEachColumn(rows,
                       [weights](const Column& column, const Column& sorted) {
                         long double total = 0;
                         for (double weight : weights) total += weight;
                         for (float value : sorted) {
                           long double at_most = 0;
                           for (size_t i = 0; i < column.size(); ++i) {
                             if (!Before(value, column[i]))
                               at_most += weights[i];
                           }
                           if (at_most >= total / 2) return Column{value};
                         }
                         return Column{sorted.back()};
                       });
}

double ColumnTolerance(const ReferenceColumns& reference, size_t j) {
  return std::max(0x1p-24 * std::fabs(reference.value[j]), 0x1p-150) +
         0x1p-40 * reference.magnitude[j];
}

}  // namespace koinon::aggregation
