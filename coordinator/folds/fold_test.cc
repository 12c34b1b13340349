#include "coordinator/folds/fold.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "aggregation/core/instruction_set.h"
#include "aggregation/core/update_set.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// More than one block, and a part of another.
constexpr size_t kElements = 16384 + 1001;

class FoldTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(memory_.MakeDirs("/data"));
    ASSERT_OK_AND_ASSIGN(
        spool_, Spool::Open(&env_, "/data/spool", {.max_bytes = 64 << 20}, {}));
    layout_ = *ModelLayout::Create({{"w", DType::kF32, {kElements}}});
  }

  FoldUpdate Put(const std::string& worker, std::vector<float> values,
                 double weight) {
    FoldUpdate update;
    update.worker = worker;
    update.weight = weight;
    update.extent = *spool_->Allocate(values.size() * sizeof(float));
    EXPECT_OK(spool_->Write(update.extent, 0, values.data(),
                            values.size() * sizeof(float)));
    return update;
  }
  FoldUpdate PutRandom(uint64_t seed) {
    std::vector<float> values(kElements);
    for (size_t j = 0; j < kElements; ++j) {
      values[j] = static_cast<float>(NormalAt(seed, j));
    }
    return Put(absl::StrCat("w", seed), std::move(values), 1.0 + 13 * seed);
  }
  std::vector<FoldUpdate> PutMany(size_t n) {
    std::vector<FoldUpdate> updates;
    for (size_t i = 0; i < n; ++i) updates.push_back(PutRandom(i + 1));
    return updates;
  }

  FoldInput Input(std::vector<FoldUpdate> updates,
                  std::optional<FoldRow> from = std::nullopt) {
    FoldInput input;
    input.format = *aggregation::FixedPoint::Of({});
    input.layout = layout_;
    input.from = std::move(from);
    input.check_digest = true;
    input.to = *spool_->Allocate(SumBytes(layout_));
    input.updates = std::move(updates);
    return input;
  }
  // The sum after `input`, as the journal would name it.
  FoldRow Fold(const FoldInput& input) {
    FoldRow row;
    row.job = "job";
    row.round = 3;
    row.extent = input.to;
    const auto digest = AddToSum(spool_.get(), input);
    EXPECT_OK(digest);
    if (digest.ok()) row.digest = *digest;
    return row;
  }

  MemoryEnv memory_;
  FaultInjectingEnv env_{&memory_};
  std::unique_ptr<Spool> spool_;
  ModelLayout layout_;
};

TEST_F(FoldTest, AnyOrderInAnyBatches_GivesTheSameDigest) {
  std::vector<FoldUpdate> updates = PutMany(40);
  const FoldRow whole = Fold(Input(updates));
  EXPECT_EQ(*spool_->DigestOf(whole.extent), whole.digest);
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Random random(seed);
    random.Shuffle(&updates);
    std::optional<FoldRow> sum;
    for (size_t begin = 0; begin < updates.size();) {
      const size_t end =
          std::min(updates.size(), begin + 1 + random.NextBelow(20));
      const FoldRow next =
          Fold(Input({updates.begin() + begin, updates.begin() + end}, sum));
      if (sum.has_value()) spool_->Release(sum->extent);
      sum = next;
      begin = end;
    }
    EXPECT_EQ(sum->digest, whole.digest) << "seed " << seed;
    spool_->Release(sum->extent);
  }
}

TEST_F(FoldTest, AnyInstructionSet_GivesTheSameDigest) {
  const std::vector<FoldUpdate> updates = PutMany(5);
  const FoldRow best = Fold(Input(updates));
  for (const auto set : aggregation::SupportedInstructionSets()) {
    FoldInput input = Input(updates);
    input.instruction_set = set;
    EXPECT_EQ(Fold(input).digest, best.digest)
        << aggregation::InstructionSetName(set);
  }
}

