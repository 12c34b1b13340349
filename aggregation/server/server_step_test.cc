#include "aggregation/server/server_step.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "aggregation/core/testing_updates.h"
#include "aggregation/server/server_optimizer.h"
#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLargest = std::numeric_limits<float>::max();

AppendValues Into(std::vector<float>* out) {
  return [out](absl::Span<const float> values) {
    out->insert(out->end(), values.begin(), values.end());
    return absl::OkStatus();
  };
}

// Gives `aggregate` to the sink in windows of `window` elements.
absl::Status Feed(const std::vector<float>& aggregate, size_t window,
                  UpdateSink* sink) {
  for (size_t at = 0; at < aggregate.size(); at += window) {
    const size_t count = std::min(window, aggregate.size() - at);
    std::copy_n(&aggregate[at], count, sink->Window(at, count));
    const absl::Status status = sink->Commit(at, count);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::unique_ptr<ServerOptimizer> FedAdam() {
  v1::ServerOptimizer spec;
  spec.mutable_fedadam();
  auto optimizer = MakeServerOptimizer(spec);
  EXPECT_OK(optimizer);
  return *std::move(optimizer);
}

std::unique_ptr<ServerOptimizer> Momentum(double learning_rate) {
  v1::ServerOptimizer spec;
  spec.mutable_fedavgm()->set_learning_rate(learning_rate);
  spec.mutable_fedavgm()->set_momentum(0.5);
  auto optimizer = MakeServerOptimizer(spec);
  EXPECT_OK(optimizer);
  return *std::move(optimizer);
}

TEST(ServerStepTest, NoOptimizer_AddsTheAggregate) {
  const VectorSource base({1, 2, 3});
  std::vector<float> out;
  ServerStep step;
  step.layout = TestLayout(3);
  step.base = &base;
  step.out = Into(&out);
  ServerStepSink sink(std::move(step));
  ASSERT_OK(Feed({0.5f, -2, 0}, 2, &sink));
  EXPECT_THAT(out, ElementsAre(1.5f, 0, 3));
}

TEST(ServerStepTest, NoBase_GivesTheStepAlone) {
  std::vector<float> out;
  ServerStep step;
  step.layout = TestLayout(2);
  step.out = Into(&out);
  ServerStepSink sink(std::move(step));
  ASSERT_OK(Feed({0.5f, -2}, 2, &sink));
  EXPECT_THAT(out, ElementsAre(0.5f, -2));
}

TEST(ServerStepTest, State_GoesOnFromStepToStep) {
  const auto optimizer = Momentum(1);
  const VectorSource base({10});
  std::vector<float> first_state, second_state, out;
  ServerStep first;
  first.layout = TestLayout(1);
  first.optimizer = optimizer.get();
  first.base = &base;
  first.out = Into(&out);
  first.state = {{"momentum", nullptr, Into(&first_state)}};
  ServerStepSink first_sink(std::move(first));
  ASSERT_OK(Feed({4}, 1, &first_sink));
  EXPECT_THAT(out, ElementsAre(14));
  EXPECT_THAT(first_state, ElementsAre(4));

  const MemorySource before(first_state);
  ServerStep second;
  second.layout = TestLayout(1);
  second.optimizer = optimizer.get();
  second.step = 2;
  second.base = &base;
  second.out = Into(&out);
  second.state = {{"momentum", &before, Into(&second_state)}};
  ServerStepSink second_sink(std::move(second));
  ASSERT_OK(Feed({1}, 1, &second_sink));
  EXPECT_THAT(out, ElementsAre(14, 13));
  EXPECT_THAT(second_state, ElementsAre(3));
}

// More elements than a block, so that blocks' borders and windows' differ.
TEST(ServerStepTest, AnyWindows_GiveTheSameBytes) {
  constexpr size_t kElements = 150'001;
  Random random(3);
  std::vector<float> aggregate(kElements), base_values(kElements);
  for (float& x : aggregate) x = static_cast<float>(random.NextNormal());
  for (float& x : base_values) x = static_cast<float>(random.NextNormal());
  const MemorySource base(base_values);
  const CopyingSource second_moment(std::vector<float>(kElements, 0.25f));
  const CopyingSource momentum(std::vector<float>(kElements, -0.5f));
  const auto optimizer = FedAdam();
  std::vector<float> expected;
  for (const size_t window : {kElements, size_t{65'536}, size_t{1000}}) {
    std::vector<float> out, v, m;
    ServerStep step;
    step.layout = TestLayout(kElements);
    step.optimizer = optimizer.get();
    step.step = 5;
    step.base = &base;
    step.out = Into(&out);
    step.state = {{"second_moment", &second_moment, Into(&v)},
                  {"momentum", &momentum, Into(&m)}};
    ServerStepSink sink(std::move(step));
    ASSERT_OK(Feed(aggregate, window, &sink));
    out.insert(out.end(), v.begin(), v.end());
    out.insert(out.end(), m.begin(), m.end());
    ASSERT_EQ(out.size(), 3 * kElements);
    if (expected.empty()) expected = out;
    EXPECT_TRUE(SameBits(out, expected)) << window;
  }
}

TEST(ServerStepTest, NotFinite_NamesWhatAndWhere) {
  std::vector<float> out, state;
  const VectorSource base({0, 0, kLargest});
  const auto sink_of = [&](const ServerOptimizer* optimizer) {
    ServerStep step;
    step.layout = TestLayout(3);
    step.optimizer = optimizer;
    step.base = &base;
    step.out = Into(&out);
    if (optimizer != nullptr) {
      step.state = {{"momentum", nullptr, Into(&state)}};
    }
    return ServerStepSink(std::move(step));
  };
  const auto expect = [&](ServerStepSink sink, std::vector<float> aggregate,
                          const char* what) {
    EXPECT_THAT(Feed(aggregate, 3, &sink),
                StatusIs(absl::StatusCode::kInternal, HasSubstr(what)));
    EXPECT_TRUE(out.empty());
  };
  const std::string last = TestLayout(3).DescribeElement(2);
  expect(sink_of(nullptr), {0, 0, kLargest},
         ("the new version overflows at " + last).c_str());
  expect(sink_of(nullptr), {0, 0, kInfinity},
         ("the aggregate overflows at " + last).c_str());
  expect(sink_of(nullptr), {0, 0, std::numeric_limits<float>::quiet_NaN()},
         ("the aggregate is NaN at " + last).c_str());
  const auto steep = Momentum(1e30);
  expect(sink_of(steep.get()), {0, 0, 1e20f},
         ("fedavgm's step overflows at " + last).c_str());
}

TEST(ServerStepTest, StateThatOverflows_IsNamed) {
  const auto optimizer = FedAdam();
  std::vector<float> out, v, m;
  ServerStep step;
  step.layout = TestLayout(2);
  step.optimizer = optimizer.get();
  step.out = Into(&out);
  step.state = {{"second_moment", nullptr, Into(&v)},
                {"momentum", nullptr, Into(&m)}};
  ServerStepSink sink(std::move(step));
  EXPECT_THAT(Feed({0, 1e25f}, 2, &sink),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("fedadam's second_moment overflows at " +
                                 TestLayout(2).DescribeElement(1))));
}

TEST(ServerStepTest, FailingSourcesAndAppenders_EndIt) {
  const auto optimizer = Momentum(1);
  std::vector<float> out;
  const CopyingSource bad({1, 2}, /*fails_at=*/1);
  const VectorSource good({1, 2});
  const auto run = [&](const UpdateSource* base, const UpdateSource* state,
                       AppendValues after) {
    ServerStep step;
    step.layout = TestLayout(2);
    step.optimizer = optimizer.get();
    step.base = base;
    step.out = Into(&out);
    step.state = {{"momentum", state, std::move(after)}};
    ServerStepSink sink(std::move(step));
    return Feed({1, 1}, 2, &sink);
  };
  std::vector<float> state;
  EXPECT_FALSE(run(&bad, &good, Into(&state)).ok());
  EXPECT_FALSE(run(&good, &bad, Into(&state)).ok());
  EXPECT_THAT(
      run(&good, &good,
          [](absl::Span<const float>) {
            return absl::ResourceExhaustedError("disk full");
          }),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
  EXPECT_OK(run(&good, &good, Into(&state)));
}

TEST(TeeSinkTest, Aggregate_GoesBothWays) {
  std::vector<float> also, out;
  const VectorSource base({10, 20, 30});
  ServerStep step;
  step.layout = TestLayout(3);
  step.base = &base;
  step.out = Into(&out);
  ServerStepSink sink(std::move(step));
  TeeSink tee(Into(&also), &sink);
  ASSERT_OK(Feed({1, 2, 3}, 2, &tee));
  EXPECT_THAT(also, ElementsAre(1, 2, 3));
  EXPECT_THAT(out, ElementsAre(11, 22, 33));
  TeeSink failing(
      [](absl::Span<const float>) { return absl::DataLossError("gone"); },
      &sink);
  EXPECT_THAT(Feed({1}, 1, &failing), StatusIs(absl::StatusCode::kDataLoss));
}

}  // namespace
}  // namespace koinon::aggregation
