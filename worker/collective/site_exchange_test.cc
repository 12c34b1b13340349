#include "worker/collective/site_exchange.h"

#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/collective/testing_communicator.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

const RealClock& TestClock() {
  static const RealClock clock;
  return clock;
}

// Element i of rank `rank`'s gradients in `step`.
float Gradient(int rank, int64_t step, size_t i) {
  return static_cast<float>(rank + 1) * 0.25f + static_cast<float>(step) +
         static_cast<float>(i % 17);
}

// Tells [0, n) ready in pieces and an order that follow from the seed.
void TellInPieces(SiteExchange* exchange, size_t n, uint64_t seed) {
  Random random(seed);
  std::vector<std::pair<size_t, size_t>> pieces;
  for (size_t begin = 0; begin < n;) {
    const size_t end = std::min(n, begin + 1 + random.NextBelow(300));
    pieces.emplace_back(begin, end);
    begin = end;
  }
  random.Shuffle(&pieces);
  for (const auto& [begin, end] : pieces) exchange->Ready(begin, end);
}

// How many ranks, and whether sums are made beside the way back.
class SiteExchangeTest
    : public ::testing::TestWithParam<std::tuple<int, bool>> {
 protected:
  const int ranks_ = std::get<0>(GetParam());
  const bool beside_ = std::get<1>(GetParam());

  SiteExchange::Options OptionsFor(int64_t steps) const {
    return {.clock = &TestClock(), .steps = steps, .beside = beside_};
  }
};

TEST_P(SiteExchangeTest, Finish_PiecesInAnyOrder_SumsWithWeights) {
  constexpr size_t kParameters = 10007;
  RunRanks({.ranks = ranks_}, [&](Communicator* site) {
    const int rank = site->place().rank;
    SiteExchange::Options options = OptionsFor(20);
    options.bucket = 1000;
    SiteExchange exchange(site, options);
    std::vector<float> gradients(kParameters);
    for (int64_t step = 0; step < 20; ++step) {
      // Unequal, as in the last batch of an epoch; the last has the rest.
      const double weight =
          rank + 1 < ranks_ ? 1.0 / (1 << (rank + 1)) : 1.0 / (1 << rank);
      for (size_t i = 0; i < kParameters; ++i) {
        gradients[i] = Gradient(rank, step, i);
      }
      exchange.Start(step, weight, absl::MakeSpan(gradients));
      // Ranks go through their models at their own pace and in their own order.
      TellInPieces(&exchange, kParameters,
                   static_cast<uint64_t>(step * 100 + rank));
      ASSERT_OK(exchange.Finish(absl::OkStatus()));
      ASSERT_OK(exchange.Stepped(step, absl::MakeSpan(gradients)));
      for (size_t i = 0; i < kParameters; i += 97) {
        double expected = 0;
        for (int other = 0; other < ranks_; ++other) {
          expected += Gradient(other, step, i) * (other + 1 < ranks_
                                                      ? 1.0 / (1 << (other + 1))
                                                      : 1.0 / (1 << other));
        }
        // Sums of a few multiples of 1/64 under 100: exact.
        ASSERT_EQ(gradients[i], static_cast<float>(expected))
            << "step " << step << ", element " << i;
      }
    }
    EXPECT_GT(exchange.waited(), absl::ZeroDuration());
  });
}

TEST_P(SiteExchangeTest, Finish_OneFailsInMidStep_FailsEverywhereWithItsName) {
  const int failing = ranks_ - 1;
  RunRanks({.ranks = ranks_}, [&](Communicator* site) {
    SiteExchange::Options options = OptionsFor(9);
    options.bucket = 100;
    SiteExchange exchange(site, options);
    std::vector<float> gradients(1000, 1.0f);
    const bool fails = site->place().rank == failing;
    exchange.Start(0, 0.5, absl::MakeSpan(gradients));
    exchange.Ready(fails ? 700 : 0, 1000);
    EXPECT_THAT(exchange.Finish(fails ? absl::InternalError("loss became NaN")
                                      : absl::OkStatus()),
                StatusIs(absl::StatusCode::kInternal,
                         HasSubstr(absl::StrCat(
                             "rank ", failing, " (thread): loss became NaN"))));
    // The ranks are still together.
    EXPECT_OK(site->Barrier());
    EXPECT_FALSE(site->broken());
  });
}

