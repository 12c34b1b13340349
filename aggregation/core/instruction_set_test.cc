#include "aggregation/core/instruction_set.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::HasSubstr;

TEST(InstructionSetTest, Names_GoBothWays) {
  for (InstructionSet set :
       {InstructionSet::kBest, InstructionSet::kAvx512, InstructionSet::kAvx2,
        InstructionSet::kPortable}) {
    ASSERT_OK_AND_ASSIGN(const InstructionSet back,
                         InstructionSetFromName(InstructionSetName(set)));
    EXPECT_EQ(back, set);
  }
}

TEST(InstructionSetTest, UnknownName_ListsTheKnownOnes) {
  EXPECT_THAT(InstructionSetFromName("neon"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("best, avx512, avx2, portable")));
}

TEST(InstructionSetTest, Best_IsTheFirstSupported) {
  const auto supported = SupportedInstructionSets();
  EXPECT_EQ(supported.back(), InstructionSet::kPortable);
  ASSERT_OK_AND_ASSIGN(const InstructionSet best,
                       ResolveInstructionSet(InstructionSet::kBest));
  EXPECT_EQ(best, supported.front());
}

}  // namespace
}  // namespace koinon::aggregation
