#include "coordinator/spool/spool.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "aggregation/core/combine.h"
#include "aggregation/core/testing_updates.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::coordinator {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Operation = FaultInjectingEnv::Operation;

constexpr uint64_t kBlock = Spool::kBlockBytes;
constexpr char kPath[] = "/spool";

absl::StatusOr<std::unique_ptr<Spool>> OpenSpool(
    Env* env, uint64_t max_bytes = 1 << 20,
    const std::vector<SpoolExtent>& taken = {}) {
  return Spool::Open(env, kPath, {max_bytes}, taken);
}

absl::Status WriteText(Spool* spool, const SpoolExtent& extent,
                       const std::string& text) {
  return spool->Write(extent, 0, text.data(), text.size());
}

TEST(SpoolTest, Allocate_GivesAlignedDisjointExtents) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  uint64_t end = 0;
  for (uint64_t size : {1ul, 4096ul, 4097ul, 10'000ul}) {
    ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(size));
    EXPECT_EQ(extent.size, size);
    EXPECT_EQ(extent.offset % kBlock, 0);
    EXPECT_GE(extent.offset, end);
    end = extent.offset + size;
  }
  EXPECT_EQ(spool->allocated_bytes(), 7 * kBlock);
}

TEST(SpoolTest, AllocateNothing_IsRefused) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  EXPECT_THAT(spool->Allocate(0), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(SpoolTest, BoundReached_SaysTheBoundAndRecovers) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env, 10 * kBlock + 5));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent a, spool->Allocate(6 * kBlock));
  EXPECT_THAT(spool->Allocate(5 * kBlock),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("40965 bytes"), HasSubstr("24576"))));
  for (uint64_t huge : {uint64_t{11 * kBlock}, ~uint64_t{0}}) {
    EXPECT_THAT(spool->Allocate(huge),
                StatusIs(absl::StatusCode::kResourceExhausted));
  }
  ASSERT_OK(spool->Allocate(4 * kBlock));
  EXPECT_THAT(spool->Allocate(1),
              StatusIs(absl::StatusCode::kResourceExhausted));
  spool->Release(a);
  EXPECT_OK(spool->Allocate(6 * kBlock));
  EXPECT_LE(spool->file_bytes(), 10 * kBlock);
}

TEST(SpoolTest, RoundAfterRound_ReusesTheFile) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env, 1 << 30));
  uint64_t file_bytes = 0;
  for (int round = 0; round < 20; ++round) {
    std::vector<SpoolExtent> extents;
    for (int i = 0; i < 50; ++i) {
      ASSERT_OK_AND_ASSIGN(extents.emplace_back(), spool->Allocate(9000));
    }
    for (const SpoolExtent& extent : extents) spool->Release(extent);
    if (round == 0) file_bytes = spool->file_bytes();
    EXPECT_EQ(spool->file_bytes(), file_bytes);
  }
  EXPECT_EQ(spool->allocated_bytes(), 0);
}

TEST(SpoolTest, Written_IsReadBackAsSourceAndDigest) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env, 64 << 20));
  const auto rows = aggregation::RandomRows(2, 300'001, 5);
  for (const auto& row : rows) {
    const uint64_t size = row.size() * sizeof(float);
    ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(size));
    const char* bytes = reinterpret_cast<const char*>(row.data());
    ASSERT_OK(spool->Write(extent, 1001, bytes + 1001, size - 1001));
    ASSERT_OK(spool->Write(extent, 0, bytes, 1001));
    EXPECT_THAT(spool->DigestOf(extent),
                IsOkAndHolds(Sha256Of(absl::string_view(bytes, size))));
    const auto source = spool->Source(extent);
    std::vector<float> scratch(1000);
    ASSERT_OK_AND_ASSIGN(const float* read,
                         source->Read(123'456, 1000, scratch.data()));
    EXPECT_EQ(std::memcmp(read, row.data() + 123'456, 4000), 0);
    EXPECT_THAT(source->Read(300'000, 2, scratch.data()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("300001")));
  }
}

TEST(SpoolTest, WriteOrReadBeyondTheExtent_IsRefused) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(10));
  EXPECT_OK(spool->Write(extent, 4, "123456", 6));
  char read[6];
  ASSERT_OK(spool->Read(extent, 4, read, 6));
  EXPECT_EQ(absl::string_view(read, 6), "123456");
  for (uint64_t offset : {uint64_t{5}, uint64_t{11}, ~uint64_t{0}}) {
    EXPECT_THAT(spool->Write(extent, offset, "123456", 6),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("update of 10")));
    EXPECT_THAT(spool->Read(extent, offset, read, 6),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("update of 10")));
  }
}

TEST(SpoolTest, Reopened_KeepsTakenExtentsAndFreesTheRest) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent lost, spool->Allocate(5000));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent kept, spool->Allocate(5));
  ASSERT_OK(WriteText(spool.get(), lost, "lost"));
  ASSERT_OK(WriteText(spool.get(), kept, "kept!"));
  ASSERT_OK(spool->Sync());
  spool.reset();
  env.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(spool, OpenSpool(&env, 1 << 20, {kept}));
  EXPECT_EQ(spool->allocated_bytes(), kBlock);
  EXPECT_THAT(spool->DigestOf(kept), IsOkAndHolds(Sha256Of("kept!")));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent next, spool->Allocate(5000));
  EXPECT_EQ(next.offset, lost.offset);
  spool->Release(kept);
  spool->Release(next);
  EXPECT_EQ(spool->allocated_bytes(), 0);
}

TEST(SpoolTest, CreatedFile_SurvivesPowerLoss) {
  MemoryEnv env;
  ASSERT_OK(OpenSpool(&env));
  env.CrashAndLoseUnsynced();
  EXPECT_TRUE(env.Exists(kPath));
}

