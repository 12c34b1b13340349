#include "worker/data/partition.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<int32_t> Labels(size_t count, int classes) {
  std::vector<int32_t> labels(count);
  for (size_t i = 0; i < count; ++i) {
    labels[i] = static_cast<int32_t>(RandomAt(1, i) % classes);
  }
  return labels;
}

PartitionConfig Sites(int64_t sites) {
  PartitionConfig config;
  config.set_sites(sites);
  return config;
}

PartitionConfig ContiguousOver(int64_t sites) {
  PartitionConfig config = Sites(sites);
  config.mutable_contiguous();
  return config;
}

PartitionConfig DirichletOver(int64_t sites, double alpha) {
  PartitionConfig config = Sites(sites);
  config.mutable_dirichlet()->set_alpha(alpha);
  return config;
}

PartitionConfig ShardsOver(int64_t sites, int64_t per_site) {
  PartitionConfig config = Sites(sites);
  config.mutable_shards()->set_per_site(per_site);
  return config;
}

// Disjoint, covering, ascending, none empty.
void ExpectPartition(const SitePartition& partition, size_t sites,
                     size_t count) {
  EXPECT_EQ(partition.size(), sites);
  std::set<size_t> seen;
  size_t total = 0;
  for (const auto& site : partition) {
    EXPECT_FALSE(site.empty());
    EXPECT_TRUE(std::is_sorted(site.begin(), site.end()));
    seen.insert(site.begin(), site.end());
    total += site.size();
  }
  EXPECT_EQ(total, count);
  EXPECT_EQ(seen.size(), count);
  EXPECT_LT(*seen.rbegin(), count);
}

TEST(Partition, EveryKind_IsAPartitionForManySeedsAndSizes) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (size_t count : {50, 333}) {
      const std::vector<int32_t> labels = Labels(count, 5);
      const Examples examples{.count = count, .labels = labels};
      for (int64_t sites : {1, 3, 7}) {
        for (const PartitionConfig& config :
             {Sites(sites), ContiguousOver(sites), DirichletOver(sites, 0.5),
              ShardsOver(sites, 2)}) {
          ASSERT_OK_AND_ASSIGN(const SitePartition partition,
                               Partition(config, examples, seed));
          ExpectPartition(partition, sites, count);
        }
      }
    }
  }
}

TEST(Partition, SameSeed_GivesTheSame_AnotherSeedAnother) {
  const std::vector<int32_t> labels = Labels(200, 5);
  const Examples examples{.count = 200, .labels = labels};
  for (const PartitionConfig& config :
       {Sites(4), DirichletOver(4, 0.5), ShardsOver(4, 2)}) {
    ASSERT_OK_AND_ASSIGN(const auto one, Partition(config, examples, 1));
    ASSERT_OK_AND_ASSIGN(const auto again, Partition(config, examples, 1));
    ASSERT_OK_AND_ASSIGN(const auto other, Partition(config, examples, 2));
    EXPECT_EQ(one, again);
    EXPECT_NE(one, other);
  }
}

TEST(PartitionIid, Sizes_DifferByAtMostOne) {
  for (const auto& site : PartitionIid(103, 10, 7)) {
    EXPECT_GE(site.size(), 10u);
    EXPECT_LE(site.size(), 11u);
  }
}

TEST(Partition, Contiguous_DealsRunsInOrder) {
  ASSERT_OK_AND_ASSIGN(const SitePartition partition,
                       Partition(ContiguousOver(3), {.count = 7}, 1));
  EXPECT_THAT(partition, ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3, 4),
                                     ElementsAre(5, 6)));
}

// Mean over sites of the largest class's share of the site.
double Skew(const SitePartition& partition,
            const std::vector<int32_t>& labels) {
  double sum = 0;
  for (const auto& site : partition) {
    std::map<int32_t, size_t> counts;
    size_t most = 0;
    for (size_t i : site) most = std::max(most, ++counts[labels[i]]);
    sum += static_cast<double>(most) / site.size();
  }
  return sum / partition.size();
}

TEST(Partition, SmallerAlpha_MakesSitesDifferMore) {
  const std::vector<int32_t> labels = Labels(5000, 10);
  const Examples examples{.count = 5000, .labels = labels};
  ASSERT_OK_AND_ASSIGN(const auto skewed,
                       Partition(DirichletOver(10, 0.1), examples, 3));
  ASSERT_OK_AND_ASSIGN(const auto even,
                       Partition(DirichletOver(10, 1000), examples, 3));
  // Ten equal classes: an even site's largest has little over a tenth. The
  // seeds are fixed, so there is no chance in this.
  EXPECT_GT(Skew(skewed, labels), 0.35);
  EXPECT_LT(Skew(even, labels), 0.16);
}

