#include "worker/data/dataset.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/status_macros.h"
#include "worker/data/numeric_array.h"
#include "worker/data/partition.h"
#include "worker/data/source.h"

namespace koinon::worker {
namespace {

constexpr double kDefaultHeldOutFraction = 0.2;

absl::StatusOr<SitePartition> PartitionLoaded(const DatasetConfig& config,
                                              const LoadedSource& loaded) {
  return Partition(config.partition(),
                   {.count = loaded.data.size(),
                    .labels = loaded.data.labels,
                    .groups = loaded.groups},
                   DeriveSeed(config.seed(), "partition"));
}

absl::StatusOr<double> HeldOutFraction(const DatasetConfig& config) {
  const bool separate = config.has_held_out_source();
  const double fraction = config.has_held_out_fraction()
                              ? config.held_out_fraction()
                          : separate ? 0
                                     : kDefaultHeldOutFraction;
  if (!(fraction >= 0 && fraction < 1) || (separate && fraction != 0)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "held_out_fraction: expected %s, found %g",
        separate ? "0 beside a held_out_source" : "a number in [0, 1)",
        fraction));
  }
  return fraction;
}

// Sets a seeded choice of `all` aside; both parts keep the order. At least one
// example stays to train on.
LocalData Split(const Dataset& all, double fraction, uint64_t seed) {
  std::vector<size_t> order(all.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Random random(seed);
  random.Shuffle(&order);
  size_t held_out = static_cast<size_t>(std::llround(fraction * all.size()));
  if (held_out >= all.size()) held_out = all.size() - 1;
  const auto middle = order.begin() + held_out;
  std::sort(order.begin(), middle);
  std::sort(middle, order.end());
  const absl::Span<const size_t> indices(order);
  LocalData local;
  local.held_out = all.Select(indices.subspan(0, held_out));
  local.train = all.Select(indices.subspan(held_out));
  return local;
}

absl::Status CheckSequencePartition(const PartitionConfig& partition) {
  ABSL_RETURN_IF_ERROR(CheckSite(partition));
  if (partition.has_contiguous() ||
      partition.kind_case() == PartitionConfig::KIND_NOT_SET) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "partition: sequences are dealt as contiguous and in no other way, for "
      "examples of one text overlap");
}

// Two texts must give a class the same meaning.
absl::Status CheckAlphabets(const DatasetConfig& config) {
  for (const Source* source : {&config.source(), &config.held_out_source()}) {
    if (config.has_held_out_source() && source->has_text() &&
        source->text().unit() == TextSource::CHARACTER &&
        source->text().alphabet().empty()) {
      return absl::InvalidArgumentError(
          "text.alphabet: expected the characters, for source and "
          "held_out_source may not hold the same");
    }
  }
  return absl::OkStatus();
}

// The site's share of a text.
absl::StatusOr<Dataset> ShareOf(const DatasetConfig& config,
                                const Dataset& data) {
  const PartitionConfig& partition = config.partition();
  ABSL_RETURN_IF_ERROR(CheckSequencePartition(partition));
  Dataset share = data;
  ABSL_ASSIGN_OR_RETURN(
      share.windows, data.windows.Share(partition.sites(), partition.site()));
  return share;
}

// A text is dealt out, and held out, in runs of tokens: examples may overlap.
absl::StatusOr<LocalData> SplitSequences(const DatasetConfig& config,
                                         const Dataset& all, double fraction) {
  Dataset share = all;
  if (config.has_partition()) {
    ABSL_ASSIGN_OR_RETURN(share, ShareOf(config, all));
  }
  LocalData local;
  local.train = local.held_out = share;
  ABSL_ASSIGN_OR_RETURN(std::tie(local.train.windows, local.held_out.windows),
                        share.windows.HoldOutTail(fraction));
  return local;
}

// The site's share of a separate file, which is always dealt IID.
absl::StatusOr<Dataset> LoadHeldOut(Env* env, const DatasetConfig& config) {
  ABSL_ASSIGN_OR_RETURN(LoadedSource loaded,
                        LoadSource(env, config, config.held_out_source()));
  if (!config.has_partition()) return std::move(loaded.data);
  const size_t sites = config.partition().sites();
  if (loaded.data.is_sequences()) return ShareOf(config, loaded.data);
  const SitePartition partition =
      PartitionIid(loaded.data.size(), sites,
                   DeriveSeed(config.seed(), "held-out partition"));
  return loaded.data.Select(partition[config.partition().site()]);
}

absl::StatusOr<LocalData> DeclareExternal(const DatasetConfig& config) {
  const ExternalSource& source = config.source().external();
  if (source.examples() < 1 || source.held_out_examples() < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "external: expected examples >= 1 and held_out_examples >= 0, found %d "
        "and %d",
        source.examples(), source.held_out_examples()));
  }
  if (config.has_held_out_source() || config.has_held_out_fraction() ||
      config.has_partition() || config.has_scale() || config.has_offset() ||
      !config.shape().empty() || config.regression()) {
    return absl::InvalidArgumentError(
        "external: expected no field beside name and source, for Koinon does "
        "not read the data");
  }
  LocalData local;
  local.external = true;
  local.train.name = local.held_out.name = config.name();
  local.declared_examples = source.examples();
  local.declared_held_out_examples = source.held_out_examples();
  return local;
}

