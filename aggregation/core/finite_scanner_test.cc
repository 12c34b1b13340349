#include "aggregation/core/finite_scanner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

ModelLayout Layout() {
  auto layout = ModelLayout::Create({{"fc1.weight", DType::kF32, {10'000}},
                                     {"fc1.bias", DType::kF32, {100}}});
  EXPECT_OK(layout);
  return *layout;
}

std::string Bytes(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

absl::Status ScanOnce(const std::vector<float>& values) {
  const std::string bytes = Bytes(values);
  FiniteScanner scanner;
  scanner.Scan(bytes);
  return scanner.Check(Layout());
}

TEST(FiniteScannerTest, NoBytes_Pass) {
  FiniteScanner scanner;
  scanner.Scan({});
  EXPECT_OK(scanner.Check(Layout()));
}

TEST(FiniteScannerTest, ExtremeFiniteValues_Pass) {
  using Limits = std::numeric_limits<float>;
  EXPECT_OK(
      ScanOnce({0.0f, -0.0f, Limits::max(), Limits::lowest(),
                Limits::denorm_min(), -Limits::denorm_min(), Limits::min()}));
}

TEST(FiniteScannerTest, NanAndInfinities_AreNamedWithTensorAndIndex) {
  std::vector<float> values(10'100, 1.0f);
  values[17] = kNan;
  EXPECT_THAT(ScanOnce(values), StatusIs(absl::StatusCode::kInvalidArgument,
                                         "fc1.weight[17] is NaN"));
  values[17] = -kNan;
  EXPECT_THAT(ScanOnce(values), StatusIs(absl::StatusCode::kInvalidArgument,
                                         "fc1.weight[17] is NaN"));
  values[17] = 1;
  values[10'003] = -kInf;
  EXPECT_THAT(ScanOnce(values), StatusIs(absl::StatusCode::kInvalidArgument,
                                         "fc1.bias[3] is infinite"));
}

TEST(FiniteScannerTest, SeveralBadValues_TheFirstIsNamed) {
  std::vector<float> values(10'100, 1.0f);
  values[9'000] = kInf;
  values[9'001] = kNan;
  EXPECT_THAT(ScanOnce(values), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("[9000] is infinite")));
}

TEST(FiniteScannerTest, BytesBeyondTheLayout_AreNamedByIndex) {
  std::vector<float> values(10'101, 1.0f);
  values[10'100] = kNan;
  EXPECT_THAT(ScanOnce(values), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("element 10100, beyond")));
}

// One bad value at any place, and pieces cut at any byte: the same verdict.
TEST(FiniteScannerTest, ArbitrarySplits_SameVerdictAsWhole) {
  const ModelLayout layout = Layout();
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    std::vector<float> values(1 + random.NextBelow(10'100), 0.5f);
    const bool bad = seed % 4 != 0;
    const size_t at = random.NextBelow(values.size());
    if (bad) values[at] = seed % 2 == 0 ? kNan : kInf;
    const std::string bytes = Bytes(values);
    const size_t longest = 1 + random.NextBelow(seed % 3 == 0 ? 9 : 20'000);
    FiniteScanner scanner;
    for (size_t done = 0; done < bytes.size();) {
      const size_t piece =
          std::min<size_t>(bytes.size() - done, random.NextBelow(longest + 1));
      scanner.Scan(absl::MakeSpan(bytes).subspan(done, piece));
      done += piece;
    }
    const absl::Status verdict = scanner.Check(layout);
    if (!bad) {
      EXPECT_OK(verdict) << "seed " << seed;
    } else {
      EXPECT_THAT(verdict, StatusIs(absl::StatusCode::kInvalidArgument,
                                    HasSubstr(layout.DescribeElement(at))))
          << "seed " << seed;
    }
  }
}

TEST(FiniteScannerTest, ValueBeyondABound_IsNamedWithIt) {
  const auto scan = [](float value) {
    std::vector<float> values(5000, -16.0f);
    values[4321] = value;
    const std::string bytes = Bytes(values);
    FiniteScanner scanner({.magnitude = 16, .name = "the.range"});
    scanner.Scan(bytes);
    return scanner.Check(Layout());
  };
  EXPECT_OK(scan(16.0f));
  EXPECT_OK(scan(-0.0f));
  for (float sign : {1.0f, -1.0f}) {
    EXPECT_THAT(
        scan(sign * 17),
        StatusIs(
            absl::StatusCode::kInvalidArgument,
            HasSubstr("17, expected at most 16 in magnitude (the.range)")));
    EXPECT_FALSE(scan(sign * std::nextafter(16.0f, 17.0f)).ok());
    EXPECT_FALSE(scan(sign * std::numeric_limits<float>::max()).ok());
  }
  EXPECT_THAT(scan(kNan), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("fc1.weight[4321] is NaN")));
  EXPECT_THAT(scan(kInf), StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("is infinite")));
}

}  // namespace
}  // namespace koinon::aggregation