TEST(Partition, DirichletThatStarvesASite_IsRefused) {
  const std::vector<int32_t> labels(40, 0);
  PartitionConfig config = DirichletOver(20, 1e-3);
  EXPECT_THAT(Partition(config, {.count = 40, .labels = labels}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("none of 1000 draws with alpha 0.001")));
}

TEST(Partition, DirichletMinimum_IsKept) {
  const std::vector<int32_t> labels = Labels(400, 4);
  PartitionConfig config = DirichletOver(8, 0.5);
  config.mutable_dirichlet()->set_min_examples(25);
  ASSERT_OK_AND_ASSIGN(const auto partition,
                       Partition(config, {.count = 400, .labels = labels}, 5));
  for (const auto& site : partition) EXPECT_GE(site.size(), 25u);
}

TEST(Partition, Shards_HoldFewClasses) {
  std::vector<int32_t> labels(100);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = i % 10;
  ASSERT_OK_AND_ASSIGN(
      const auto partition,
      Partition(ShardsOver(5, 2), {.count = 100, .labels = labels}, 1));
  for (const auto& site : partition) {
    std::set<int32_t> classes;
    for (size_t i : site) classes.insert(labels[i]);
    // Ten shards of ten classes of equal size: each shard is one class.
    EXPECT_EQ(classes.size(), 2u);
    EXPECT_EQ(site.size(), 20u);
  }
}

TEST(Partition, ByColumn_KeepsGroupsTogether) {
  const std::vector<std::string> groups = {"b", "a", "c", "a", "b", "d"};
  PartitionConfig config = Sites(2);
  config.mutable_by_column()->set_column("site");
  ASSERT_OK_AND_ASSIGN(const auto partition,
                       Partition(config, {.count = 6, .groups = groups}, 1));
  // a and c; b and d.
  EXPECT_THAT(partition,
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(0, 4, 5)));
  config.set_sites(5);
  EXPECT_THAT(Partition(config, {.count = 6, .groups = groups}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at least 5 distinct texts in column "
                                 "\"site\", one for each site, found 4")));
}

TEST(Partition, FieldsOutOfRange_AreRefusedByName) {
  const std::vector<int32_t> labels = Labels(10, 2);
  const Examples examples{.count = 10, .labels = labels};
  const auto expect = [&](const PartitionConfig& config,
                          const std::string& text) {
    EXPECT_THAT(Partition(config, examples, 1),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text)));
  };
  expect(Sites(0), "partition.sites");
  expect(Sites(11), "at most one site for each of 10 examples");
  PartitionConfig site = Sites(2);
  site.set_site(2);
  expect(site, "partition.site: expected 0 to 1, found 2");
  expect(DirichletOver(2, 0), "partition.dirichlet.alpha");
  expect(DirichletOver(2, std::numeric_limits<double>::quiet_NaN()),
         "partition.dirichlet.alpha");
  expect(ShardsOver(2, 6), "partition.shards.per_site: expected 1 to 5");
  PartitionConfig column = Sites(2);
  column.mutable_by_column()->set_column("c");
  expect(column, "partition.by_column");
}

TEST(Partition, ByClassWithoutClasses_IsRefused) {
  EXPECT_THAT(Partition(DirichletOver(2, 1), {.count = 10}, 1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("the data has none")));
}

TEST(FormatPartitionTable, Counts_ClassesAndTotals) {
  const std::vector<int32_t> labels = {0, 7, 7, 0, 0};
  EXPECT_EQ(FormatPartitionTable({{0, 1, 2}, {3, 4}}, labels),
            "site     total      0      7\n"
            "0            3      1      2\n"
            "1            2      2      0\n"
            "all          5      3      2\n");
}

TEST(FormatPartitionTable, WithoutLabels_ShowsSizes) {
  EXPECT_EQ(FormatPartitionTable({{0, 1, 2}, {3, 4}}, {}),
            "site     total\n"
            "0            3\n"
            "1            2\n"
            "all          5\n");
}

}  // namespace
}  // namespace koinon::worker
