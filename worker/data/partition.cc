#include "worker/data/partition.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/random.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

constexpr int64_t kDefaultMinExamples = 10;
constexpr int64_t kDefaultShardsPerSite = 2;

std::vector<size_t> AllIndices(size_t count) {
  std::vector<size_t> indices(count);
  std::iota(indices.begin(), indices.end(), size_t{0});
  return indices;
}

void SortEach(SitePartition* partition) {
  for (std::vector<size_t>& site : *partition) {
    std::sort(site.begin(), site.end());
  }
}

// Examples of each class, ascending.
std::map<int32_t, std::vector<size_t>> ByClass(
    absl::Span<const int32_t> labels) {
  std::map<int32_t, std::vector<size_t>> classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(i);
  return classes;
}

// Deals `indices` in proportion to `shares`, which sum to 1.
void DealByShares(const std::vector<size_t>& indices,
                  const std::vector<double>& shares, SitePartition* partition) {
  double cumulative = 0;
  size_t begin = 0;
  for (size_t site = 0; site < shares.size(); ++site) {
    cumulative += shares[site];
    const bool last = site + 1 == shares.size();
    // Rounding could leave the last examples to nobody.
    const size_t end =
        last ? indices.size()
             : std::clamp<size_t>(std::llround(cumulative * indices.size()),
                                  begin, indices.size());
    (*partition)[site].insert((*partition)[site].end(), &indices[0] + begin,
                              &indices[0] + end);
    begin = end;
  }
}

SitePartition DrawDirichlet(
    const std::map<int32_t, std::vector<size_t>>& classes, double alpha,
    size_t sites, Random* random) {
  SitePartition partition(sites);
  for (const auto& [label, members] : classes) {
    std::vector<size_t> shuffled = members;
    random->Shuffle(&shuffled);
    DealByShares(shuffled, random->NextDirichlet(alpha, sites), &partition);
  }
  return partition;
}

size_t SmallestSite(const SitePartition& partition) {
  size_t smallest = partition[0].size();
  for (const auto& site : partition) smallest = std::min(smallest, site.size());
  return smallest;
}

absl::StatusOr<SitePartition> PartitionDirichlet(
    const PartitionConfig::Dirichlet& config, const Examples& examples,
    size_t sites, uint64_t seed) {
  if (!(config.alpha() > 0) || !std::isfinite(config.alpha())) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "partition.dirichlet.alpha: expected a finite number > 0, found %g",
        config.alpha()));
  }
  if (config.min_examples() < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "partition.dirichlet.min_examples: expected >= 0, found %d",
        config.min_examples()));
  }
  // The default asks for no more than half of an equal share, which is at least
  // one example.
  const int64_t half_share = examples.count / sites / 2;
  const size_t wanted =
      config.min_examples() > 0
          ? config.min_examples()
          : std::clamp<int64_t>(half_share, 1, kDefaultMinExamples);
  const auto classes = ByClass(examples.labels);
  Random random(seed);
  for (int draw = 0; draw < kMaxDraws; ++draw) {
    SitePartition partition =
        DrawDirichlet(classes, config.alpha(), sites, &random);
    if (SmallestSite(partition) < wanted) continue;
    SortEach(&partition);
    return partition;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "partition.dirichlet: none of %d draws with alpha %g gave each of %d "
      "sites %d of %d examples; raise alpha, or lower min_examples or sites",
      kMaxDraws, config.alpha(), sites, wanted, examples.count));
}

absl::StatusOr<SitePartition> PartitionShards(
    const PartitionConfig::Shards& config, const Examples& examples,
    size_t sites, uint64_t seed) {
  const int64_t per_site =
      config.per_site() == 0 ? kDefaultShardsPerSite : config.per_site();
  const int64_t most = static_cast<int64_t>(examples.count / sites);
  if (per_site < 1 || per_site > most) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "partition.shards.per_site: expected 1 to %d for %d examples over %d "
        "sites, found %d",
        most, examples.count, sites, per_site));
  }
  std::vector<size_t> by_class = AllIndices(examples.count);
  std::stable_sort(by_class.begin(), by_class.end(), [&](size_t a, size_t b) {
    return examples.labels[a] < examples.labels[b];
  });
  const size_t shards = sites * per_site;
  std::vector<size_t> order = AllIndices(shards);
  Random random(seed);
  random.Shuffle(&order);
  SitePartition partition(sites);
  for (size_t i = 0; i < shards; ++i) {
    // The quotients of successive shards differ by at most one.
    const size_t begin = order[i] * examples.count / shards;
    const size_t end = (order[i] + 1) * examples.count / shards;
    std::vector<size_t>& site = partition[i / per_site];
    site.insert(site.end(), &by_class[0] + begin, &by_class[0] + end);
  }
  SortEach(&partition);
  return partition;
}

