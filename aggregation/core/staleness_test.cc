#include "aggregation/core/staleness.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "google/protobuf/text_format.h"

namespace koinon::aggregation {
namespace {

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message))
      << text;
  return message;
}

double Discount(const std::string& buffer, int64_t staleness) {
  return StalenessDiscount(Parse<v1::BufferSpec>(buffer), staleness);
}

TEST(StalenessDiscountTest, Polynomial_IsThePapers) {
  const std::string half = "polynomial { exponent: 0.5 }";
  EXPECT_EQ(Discount(half, 0), 1);
  EXPECT_EQ(Discount(half, 3), 0.5);
  EXPECT_EQ(Discount(half, 8), 1 / 3.0);
  EXPECT_EQ(Discount("polynomial { exponent: 1 }", 4), 0.2);
  // 16^-0.25; pow is good to a few units in the last place.
  EXPECT_NEAR(Discount("polynomial { exponent: 0.25 }", 15), 0.5, 1e-15);
}

TEST(StalenessDiscountTest, Constant_IsOne) {
  EXPECT_EQ(Discount("constant {}", 0), 1);
  EXPECT_EQ(Discount("constant {}", 1'000'000), 1);
}

TEST(StalenessDiscountTest, Threshold_IsTheFactorBeyondIt) {
  const std::string spec = "threshold { staleness: 2 factor: 0.25 }";
  EXPECT_EQ(Discount(spec, 0), 1);
  EXPECT_EQ(Discount(spec, 2), 1);
  EXPECT_EQ(Discount(spec, 3), 0.25);
}

// The update set takes (0, 1]; a fresh update must count in full.
TEST(StalenessDiscountTest, Any_IsOneWhenFreshThenInRangeAndNeverGrows) {
  for (const char* spec :
       {"polynomial { exponent: 0.5 }", "polynomial { exponent: 1 }",
        "polynomial { exponent: 0.001 }", "polynomial { exponent: 0.9 }",
        "constant {}", "threshold { staleness: 0 factor: 1e-300 }",
        "threshold { staleness: 5 factor: 1 }"}) {
    EXPECT_EQ(Discount(spec, 0), 1) << spec;
    double last = 1;
    for (const int64_t staleness :
         {int64_t{1}, int64_t{2}, int64_t{3}, int64_t{10}, int64_t{1000},
          int64_t{1'000'000}, int64_t{1} << 62}) {
      const double discount = Discount(spec, staleness);
      EXPECT_GT(discount, 0) << spec << " " << staleness;
      EXPECT_LE(discount, last) << spec << " " << staleness;
      last = discount;
    }
  }
}

TEST(UsesWeightsTest, EveryRule_IsKnown) {
  for (const char* spec : {"", "fedavg {}", "median { weighted: true }",
                           "geometric_median { weighted: true }",
                           "multi_krum { convention: FLOWER }"}) {
    EXPECT_TRUE(UsesWeights(Parse<v1::AggregationSpec>(spec))) << spec;
  }
  for (const char* spec :
       {"fedavg { uniform: true }", "median {}", "trimmed_mean { f: 1 }",
        "krum {}", "krum { convention: FLOWER }", "multi_krum {}",
        "multi_krum { convention: BYZFL }", "bulyan {}", "geometric_median {}",
        "centered_clipping { tau: 1 }"}) {
    EXPECT_FALSE(UsesWeights(Parse<v1::AggregationSpec>(spec))) << spec;
  }
}

}  // namespace
}  // namespace koinon::aggregation
