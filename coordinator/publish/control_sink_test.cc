#include "coordinator/publish/control_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

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
std::vector<float> Through(size_t total, size_t first_control, double share,
                           size_t window) {
  CollectingSink end(total);
  ControlSink sink(first_control, share, &end);
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
    EXPECT_THAT(Through(6, 3, 0.5, window), ElementsAre(1, 2, 3, 2, 2.5f, 3))
        << window;
  }
}

TEST(ControlSink, EverybodyTookPart_NothingChanges) {
  EXPECT_THAT(Through(4, 2, 1, 3), ElementsAre(1, 2, 3, 4));
}

TEST(ControlShare, Population_IsTheDenominator) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_scaffold()->set_population(8);
  EXPECT_THAT(ControlShare(spec, 2, 4), IsOkAndHolds(0.25));
  EXPECT_THAT(ControlShare(spec, 8, 8), IsOkAndHolds(1.0));
  EXPECT_THAT(ControlShare(spec, 9, 9),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("training.scaffold.population is 8, but 9")));
}

TEST(ControlShare, NoPopulation_TheCohortIs) {
  v1::JobSpec spec;
  spec.mutable_training()->mutable_scaffold();
  EXPECT_THAT(ControlShare(spec, 3, 4), IsOkAndHolds(0.75));
}

}  // namespace
}  // namespace koinon::coordinator
