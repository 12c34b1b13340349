#include "worker/collective/testing_contract.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

// Rank `rank`'s values: every rank can make those of all.
std::vector<float> ValuesOf(int rank, size_t n) {
  Random random(DeriveSeed(2026, static_cast<uint64_t>(rank)));
  std::vector<float> values(n);
  for (float& value : values) {
    const double sign = random.NextDouble() < 0.5 ? -1 : 1;
    value = static_cast<float>(sign * std::exp2(40 * random.NextDouble() - 20));
  }
  return values;
}

// Which node each rank is on.
std::vector<int> NodesOf(Communicator* site) {
  const auto all =
      site->AllGather(std::string(1, static_cast<char>(site->place().node)));
  if (!all.ok()) return {};
  std::vector<int> nodes;
  for (const std::string& one : *all) nodes.push_back(one[0]);
  return nodes;
}

std::vector<float> ExpectedSum(Communicator* site, size_t n) {
  const std::vector<int> nodes = NodesOf(site);
  std::vector<float> sum;
  for (int node = 0; node < site->place().nodes; ++node) {
    std::vector<float> node_sum;
    for (int rank = 0; rank < site->place().size; ++rank) {
      if (nodes[static_cast<size_t>(rank)] != node) continue;
      const std::vector<float> values = ValuesOf(rank, n);
      if (node_sum.empty()) {
        node_sum = values;
      } else {
        for (size_t i = 0; i < n; ++i) node_sum[i] += values[i];
      }
    }
    if (sum.empty()) {
      sum = node_sum;
    } else {
      for (size_t i = 0; i < n; ++i) sum[i] += node_sum[i];
    }
  }
  return sum;
}

}  // namespace

void ExpectPlaceIsConsistent(Communicator* site) {
  const Communicator::Place& place = site->place();
  EXPECT_GE(place.rank, 0);
  EXPECT_LT(place.rank, place.size);
  EXPECT_GE(place.node_rank, 0);
  EXPECT_LT(place.node_rank, place.node_size);
  EXPECT_LT(place.node, place.nodes);
  if (place.rank == 0) {
    EXPECT_EQ(place.node, 0);
    EXPECT_EQ(place.node_rank, 0);
  }
  int on_this_node = 0;
  for (const int node : NodesOf(site)) on_this_node += node == place.node;
  EXPECT_EQ(on_this_node, place.node_size);
  EXPECT_THAT(site->NameOf(place.rank),
              HasSubstr(absl::StrCat("rank ", place.rank)));
}

void ExpectSumInFixedOrder(Communicator* site, size_t n) {
  std::vector<float> values = ValuesOf(site->place().rank, n);
  ASSERT_OK(site->AllReduce(absl::MakeSpan(values)));
  EXPECT_EQ(values, ExpectedSum(site, n)) << n << " values";
}

void ExpectWeightedSum(Communicator* site) {
  const float own = static_cast<float>(site->place().rank) + 1;
  std::vector<float> values(1000, 0.5f);
  ASSERT_OK(site->AllReduce(absl::MakeSpan(values), own));
  const float size = static_cast<float>(site->place().size);
  EXPECT_EQ(values, std::vector<float>(1000, 0.5f * size * (size + 1) / 2));
}

void ExpectManySums(Communicator* site) {
  Random random(7);  // the same sizes on every rank
  for (int i = 0; i < 200; ++i) {
    const size_t n = random.NextBelow(3000);
    std::vector<float> values(n, 1.0f);
    ASSERT_OK(site->AllReduce(absl::MakeSpan(values)));
    ASSERT_EQ(values,
              std::vector<float>(n, static_cast<float>(site->place().size)))
        << "sum " << i << " of " << n << " values";
  }
}

void ExpectNanStays(Communicator* site) {
  std::vector<float> values(100, 1.0f);
  if (site->place().rank == site->place().size - 1) {
    values[63] = std::numeric_limits<float>::quiet_NaN();
  }
  ASSERT_OK(site->AllReduce(absl::MakeSpan(values)));
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(std::isnan(values[i]), i == 63) << i;
  }
}