TEST_F(FoldTest, Reader_GivesWhatWasAddedUp) {
  const FoldRow row =
      Fold(Input({Put("a", std::vector<float>(kElements, 2), 3),
                  Put("b", std::vector<float>(kElements, 1), 4)}));
  SumReader reader(spool_.get(), row);
  std::vector<int64_t> sums(kElements);
  ASSERT_OK(reader.Read(absl::MakeSpan(sums).first(100)));
  ASSERT_OK(reader.Read(absl::MakeSpan(sums).subspan(100)));
  EXPECT_OK(reader.Check());
  const int64_t one = int64_t{1} << aggregation::FixedPoint::Of({})->bits;
  EXPECT_EQ(sums, std::vector<int64_t>(kElements, 10 * one));
  EXPECT_THAT(reader.Read(absl::MakeSpan(sums).first(1)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("round 3")));
}

TEST_F(FoldTest, SumThatIsNotWhatTheJournalSays_IsDataLossOfNobody) {
  FoldRow row = Fold(Input(PutMany(1)));
  const int64_t other = 12345;
  ASSERT_OK(spool_->Write(row.extent, 8000, &other, sizeof(other)));
  const absl::Status lost =
      AddToSum(spool_.get(), Input(PutMany(1), row)).status();
  EXPECT_THAT(lost, StatusIs(absl::StatusCode::kDataLoss,
                             AllOf(HasSubstr("running sum of job job, round 3"),
                                   HasSubstr("the journal says"))));
  EXPECT_EQ(aggregation::BlamedWorker(lost), std::nullopt);
  // A process trusts what it wrote itself.
  FoldInput trusting = Input(PutMany(1), row);
  trusting.check_digest = false;
  EXPECT_OK(AddToSum(spool_.get(), trusting));
  // One that is cut short.
  row = Fold(Input(PutMany(1)));
  row.extent.size -= 8;
  EXPECT_THAT(AddToSum(spool_.get(), Input(PutMany(1), row)),
              StatusIs(absl::StatusCode::kDataLoss));
}

TEST_F(FoldTest, ValueBeyondTheRange_BlamesItsWorkerAlone) {
  std::vector<float> values(kElements, 0.5f);
  values[kElements - 1] = 16.5f;
  std::vector<FoldUpdate> updates = PutMany(20);
  updates.push_back(Put("poisoned", std::move(values), 1));
  const absl::Status status = AddToSum(spool_.get(), Input(updates)).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                               AllOf(HasSubstr("w[17384] is 16.5"),
                                     HasSubstr("fixed_point.range"))));
  EXPECT_EQ(aggregation::BlamedWorker(status), "poisoned");
}

TEST_F(FoldTest, UpdateThatCannotBeRead_BlamesItsWorker) {
  const FoldInput input = Input(PutMany(3));
  env_.FailAt(FaultInjectingEnv::Operation::kRead, 2,
              absl::UnavailableError("bad sector"));
  const absl::Status status = AddToSum(spool_.get(), input).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_EQ(aggregation::BlamedWorker(status), "w2");
}

TEST_F(FoldTest, FullDisk_IsSaidAndTheOldSumStays) {
  const FoldRow row = Fold(Input(PutMany(2)));
  const std::vector<FoldUpdate> more = PutMany(1);
  const FoldInput input = Input(more, row);
  env_.FillDisk();
  EXPECT_THAT(AddToSum(spool_.get(), input),
              StatusIs(absl::StatusCode::kResourceExhausted));
  env_.StopFailing();
  EXPECT_EQ(*spool_->DigestOf(row.extent), row.digest);
  EXPECT_OK(AddToSum(spool_.get(), input));
}

TEST(FoldsOnArrivalTest, OnlyFixedPointFedAvgWithoutABuffer) {
  v1::JobSpec spec;
  EXPECT_FALSE(FoldsOnArrival(spec));
  spec.mutable_aggregation()->mutable_fedavg();
  EXPECT_FALSE(FoldsOnArrival(spec));
  spec.mutable_aggregation()->mutable_fedavg()->set_arithmetic(
      v1::AggregationSpec::FedAvg::FIXED_POINT);
  EXPECT_TRUE(FoldsOnArrival(spec));
  spec.mutable_buffer();
  EXPECT_FALSE(FoldsOnArrival(spec));
}

}  // namespace
}  // namespace koinon::coordinator