TEST(SpoolTest, ExtentsThatCannotBe_AreDataLoss) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK(spool->Allocate(1 << 20));
  spool.reset();
  const std::vector<std::vector<SpoolExtent>> impossible = {
      {{1 << 20, 1}},                             // outside
      {{0, (1 << 20) + 1}},                       // longer than the file
      {{kBlock, ~uint64_t{0}}},                   // overflows
      {{~uint64_t{0} - kBlock + 1, 2 * kBlock}},  // overflows
      {{0, 5000}, {kBlock, 10}},                  // overlap
      {{0, 10}, {0, 10}},                         // twice
      {{7, 10}},                                  // not aligned
      {{0, 0}},                                   // empty
  };
  for (const auto& taken : impossible) {
    EXPECT_THAT(OpenSpool(&env, 1 << 20, taken),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr(kPath)));
  }
  EXPECT_OK(OpenSpool(&env, 1 << 20, {{0, 5000}, {2 * kBlock, 10}}));
}

TEST(SpoolTest, LoweredBound_CutsTheFreeEnd) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env, 100 * kBlock));
  ASSERT_OK(spool->Allocate(100 * kBlock));
  const SpoolExtent kept = {20 * kBlock, kBlock};
  spool.reset();
  ASSERT_OK_AND_ASSIGN(spool, OpenSpool(&env, 10 * kBlock, {kept}));
  EXPECT_EQ(spool->file_bytes(), 21 * kBlock);
  EXPECT_OK(spool->Allocate(10 * kBlock));
  EXPECT_OK(spool->Allocate(10 * kBlock));
  EXPECT_THAT(spool->Allocate(1),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(SpoolTest, FullDisk_IsSaidAndRecoveredFrom) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  env.FillDisk();
  EXPECT_THAT(spool->Allocate(10),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(spool->allocated_bytes(), 0);
  env.StopFailing();
  EXPECT_OK(spool->Allocate(10));
}

TEST(SpoolTest, NearlyFullDisk_GrowsByWhatIsNeeded) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  env.FailAt(Operation::kResize, 1, absl::ResourceExhaustedError("no room"));
  ASSERT_OK(spool->Allocate(5000));
  EXPECT_EQ(spool->file_bytes(), 2 * kBlock);
}

TEST(SpoolTest, FailedSync_IsFinal) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(4));
  ASSERT_OK(WriteText(spool.get(), extent, "text"));
  env.FailAt(Operation::kSync, 1, absl::DataLossError("broken disk"));
  const auto broken =
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("broken disk"));
  EXPECT_THAT(spool->Sync(), broken);
  EXPECT_THAT(spool->Sync(), broken);
  EXPECT_THAT(WriteText(spool.get(), extent, "more"), broken);
}

TEST(SpoolTest, FailedRead_IsDataLossOfTheSource) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(400));
  const auto source = spool->Source(extent);
  std::vector<float> scratch(100);
  for (auto code : {absl::StatusCode::kDataLoss, absl::StatusCode::kOutOfRange,
                    absl::StatusCode::kUnknown}) {
    env.FailAt(Operation::kRead, 1, absl::Status(code, "bad sector"));
    EXPECT_THAT(source->Read(0, 100, scratch.data()),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("bad sector")));
  }
}

TEST(SpoolDeathTest, ExtentReleasedTwice_EndsTheProcess) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(auto spool, OpenSpool(&env));
  ASSERT_OK_AND_ASSIGN(const SpoolExtent extent, spool->Allocate(10));
  ASSERT_OK(spool->Allocate(10));
  spool->Release(extent);
  EXPECT_DEATH(spool->Release(extent), "check failed");
}

// A round on a real disk gives the bytes of the same round in memory.
TEST(SpoolTest, AggregateFromRealFile_EqualsAggregateFromMemory) {
  const size_t n = 19, elements = 50'003;
  const auto rows = aggregation::RandomRows(n, elements, 9);
  std::vector<double> weights;
  for (size_t i = 0; i < n; ++i) weights.push_back(1.0 + i * i);
  const std::string path =
      absl::StrCat(std::getenv("TEST_TMPDIR"), "/aggregate.spool");
  ASSERT_OK_AND_ASSIGN(auto spool, Spool::Open(RealEnv(), path, {1 << 30}, {}));
  std::vector<aggregation::Update> updates;
  for (size_t i = 0; i < n; ++i) {
    ASSERT_OK_AND_ASSIGN(const SpoolExtent extent,
                         spool->Allocate(elements * sizeof(float)));
    ASSERT_OK(spool->Write(extent, 0, rows[i].data(), extent.size));
    updates.push_back(aggregation::TestUpdate(absl::StrFormat("w%03d", i),
                                              rows[i], weights[i]));
    updates.back().values = spool->Source(extent);
  }
  ASSERT_OK(spool->Sync());
  std::vector<aggregation::Refusal> refusals;
  const auto on_disk = aggregation::UpdateSet::Create(
      aggregation::TestExpected(elements), std::move(updates), &refusals);
  const auto in_memory = aggregation::TestSet(rows, weights);
  ThreadPool pool(2);
  aggregation::CheckingSink got(elements), expected(elements);
  const auto exact = aggregation::ExactWeights::Of(weights);
  ASSERT_OK(aggregation::CombineUpdates(on_disk, exact, &pool, &got));
  ASSERT_OK(aggregation::CombineUpdates(in_memory, exact, &pool, &expected));
  EXPECT_TRUE(aggregation::SameBits(got.values, expected.values));
}

}  // namespace
}  // namespace koinon::coordinator