// Texts are dealt in ascending order, like cards.
absl::StatusOr<SitePartition> PartitionByColumn(
    const PartitionConfig::ByColumn& config, const Examples& examples,
    size_t sites) {
  std::map<std::string, size_t> site_of;
  for (const std::string& group : examples.groups) site_of[group] = 0;
  if (site_of.size() < sites) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "partition.by_column: expected at least %d distinct texts in column "
        "\"%s\", one for each site, found %d",
        sites, config.column(), site_of.size()));
  }
  size_t next = 0;
  for (auto& [group, site] : site_of) site = next++ % sites;
  SitePartition partition(sites);
  for (size_t i = 0; i < examples.count; ++i) {
    partition[site_of[examples.groups[i]]].push_back(i);
  }
  return partition;
}

absl::Status CheckSites(const PartitionConfig& config, size_t count) {
  ABSL_RETURN_IF_ERROR(CheckSite(config));
  if (static_cast<size_t>(config.sites()) <= count) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "partition.sites: expected at most one site for each of %d examples, "
      "found %d",
      count, config.sites()));
}

}  // namespace

absl::Status CheckSite(const PartitionConfig& config) {
  const int64_t sites = config.sites();
  if (sites < 1 || sites > kMaxSites) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "partition.sites: expected 1 to %d, found %d", kMaxSites, sites));
  }
  if (config.site() < 0 || config.site() >= sites) {
    return absl::InvalidArgumentError(
        absl::StrFormat("partition.site: expected 0 to %d, found %d", sites - 1,
                        config.site()));
  }
  return absl::OkStatus();
}

SitePartition PartitionContiguous(size_t count, size_t sites) {
  SitePartition partition(sites);
  size_t next = 0;
  for (size_t site = 0; site < sites; ++site) {
    const size_t size = count / sites + (site < count % sites ? 1 : 0);
    partition[site].resize(size);
    std::iota(partition[site].begin(), partition[site].end(), next);
    next += size;
  }
  return partition;
}

std::string FormatSiteSizes(absl::Span<const size_t> sizes) {
  std::string table = absl::StrFormat("%-6s%8s\n", "site", "total");
  size_t total = 0;
  for (size_t site = 0; site < sizes.size(); ++site) {
    absl::StrAppendFormat(&table, "%-6d%8d\n", site, sizes[site]);
    total += sizes[site];
  }
  absl::StrAppendFormat(&table, "%-6s%8d\n", "all", total);
  return table;
}

SitePartition PartitionIid(size_t count, size_t sites, uint64_t seed) {
  std::vector<size_t> order = AllIndices(count);
  Random random(seed);
  random.Shuffle(&order);
  SitePartition partition(sites);
  for (size_t i = 0; i < count; ++i) partition[i % sites].push_back(order[i]);
  SortEach(&partition);
  return partition;
}

absl::StatusOr<SitePartition> Partition(const PartitionConfig& config,
                                        const Examples& examples,
                                        uint64_t seed) {
  ABSL_RETURN_IF_ERROR(CheckSites(config, examples.count));
  const size_t sites = config.sites();
  const bool by_class = config.has_dirichlet() || config.has_shards();
  if (by_class && examples.labels.empty()) {
    return absl::InvalidArgumentError(
        "partition: dirichlet and shards go by class, and the data has none; "
        "use iid or by_column");
  }
  if (config.has_by_column() && examples.groups.empty()) {
    return absl::InvalidArgumentError(
        "partition.by_column: only a csv source has columns");
  }
  switch (config.kind_case()) {
    case PartitionConfig::kDirichlet:
      return PartitionDirichlet(config.dirichlet(), examples, sites, seed);
    case PartitionConfig::kShards:
      return PartitionShards(config.shards(), examples, sites, seed);
    case PartitionConfig::kByColumn:
      return PartitionByColumn(config.by_column(), examples, sites);
    case PartitionConfig::kContiguous:
      return PartitionContiguous(examples.count, sites);
    case PartitionConfig::kIid:
    case PartitionConfig::KIND_NOT_SET:
      break;
  }
  return PartitionIid(examples.count, sites, seed);
}

std::string FormatPartitionTable(const SitePartition& partition,
                                 absl::Span<const int32_t> labels) {
  std::map<int32_t, size_t> column_of;
  for (int32_t label : labels) column_of[label] = 0;
  size_t next = 0;
  for (auto& [label, column] : column_of) column = next++;

  std::string table = absl::StrFormat("%-6s%8s", "site", "total");
  for (const auto& [label, column] : column_of) {
    absl::StrAppendFormat(&table, "%7d", label);
  }
  const auto append_row = [&table](const std::string& name, size_t total,
                                   const std::vector<size_t>& counts) {
    absl::StrAppendFormat(&table, "\n%-6s%8d", name, total);
    for (size_t count : counts) absl::StrAppendFormat(&table, "%7d", count);
  };
  std::vector<size_t> sums(column_of.size(), 0);
  size_t total = 0;
  for (size_t site = 0; site < partition.size(); ++site) {
    std::vector<size_t> counts(column_of.size(), 0);
    if (!labels.empty()) {
      for (size_t i : partition[site]) ++counts[column_of[labels[i]]];
    }
    for (size_t c = 0; c < counts.size(); ++c) sums[c] += counts[c];
    total += partition[site].size();
    append_row(absl::StrCat(site), partition[site].size(), counts);
  }
  append_row("all", total, sums);
  table.push_back('\n');
  return table;
}

}  // namespace koinon::worker
