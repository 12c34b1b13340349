#include "aggregation/reference/pre_aggregations.h"

#include <algorithm>
#include <utility>

namespace koinon::aggregation {
namespace {

double NormOf(const std::vector<double>& row) {
  return ReferenceDistance(row, std::vector<double>(row.size()));
}

}  // namespace

ReferenceRows NormClippingReference(ReferenceRows rows, double norm) {
  for (auto& row : rows) {
    const double length = NormOf(row);
    if (length == 0) continue;
    for (double& x : row) x *= std::min(1.0, norm / length);
  }
  return rows;
}

ReferenceRows ArcReference(ReferenceRows rows, size_t f) {
  std::vector<double> lengths;
  for (const auto& row : rows) lengths.push_back(NormOf(row));
  std::sort(lengths.begin(), lengths.end());
  const size_t clipped = 2 * f * (rows.size() - f) / rows.size();
  return NormClippingReference(std::move(rows),
                               lengths[lengths.size() - clipped - 1]);
}

ReferenceRows NearestNeighbourMixingReference(const ReferenceRows& rows,
                                              size_t f) {
  ReferenceRows mixed;
  for (const auto& row : rows) {
    std::vector<std::pair<double, size_t>> order;
    for (size_t j = 0; j < rows.size(); ++j) {
      order.emplace_back(ReferenceDistance(row, rows[j]), j);
    }
    std::sort(order.begin(), order.end());
    std::vector<double> mean(row.size());
    for (size_t k = 0; k < rows.size() - f; ++k) {
      for (size_t j = 0; j < row.size(); ++j) {
        mean[j] += rows[order[k].second][j];
      }
    }
    for (double& x : mean) x /= static_cast<double>(rows.size() - f);
    mixed.push_back(mean);
  }
  return mixed;
}

std::vector<double> CosinesReference(const ReferenceRows& rows) {
  ReferenceRows directions = rows;
  for (auto& row : directions) {
    const double length = NormOf(row);
    for (double& x : row) x /= length;
  }
  const std::vector<double> centre = WeiszfeldReference(
      directions, std::vector<double>(rows.size(), 1), 1e-9, 500, false);
  std::vector<double> cosines;
  for (const auto& row : directions) {
    double dot = 0;
    for (size_t j = 0; j < row.size(); ++j) dot += row[j] * centre[j];
    cosines.push_back(dot / NormOf(centre));
  }
  return cosines;
}

}  // namespace koinon::aggregation
