#include "aggregation/attacks/attacks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

using Rows = std::vector<std::vector<float>>;

const Rows& Honest() {
  static const auto* const rows = new Rows{{1, 0}, {3, 4}, {2, -4}};
  return *rows;
}

TEST(AttackTest, EveryKind_SendsFFiniteUpdatesAndIsDeterministic) {
  for (AttackKind kind : AllAttacks()) {
    SCOPED_TRACE(AttackName(kind));
    const Rows sent = Attack(kind, Honest(), 3, 7);
    ASSERT_EQ(sent.size(), 3);
    for (const auto& row : sent) {
      ASSERT_EQ(row.size(), 2);
      for (float x : row) EXPECT_TRUE(std::isfinite(x));
    }
    EXPECT_EQ(Attack(kind, Honest(), 3, 7), sent);
    EXPECT_TRUE(Attack(kind, Honest(), 0, 7).empty());
  }
}

TEST(AttackTest, HugeHonestValues_StayFinite) {
  for (AttackKind kind : AllAttacks()) {
    for (const auto& row :
         Attack(kind, Rows{{3e38f}, {-3e38f}, {3e38f}}, 1, 7)) {
      EXPECT_TRUE(std::isfinite(row[0])) << AttackName(kind);
    }
  }
}

TEST(AttackTest, ScaledMeans_HaveTheirDefaultsOrTheGivenStrength) {
  EXPECT_THAT(Attack(AttackKind::kSignFlip, Honest(), 1, 0)[0],
              ElementsAre(-8, 0));
  EXPECT_THAT(Attack(AttackKind::kScaling, Honest(), 1, 0)[0],
              ElementsAre(2000, 0));
  EXPECT_THAT(Attack(AttackKind::kInnerProduct, Honest(), 1, 0)[0],
              ElementsAre(-0.2f, 0));
  EXPECT_THAT(Attack(AttackKind::kSignFlip, Honest(), 1, 0, 1)[0],
              ElementsAre(-2, 0));
}

// The false-alarm rate of a bound of 6 standard errors is below 1e-8; the seed
// is fixed anyway.
TEST(AttackTest, GaussianNoise_HasTheStandardDeviation) {
  const size_t elements = 20'000;
  const Rows sent = Attack(AttackKind::kGaussianNoise,
                           Rows{std::vector<float>(elements)}, 2, 5);
  EXPECT_NE(sent[0], sent[1]);
  double square = 0;
  for (float x : sent[0]) square += double{x} * x;
  EXPECT_NEAR(std::sqrt(square / elements), 200,
              6 * 200 / std::sqrt(2.0 * elements));
}

// n = 50, f = 24: s = 2, Phi(z) = 24/26, z = 1.426: the example of the paper's
// section 3 (there rounded down to 1.43).
TEST(AttackTest, ALittleIsEnough_ShiftsByZMax) {
  Rows honest;
  for (int i = 0; i < 26; ++i) honest.push_back({i % 2 == 0 ? 1.0f : 3.0f});
  EXPECT_THAT(Attack(AttackKind::kALittleIsEnough, honest, 24, 0)[0],
              ElementsAre(FloatNear(2 - 1.4261f, 1e-3f)));
}

TEST(AttackTest, ALittleIsEnoughOfTooFew_IsTheMean) {
  EXPECT_THAT(Attack(AttackKind::kALittleIsEnough, Honest(), 1, 0, 0)[0],
              ElementsAre(2, 0));
}

TEST(AttackTest, Mimic_CopiesTheHonestUpdateFurthestOut) {
  const Rows honest = {{0.1f, 0}, {-0.1f, 1}, {0, -9}, {0, 3}};
  for (uint64_t seed = 0; seed < 5; ++seed) {
    EXPECT_THAT(Attack(AttackKind::kMimic, honest, 2, seed), Each(honest[2]));
  }
  EXPECT_THAT(Rows(3, {5, 5}),
              Contains(Attack(AttackKind::kMimic, Rows(3, {5, 5}), 1, 0)[0]));
}

TEST(AttackFromNameTest, Names_RoundTrip) {
  for (AttackKind kind : AllAttacks()) {
    EXPECT_THAT(AttackFromName(AttackName(kind)), IsOkAndHolds(kind));
  }
  EXPECT_THAT(AttackFromName("nonsense"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("nonsense"), HasSubstr("mimic"))));
}

}  // namespace
}  // namespace koinon::aggregation