absl::StatusOr<LocalData> LoadFiles(Env* env, const DatasetConfig& config) {
  ABSL_ASSIGN_OR_RETURN(const double fraction, HeldOutFraction(config));
  ABSL_RETURN_IF_ERROR(CheckAlphabets(config));
  ABSL_ASSIGN_OR_RETURN(LoadedSource loaded,
                        LoadSource(env, config, config.source()));
  LocalData local;
  if (loaded.data.is_sequences()) {
    ABSL_ASSIGN_OR_RETURN(local, SplitSequences(config, loaded.data, fraction));
  } else {
    if (config.has_partition()) {
      ABSL_ASSIGN_OR_RETURN(const SitePartition partition,
                            PartitionLoaded(config, loaded));
      loaded.data = loaded.data.Select(partition[config.partition().site()]);
    }
    local = Split(loaded.data, fraction, DeriveSeed(config.seed(), "held out"));
  }
  if (!config.has_held_out_source()) return local;
  ABSL_ASSIGN_OR_RETURN(local.held_out, LoadHeldOut(env, config));
  if (local.held_out.shape == local.train.shape &&
      local.held_out.target_size == local.train.target_size &&
      local.held_out.is_sequences() == local.train.is_sequences()) {
    local.held_out.windows.stride = local.held_out.windows.context;
    return local;
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "held_out_source: expected examples of shape %s, found %s",
      FormatShape(local.train.shape), FormatShape(local.held_out.shape)));
}

absl::Status Annotate(const DatasetConfig& config, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("dataset ", config.name(),
                                                  ": ", status.message()));
}

// Sites, and how many examples each has.
absl::StatusOr<std::string> DescribeShares(const DatasetConfig& config,
                                           const Dataset& data) {
  DatasetConfig site = config;
  std::vector<size_t> counts;
  for (int64_t i = 0; i < config.partition().sites(); ++i) {
    site.mutable_partition()->set_site(i);
    absl::StatusOr<Dataset> share = ShareOf(site, data);
    if (!share.ok()) return Annotate(config, share.status());
    counts.push_back(share->size());
  }
  return FormatSiteSizes(counts);
}

absl::Status CheckConfig(const DatasetConfig& config) {
  ABSL_RETURN_IF_ERROR(ValidateId("dataset name", config.name()));
  if (config.max_bytes() >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("max_bytes: expected >= 0, found ", config.max_bytes()));
}

}  // namespace

size_t Dataset::size() const {
  if (is_sequences()) return windows.size();
  return target_size == 0 ? labels.size() : targets.size() / target_size;
}

size_t Dataset::example_size() const {
  size_t size = 1;
  for (int64_t extent : shape) size *= extent;
  return size;
}

Dataset Dataset::Select(absl::Span<const size_t> indices) const {
  KOINON_CHECK(!is_sequences());
  Dataset selected;
  selected.name = name;
  selected.shape = shape;
  selected.target_size = target_size;
  const size_t width = example_size();
  selected.features.reserve(indices.size() * width);
  for (size_t i : indices) {
    const float* example = features.data() + i * width;
    selected.features.insert(selected.features.end(), example, example + width);
    if (target_size == 0) {
      selected.labels.push_back(labels[i]);
    } else {
      const float* target = targets.data() + i * target_size;
      selected.targets.insert(selected.targets.end(), target,
                              target + target_size);
    }
  }
  return selected;
}

int64_t LocalData::examples() const {
  return external ? declared_examples : static_cast<int64_t>(train.size());
}

int64_t LocalData::held_out_examples() const {
  return external ? declared_held_out_examples
                  : static_cast<int64_t>(held_out.size());
}

absl::StatusOr<LocalData> LoadLocalData(Env* env, const DatasetConfig& config) {
  ABSL_RETURN_IF_ERROR(CheckConfig(config));
  absl::StatusOr<LocalData> local = config.source().has_external()
                                        ? DeclareExternal(config)
                                        : LoadFiles(env, config);
  if (!local.ok()) return Annotate(config, local.status());
  return local;
}

absl::StatusOr<LocalDatasets> LoadLocalDatasets(
    Env* env, absl::Span<const DatasetConfig> configs) {
  LocalDatasets datasets;
  for (const DatasetConfig& config : configs) {
    if (datasets.count(config.name()) != 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "dataset ", config.name(), ": expected each name once, found twice"));
    }
    ABSL_ASSIGN_OR_RETURN(datasets[config.name()], LoadLocalData(env, config));
  }
  return datasets;
}

absl::StatusOr<std::string> DescribePartition(Env* env,
                                              const DatasetConfig& config) {
  ABSL_RETURN_IF_ERROR(CheckConfig(config));
  if (!config.has_partition()) {
    return Annotate(
        config, absl::InvalidArgumentError("expected a partition, found none"));
  }
  absl::StatusOr<LoadedSource> loaded =
      LoadSource(env, config, config.source());
  if (!loaded.ok()) return Annotate(config, loaded.status());
  if (loaded->data.is_sequences()) {
    return DescribeShares(config, loaded->data);
  }
  absl::StatusOr<SitePartition> partition = PartitionLoaded(config, *loaded);
  if (!partition.ok()) return Annotate(config, partition.status());
  return FormatPartitionTable(*partition, loaded->data.labels);
}

}  // namespace koinon::worker
