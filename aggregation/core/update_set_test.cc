#include "aggregation/core/update_set.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/testing_updates.h"
#include "base/status_matchers.h"

namespace koinon::aggregation {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<Update> Updates(Update a, Update b) {
  std::vector<Update> updates;
  updates.push_back(std::move(a));
  updates.push_back(std::move(b));
  return updates;
}

// One good update and `bad`, which must be refused as `matcher` says; the good
// one stays.
template <typename Matcher>
void ExpectRefused(Update bad, Matcher matcher, double max_weight = 0) {
  UpdateSet::Expected expected = TestExpected(2);
  expected.max_weight = max_weight;
  bad.worker = "bad";
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(
      expected, Updates(std::move(bad), TestUpdate("good", {1, 2})), &refusals);
  ASSERT_EQ(set.size(), 1);
  EXPECT_EQ(set.worker(0), "good");
  ASSERT_EQ(refusals.size(), 1);
  EXPECT_EQ(refusals[0].worker, "bad");
  EXPECT_THAT(refusals[0].reason, matcher);
  EXPECT_THAT(std::string(refusals[0].reason.message()),
              HasSubstr("worker bad"));
  EXPECT_EQ(BlamedWorker(refusals[0].reason), "bad");
}

TEST(UpdateSetTest, NoUpdates_IsEmpty) {
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(TestExpected(3), {}, &refusals);
  EXPECT_EQ(set.size(), 0);
  EXPECT_EQ(set.elements(), 3);
  EXPECT_TRUE(refusals.empty());
}

TEST(UpdateSetTest, AnyOrder_IsCanonicalised) {
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(
      TestExpected(1),
      Updates(TestUpdate("z", {1}, 5), TestUpdate("b", {2}, 6)), &refusals);
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(set.worker(0), "b");
  EXPECT_EQ(set.weight(0), 6);
  EXPECT_EQ(set.worker(1), "z");
  EXPECT_EQ(set.weight(1), 5);
}

TEST(UpdateSetTest, WrongLayout_IsRefusedWithBothHashes) {
  Update update = TestUpdate("bad", {1, 2});
  update.layout_hash = TestLayout(3).hash();
  ExpectRefused(std::move(update),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(TestLayout(3).hash().ToShortHex()),
                               HasSubstr(TestLayout(2).hash().ToShortHex()))));
}

TEST(UpdateSetTest, WrongSize_IsRefusedWithBothSizes) {
  Update update = TestUpdate("bad", {1, 2});
  update.elements = 1024;
  ExpectRefused(std::move(update),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("1024 elements, the model has 2")));
}

TEST(UpdateSetTest, WrongBaseVersion_IsRefusedWithBothVersions) {
  Update update = TestUpdate("bad", {1, 2});
  update.base_version = 40;
  ExpectRefused(std::move(update),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("version 40, the round from version 41")));
}

TEST(UpdateSetTest, NoValues_IsRefused) {
  Update update = TestUpdate("bad", {1, 2});
  update.values = nullptr;
  ExpectRefused(std::move(update),
                StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(UpdateSetTest, BadWeights_AreRefusedWithTheWeight) {
  using Limits = std::numeric_limits<double>;
  for (double weight : {0.0, -0.0, -3.0, Limits::infinity(),
                        -Limits::infinity(), Limits::quiet_NaN()}) {
    // A cap does not make a bad weight good.
    for (double cap : {0.0, 10.0}) {
      ExpectRefused(
          TestUpdate("bad", {1, 2}, weight),
          StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("weight")),
          cap);
    }
  }
  ExpectRefused(TestUpdate("bad", {1, 2}, 1e300),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("weight 1e+300, expected at most")));
}

TEST(UpdateSetTest, BadDiscounts_AreRefusedWithTheDiscount) {
  using Limits = std::numeric_limits<double>;
  for (double discount : {0.0, -0.5, 1.0000001, Limits::infinity(),
                          -Limits::infinity(), Limits::quiet_NaN()}) {
    Update update = TestUpdate("bad", {1, 2});
    update.discount = discount;
    ExpectRefused(std::move(update),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("discount"),
                                 HasSubstr("expected a number in (0, 1]"))));
  }
}

