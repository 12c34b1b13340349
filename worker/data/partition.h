#ifndef KOINON_WORKER_DATA_PARTITION_H_
#define KOINON_WORKER_DATA_PARTITION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/data/dataset.pb.h"

namespace koinon::worker {

// Deals one dataset out over simulated sites. Every function returns, for each
// site, the ascending indices of its examples: disjoint, together all of them,
// none empty. The same arguments give the same partition on every machine.
using SitePartition = std::vector<std::vector<size_t>>;

// What the examples say about where they belong.
struct Examples {
  size_t count = 0;
  absl::Span<const int32_t> labels = {};      // [count]; empty for regression
  absl::Span<const std::string> groups = {};  // [count]; empty without a column
};

// By config.kind; IID if that is not set. INVALID_ARGUMENT, naming the field:
// sites or site out of range, fewer examples than sites, alpha not positive and
// finite, a partition by class of data without classes, and where a site would
// stay empty:
//  - dirichlet: after kMaxDraws draws none gave each site min_examples;
//  - shards: fewer examples than shards;
//  - by_column: fewer distinct texts than sites.
absl::StatusOr<SitePartition> Partition(const PartitionConfig& config,
                                        const Examples& examples,
                                        uint64_t seed);

// INVALID_ARGUMENT, naming the field, for sites or a site out of range.
absl::Status CheckSite(const PartitionConfig& config);

// Draws of a Dirichlet partition before it is given up.
inline constexpr int kMaxDraws = 1000;
inline constexpr int64_t kMaxSites = 1'000'000;

// Sites of equal size (give or take one), at random.
SitePartition PartitionIid(size_t count, size_t sites, uint64_t seed);

// Runs of equal size (give or take one), in order.
SitePartition PartitionContiguous(size_t count, size_t sites);

// A table for people, with each site's number of examples.
std::string FormatSiteSizes(absl::Span<const size_t> sizes);

// A table for people: a row for each site, a column for each class, totals.
// Without labels only the sites' sizes.
std::string FormatPartitionTable(const SitePartition& partition,
                                 absl::Span<const int32_t> labels);

}  // namespace koinon::worker

#endif  // KOINON_WORKER_DATA_PARTITION_H_