void ExpectBroadcastOfFirst(Communicator* site, size_t n) {
  std::string bytes(n, '\0');
  std::string expected(n, '\0');
  for (size_t i = 0; i < n; ++i) expected[i] = static_cast<char>(i * 31 + 7);
  if (site->place().rank == 0) bytes = expected;
  ASSERT_OK(site->Broadcast(absl::MakeSpan(bytes)));
  EXPECT_TRUE(bytes == expected) << n << " bytes";
}

void ExpectGatherInRankOrder(Communicator* site) {
  const auto mine = [](int rank) {
    return std::string(static_cast<size_t>(rank) * 3,
                       static_cast<char>('a' + rank));
  };
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK_AND_ASSIGN(const auto all,
                         site->AllGather(mine(site->place().rank)));
    ASSERT_EQ(static_cast<int>(all.size()), site->place().size);
    for (int rank = 0; rank < site->place().size; ++rank) {
      EXPECT_EQ(all[static_cast<size_t>(rank)], mine(rank));
    }
  }
}

void ExpectTooMuchIsNotGathered(Communicator* site) {
  const std::string much(Communicator::kMaxGatheredBytes + 1, 'x');
  EXPECT_THAT(site->AllGather(much).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected at most 4096")));
  EXPECT_OK(site->Barrier());
}

void ExpectAnnouncementsInOrder(Communicator* site) {
  const std::vector<std::string> said = {"first", "",
                                         std::string(1 << 20, 'x')};
  for (const std::string& message : said) {
    if (site->place().rank == 0) {
      ASSERT_OK(site->Announce(message));
      continue;
    }
    ASSERT_OK_AND_ASSIGN(const std::string heard, site->AwaitAnnouncement());
    EXPECT_TRUE(heard == message) << message.size() << " bytes";
  }
  EXPECT_OK(site->Barrier());
}

void ExpectErrorOfOneIsErrorOfAll(Communicator* site) {
  EXPECT_OK(AgreeOnStatus(site, absl::OkStatus()));
  const int last = site->place().size - 1;
  const absl::Status own = site->place().rank == last
                               ? absl::NotFoundError("no such dataset")
                               : absl::OkStatus();
  EXPECT_THAT(AgreeOnStatus(site, own),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr(absl::StrCat(site->NameOf(last),
                                              ": no such dataset"))));
  // As long as it likes to be.
  const absl::Status much = absl::InternalError(std::string(9999, 'x'));
  EXPECT_THAT(AgreeOnStatus(site, much),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("rank 0")));
}

void ExpectOtherDigestIsNamed(Communicator* site) {
  const Digest common = Sha256Of("common");
  EXPECT_OK(AgreeOnDigest(site, "parameters", common));
  const int last = site->place().size - 1;
  if (last == 0) return;
  const bool other = site->place().rank == last;
  EXPECT_THAT(
      AgreeOnDigest(site, "parameters", other ? Sha256Of("other") : common),
      StatusIs(absl::StatusCode::kInternal, HasSubstr(site->NameOf(last))));
}

void ExpectDoublesAddUp(Communicator* site) {
  std::vector<double> values = {1e300, static_cast<double>(site->place().rank)};
  ASSERT_OK(SumDoubles(site, absl::MakeSpan(values)));
  const double size = site->place().size;
  EXPECT_DOUBLE_EQ(values[0], 1e300 * size);
  EXPECT_EQ(values[1], size * (size - 1) / 2);
}

void ExpectTotalsGrow(Communicator* site) {
  const Communicator::Totals before = site->totals();
  std::vector<float> values(5000);
  ASSERT_OK(site->AllReduce(absl::MakeSpan(values)));
  std::string bytes(300, 'x');
  ASSERT_OK(site->Broadcast(absl::MakeSpan(bytes)));
  const Communicator::Totals after = site->totals();
  EXPECT_EQ(after.bytes - before.bytes, 5000 * 4 + 300);
  EXPECT_GT(after.time, before.time);
}

}  // namespace koinon::worker