// A round of version 41 that takes updates from 38 on.
TEST(UpdateSetTest, StaleUpdates_AreTakenUpToTheirMaximum) {
  UpdateSet::Expected expected = TestExpected(1);
  expected.max_staleness = 3;
  std::vector<Update> updates;
  for (int64_t version : {37, 38, 40, 41, 42}) {
    updates.push_back(TestUpdate(absl::StrCat("from ", version), {1}));
    updates.back().base_version = version;
    updates.back().discount = version == 41 ? 1 : 0.25;
  }
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(expected, std::move(updates), &refusals);
  EXPECT_EQ(set.max_staleness(), 3);
  ASSERT_EQ(set.size(), 3);
  EXPECT_EQ(set.staleness(0), 3);
  EXPECT_EQ(set.discount(0), 0.25);
  EXPECT_EQ(set.staleness(1), 1);
  EXPECT_EQ(set.staleness(2), 0);
  EXPECT_EQ(set.discount(2), 1);
  ASSERT_EQ(refusals.size(), 2);
  EXPECT_THAT(refusals[0].reason,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("version 37, the round from version 41"),
                             HasSubstr("3 versions older are allowed"))));
  EXPECT_THAT(refusals[1].reason,
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("version 42, the round from version 41")));
}

// As far as a version can be from another: nothing overflows.
TEST(UpdateSetTest, VersionsWorldsApart_AreRefused) {
  for (int64_t version : {std::numeric_limits<int64_t>::min(),
                          std::numeric_limits<int64_t>::max()}) {
    Update update = TestUpdate("bad", {1, 2});
    update.base_version = version;
    ExpectRefused(std::move(update),
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           HasSubstr(absl::StrCat("version ", version))));
  }
}

TEST(UpdateSetTest, LargeWeight_IsCapped) {
  UpdateSet::Expected expected = TestExpected(1);
  expected.max_weight = 100;
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(
      expected, Updates(TestUpdate("a", {1}, 1e300), TestUpdate("b", {1}, 99)),
      &refusals);
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(set.weight(0), 100);
  EXPECT_EQ(set.weight(1), 99);
}

TEST(UpdateSetTest, SecondUpdateOfAWorker_IsRefused) {
  std::vector<Update> updates =
      Updates(TestUpdate("twice", {1, 1}, 5), TestUpdate("twice", {2, 2}, 6));
  updates.push_back(TestUpdate("once", {1, 1}));
  std::vector<Refusal> refusals;
  const UpdateSet set =
      UpdateSet::Create(TestExpected(2), std::move(updates), &refusals);
  ASSERT_EQ(set.size(), 2);
  EXPECT_EQ(set.worker(1), "twice");
  EXPECT_EQ(set.weight(1), 5);
  ASSERT_EQ(refusals.size(), 1);
  EXPECT_THAT(refusals[0].reason, StatusIs(absl::StatusCode::kAlreadyExists,
                                           HasSubstr("worker twice")));
}

TEST(UpdateSetTest, BadThenGoodUpdateOfAWorker_TheGoodOneCounts) {
  std::vector<Refusal> refusals;
  const UpdateSet set = UpdateSet::Create(
      TestExpected(2),
      Updates(TestUpdate("w", {1, 1}, -1), TestUpdate("w", {2, 2}, 6)),
      &refusals);
  ASSERT_EQ(set.size(), 1);
  EXPECT_EQ(set.weight(0), 6);
  EXPECT_EQ(refusals.size(), 1);
}

TEST(MemorySourceTest, BeyondTheEnd_IsDataLoss) {
  const std::vector<float> values = {1, 2, 3};
  const MemorySource source(values);
  ASSERT_OK_AND_ASSIGN(const float* read, source.Read(1, 2, nullptr));
  EXPECT_EQ(read, values.data() + 1);
  EXPECT_THAT(source.Read(2, 2, nullptr),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("there are 3")));
  EXPECT_THAT(source.Read(~size_t{0}, 2, nullptr),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST(BlamedWorkerTest, OtherStatuses_BlameNobody) {
  EXPECT_EQ(BlamedWorker(absl::OkStatus()), std::nullopt);
  EXPECT_EQ(BlamedWorker(absl::DataLossError("x")), std::nullopt);
}

}  // namespace
}  // namespace koinon::aggregation
