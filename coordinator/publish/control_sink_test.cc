#include "coordinator/publish/control_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "absl/algorithm/container.h"
#include "aggregation/core/update_set.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CollectingSink final : public aggregation::UpdateSink {
 public:
  explicit CollectingSink(size_t count) : values(count) {}
  float* Window(size_t offset, size_t) override { return &values[offset]; }
  absl::Status Commit(size_t, size_t) override { return absl::OkStatus(); }

  std::vector<float> values;
};

// Sends 1, 2, 3, ... through in windows of `window`.
std::vector<float> Through(size_t total, size_t first_control, ControlStep step,
                           size_t window) {
  std::vector<float> values(total);  // 8, 16, 24, ...
  for (size_t i = 0; i < total; ++i) values[i] = 8.0f * (i + 1);
  const aggregation::MemorySource base(values);
  CollectingSink end(total);
  ControlSink sink(first_control, step, &base, &end);
  for (size_t offset = 0; offset < total; offset += window) {
    const size_t count = std::min(window, total - offset);
    float* values = sink.Window(offset, count);
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(offset + i + 1);
    }
    EXPECT_OK(sink.Commit(offset, count));
  }
  return end.values;
}

TEST(ControlSink, SecondHalf_IsScaledWhateverTheWindows) {
  for (size_t window = 1; window <= 6; ++window) {
    EXPECT_THAT(Through(6, 3, {.share = 0.5}, window),
                ElementsAre(1, 2, 3, 2, 2.5f, 3))
        << window;
  }
}

// 3 of 4 times 32 is 8 less, and so on.
TEST(ControlSink, MoreWorkersThanBefore_TheMeanIsOverThemToo) {
  for (size_t window = 1; window <= 6; ++window) {
    EXPECT_THAT(Through(6, 3, {.kept = 0.75, .share = 0.5}, window),
                ElementsAre(1, 2, 3, 2 - 8, 2.5f - 10, 3 - 12))
        << window;
  }
}

TEST(ControlSink, EverybodyTookPart_NothingChanges) {
  EXPECT_THAT(Through(4, 2, {}, 3), ElementsAre(1, 2, 3, 4));
}

TEST(ControlStepOf, Population_IsTheDenominator) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_scaffold()->set_population(8);
  ASSERT_OK_AND_ASSIGN(ControlStep step, ControlStepOf(spec, 2, 4, 3));
  EXPECT_EQ(step.share, 0.25);
  EXPECT_EQ(step.kept, 1);
  ASSERT_OK_AND_ASSIGN(step, ControlStepOf(spec, 8, 8, 8));
  EXPECT_EQ(step.share, 1);
  EXPECT_THAT(ControlStepOf(spec, 9, 9, 9),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("training.scaffold.population is 8, but 9")));
}

TEST(ControlStepOf, NoPopulation_AllThatWereEverAskedAre) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_scaffold();
  ASSERT_OK_AND_ASSIGN(ControlStep step, ControlStepOf(spec, 3, 4, 0));
  EXPECT_EQ(step.share, 0.75);
  EXPECT_EQ(step.kept, 1);
  // One of four is busy elsewhere.
  ASSERT_OK_AND_ASSIGN(step, ControlStepOf(spec, 3, 4, 4));
  EXPECT_EQ(step.share, 0.75);
  EXPECT_EQ(step.kept, 1);
  // A fifth has come.
  ASSERT_OK_AND_ASSIGN(step, ControlStepOf(spec, 5, 5, 4));
  EXPECT_EQ(step.share, 1);
  EXPECT_EQ(step.kept, 0.8);
}

// What the worker's variates and the server's must agree on, whoever takes part
// when.
TEST(ControlSink, AnyRounds_TheServersIsTheMeanOfTheWorkers) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_scaffold();
  const std::vector<std::vector<int>> rounds = {
      {0, 1}, {1}, {0, 2, 3}, {3}, {0, 1, 2, 3, 4}, {4, 1}};
  std::vector<double> own(5);
  std::vector<float> server(1);
  std::set<int> asked;
  int moves = 0;
  for (const std::vector<int>& round : rounds) {
    const auto before = static_cast<int64_t>(asked.size());
    asked.insert(round.begin(), round.end());
    double sum = 0;
    for (int worker : round) {
      const double moved = 1 + 0.5 * ++moves;
      own[worker] += moved;
      sum += moved;
    }
    const auto updates = static_cast<int64_t>(round.size());
    ASSERT_OK_AND_ASSIGN(
        const ControlStep step,
        ControlStepOf(spec, updates, static_cast<int64_t>(asked.size()),
                      before));
    const aggregation::MemorySource base(server);
    CollectingSink end(1);
    ControlSink sink(0, step, &base, &end);
    *sink.Window(0, 1) = static_cast<float>(sum / updates);
    ASSERT_OK(sink.Commit(0, 1));
    server[0] += end.values[0];
    // A few roundings to fp32 of values below 16.
    EXPECT_NEAR(server[0], absl::c_accumulate(own, 0.0) / asked.size(), 1e-5);
  }
}

}  // namespace
}  // namespace koinon::coordinator