TEST_P(SiteExchangeTest, Stepped_EverySiteSteps_AveragesParameters) {
  RunRanks({.ranks = ranks_}, [&](Communicator* site) {
    const float rank = static_cast<float>(site->place().rank);
    SiteExchange::Options options = OptionsFor(8);
    options.site_steps = 3;
    SiteExchange exchange(site, options);
    std::vector<float> parameters(500, rank), gradients(500, 1.0f);
    const float mean = static_cast<float>(ranks_ - 1) / 2;
    for (int64_t step = 0; step < 8; ++step) {
      exchange.Start(step, 0.5, absl::MakeSpan(gradients));
      exchange.Ready(0, 500);
      ASSERT_OK(exchange.Finish(absl::OkStatus()));
      EXPECT_EQ(gradients, std::vector<float>(500, 1.0f));  // its own
      if (step == 3) parameters.assign(500, rank);  // they drift apart again
      ASSERT_OK(exchange.Stepped(step, absl::MakeSpan(parameters)));
      const bool averaged = step == 2 || step >= 5;
      const float expected = averaged ? mean : step == 6 ? mean : rank;
      for (const float value : parameters) {
        ASSERT_NEAR(value, expected, 1e-6) << "step " << step;
      }
    }
  });
}

TEST_P(SiteExchangeTest, Finish_OneFailsBetweenAverages_FailsEverywhere) {
  const int failing = ranks_ - 1;
  RunRanks({.ranks = ranks_}, [&](Communicator* site) {
    SiteExchange::Options options = OptionsFor(8);
    options.site_steps = 4;
    SiteExchange exchange(site, options);
    std::vector<float> parameters(50), gradients(50);
    absl::Status status;
    for (int64_t step = 0; step < 4 && status.ok(); ++step) {
      const bool fails = site->place().rank == failing && step == 1;
      exchange.Start(step, 0.5, absl::MakeSpan(gradients));
      status = exchange.Finish(fails ? absl::CancelledError("stopped")
                                     : absl::OkStatus());
      if (status.ok()) {
        status = exchange.Stepped(step, absl::MakeSpan(parameters));
      }
    }
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kCancelled,
                                 HasSubstr(absl::StrCat("rank ", failing))));
    EXPECT_OK(site->Barrier());
  });
}

TEST_P(SiteExchangeTest, TwoRuns_SameGradients_GiveTheSameBytes) {
  std::vector<std::vector<float>> first(static_cast<size_t>(ranks_));
  for (const bool again : {false, true}) {
    RunRanks({.ranks = ranks_}, [&](Communicator* site) {
      const int rank = site->place().rank;
      Random random(DeriveSeed(5, static_cast<uint64_t>(rank)));
      std::vector<float> gradients(5000);
      for (float& g : gradients) g = static_cast<float>(random.NextNormal());
      SiteExchange::Options options = OptionsFor(1);
      options.bucket = 700;
      SiteExchange exchange(site, options);
      exchange.Start(0, 1.0 / 3, absl::MakeSpan(gradients));
      TellInPieces(&exchange, gradients.size(),
                   static_cast<uint64_t>(rank + (again ? 50 : 0)));
      ASSERT_OK(exchange.Finish(absl::OkStatus()));
      auto& kept = first[static_cast<size_t>(rank)];
      if (again) {
        EXPECT_EQ(gradients, kept);
      } else {
        kept = gradients;
      }
    });
  }
  for (const auto& one : first) EXPECT_EQ(one, first[0]);
}

INSTANTIATE_TEST_SUITE_P(Ranks, SiteExchangeTest,
                         ::testing::Combine(::testing::Values(2, 3, 4),
                                            ::testing::Bool()));

TEST(GainsBesideTest, SpareProcessorOrNetwork_Gains) {
  using Place = Communicator::Place;
  constexpr size_t kFew = 400000;
  EXPECT_FALSE(
      SiteExchange::GainsBeside(Place{.size = 2, .least_cores = 1}, kFew));
  EXPECT_FALSE(
      SiteExchange::GainsBeside(Place{.size = 4, .least_cores = 0.5}, kFew));
  EXPECT_TRUE(
      SiteExchange::GainsBeside(Place{.size = 2, .least_cores = 2}, kFew));
  EXPECT_TRUE(SiteExchange::GainsBeside(
      Place{.size = 2, .nodes = 2, .least_cores = 1}, kFew));
  // Sums that take a good part of a step.
  EXPECT_TRUE(SiteExchange::GainsBeside(Place{.size = 2, .least_cores = 1},
                                        SiteExchange::kManyParameters));
}

}  // namespace
}  // namespace koinon::worker
