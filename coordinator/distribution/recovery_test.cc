#include "coordinator/distribution/recovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Recovery itself needs nodes to recover from: tests/integration.

TEST(LostStateTest, PlainAveraging_LosesNothing) {
  v1::JobSpec spec;
  EXPECT_THAT(LostStateOf(spec, 7), IsOkAndHolds(IsEmpty()));
  spec.mutable_aggregation()->mutable_median();
  EXPECT_THAT(LostStateOf(spec, 7), IsOkAndHolds(IsEmpty()));
  spec.mutable_buffer()->set_size(3);
  EXPECT_THAT(LostStateOf(spec, 7), IsOkAndHolds(IsEmpty()));
}

TEST(LostStateTest, WhatIsKeptBesideAVersion_IsNamed) {
  v1::JobSpec spec;
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  EXPECT_THAT(LostStateOf(spec, 7),
              IsOkAndHolds(AllOf(HasSubstr("fedadam"), HasSubstr("momentum"),
                                 HasSubstr("second_moment"))));
  v1::JobSpec clipping;
  clipping.mutable_aggregation()->mutable_centered_clipping()->set_tau(1);
  EXPECT_THAT(LostStateOf(clipping, 7), IsOkAndHolds(HasSubstr("aggregate")));
  v1::JobSpec scaffold;
  scaffold.mutable_training()->mutable_scaffold();
  EXPECT_THAT(LostStateOf(scaffold, 7),
              IsOkAndHolds(HasSubstr("control variate")));
}

TEST(LostStateTest, BeforeTheFirstRound_NothingIsKeptYet) {
  v1::JobSpec spec;
  spec.mutable_aggregation()->mutable_server_optimizer()->mutable_fedadam();
  spec.mutable_training()->mutable_scaffold();
  EXPECT_THAT(LostStateOf(spec, 0), IsOkAndHolds(IsEmpty()));
}

}  // namespace
}  // namespace koinon::coordinator
