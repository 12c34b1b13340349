#include "worker/store/control_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Operation = FaultInjectingEnv::Operation;

constexpr float kInfinite = std::numeric_limits<float>::infinity();

TaskId Round(int64_t round, const JobId& job = "job") {
  return TaskId{job, round, TaskId::Kind::kTrain};
}

ModelLayout Pair() { return *ModelLayout::Create({{"w", DType::kF32, {2}}}); }

class ControlStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(memory_.MakeDirs("/state"));
    ASSERT_OK(memory_.SyncDir("/"));
  }

  absl::StatusOr<std::unique_ptr<ControlStore>> Open(
      ControlStore::Options options = {}) {
    return Open(&memory_, options);
  }
  static absl::StatusOr<std::unique_ptr<ControlStore>> Open(
      Env* env, ControlStore::Options options = {}) {
    return ControlStore::Open(env, "/state/controls", options);
  }

  // An update: differences of the model, then of the control variate.
  std::unique_ptr<File> Update(const std::vector<float>& values) {
    auto file = memory_.Open("/update", Env::OpenMode::kCreate);
    EXPECT_OK(file);
    EXPECT_OK(
        (*file)->WriteAt(0, values.data(), values.size() * sizeof(float)));
    return *std::move(file);
  }

  MemoryEnv memory_;
  const ControlStore::Job job_ = {"job", 1234};
};

TEST_F(ControlStoreTest, NewJob_StartsAtZeroAndIsHeldFromThenOn) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  EXPECT_FALSE(store->Holds("job"));
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(0, 0)));
  EXPECT_TRUE(store->Holds("job"));
  // What is settled after a crash must still be known to be of this kind.
  memory_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_TRUE(store->Holds("job"));
}

TEST_F(ControlStoreTest, Include_AddsTheSecondHalfDurably) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  EXPECT_OK(store->Include(Round(1), *Update({9, 9, 1, 2})));
  EXPECT_OK(store->Include(Round(4), *Update({9, 9, 0.5f, -1})));
  memory_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(1.5f, 1)));
}

TEST_F(ControlStoreTest, SameUpdateTwice_CountsOnce) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  EXPECT_OK(store->Include(Round(2), *Update({9, 9, 1, 2})));
  EXPECT_OK(store->Include(Round(2), *Update({9, 9, 1, 2})));
  // The process ended before it forgot the update.
  memory_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_OK(store->Include(Round(2), *Update({9, 9, 1, 2})));
  EXPECT_OK(store->Include(Round(1), *Update({9, 9, 1, 2})));
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(1, 2)));
}

// The process dies at each operation of Include in turn. What it finds when it
// comes again is the old control variate or the new one, and including again
// gives the new one, once.
TEST_F(ControlStoreTest, DeathAnywhereInInclude_CountsOnce) {
  int64_t deaths = 0;
  for (int64_t at = 1;; ++at) {
    memory_.CrashAndLoseUnsynced();
    SCOPED_TRACE(absl::StrCat("operation ", at));
    const ControlStore::Job job = {absl::StrCat("job", at), 1};
    FaultInjectingEnv env(&memory_);
    ASSERT_OK_AND_ASSIGN(auto store, Open(&env));
    ASSERT_OK(store->Read(job, Pair()));
    ASSERT_OK(store->Include(Round(1, job.name), *Update({9, 9, 1, 2})));
    env.FailAllFrom(at, absl::DataLossError("dead"));
    const absl::Status status =
        store->Include(Round(2, job.name), *Update({9, 9, 10, 20}));
    // The same process, once the disk is well again ...
    env.StopFailing();
    if (at % 2 == 0) {
      EXPECT_OK(store->Include(Round(2, job.name), *Update({9, 9, 10, 20})));
      EXPECT_THAT(store->Read(job, Pair()), IsOkAndHolds(ElementsAre(11, 22)));
    }
    // ... and the next one, after the power was lost.
    memory_.CrashAndLoseUnsynced();
    ASSERT_OK_AND_ASSIGN(store, Open());
    ASSERT_OK_AND_ASSIGN(const std::vector<float> found,
                         store->Read(job, Pair()));
    const bool is_new = found[0] == 11;
    EXPECT_THAT(found, is_new ? ElementsAre(11, 22) : ElementsAre(1, 2));
    EXPECT_TRUE(is_new || (!status.ok() && at % 2 == 1));
    EXPECT_OK(store->Include(Round(2, job.name), *Update({9, 9, 10, 20})));
    EXPECT_THAT(store->Read(job, Pair()), IsOkAndHolds(ElementsAre(11, 22)));
    if (status.ok()) break;
    ++deaths;
  }
  EXPECT_GE(deaths, 6);  // open, read, write, sync, rename, sync of the folder
}

// The rename reached the folder, the sync of the folder failed: the file says
// the new round, but only a sync makes that last.
TEST_F(ControlStoreTest, FolderNotSynced_IsSyncedTheSecondTime) {
  FaultInjectingEnv env(&memory_);
  ASSERT_OK_AND_ASSIGN(auto store, Open(&env));
  ASSERT_OK(store->Read(job_, Pair()));
  env.FailAt(Operation::kSyncDir, 1, absl::DataLossError("broken disk"));
  EXPECT_THAT(store->Include(Round(1), *Update({9, 9, 1, 2})),
              StatusIs(absl::StatusCode::kDataLoss));
  EXPECT_OK(store->Include(Round(1), *Update({9, 9, 1, 2})));
  memory_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(1, 2)));
}

TEST_F(ControlStoreTest, DiskFull_KeepsTheOld) {
  FaultInjectingEnv env(&memory_);
  ASSERT_OK_AND_ASSIGN(auto store, Open(&env));
  ASSERT_OK(store->Read(job_, Pair()));
  ASSERT_OK(store->Include(Round(1), *Update({9, 9, 1, 2})));
  env.FillDisk();
  EXPECT_THAT(store->Include(Round(2), *Update({9, 9, 1, 2})),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(store->Read({"other", 1}, Pair()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(store->Holds("other"));
  env.StopFailing();
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(1, 2)));
}

TEST_F(ControlStoreTest, AnotherJobOfTheName_StartsAtZero) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  ASSERT_OK(store->Include(Round(7), *Update({9, 9, 1, 2})));
  const ControlStore::Job again = {"job", 5678};
  EXPECT_THAT(store->Read(again, Pair()), IsOkAndHolds(ElementsAre(0, 0)));
  // Its rounds count from the start again.
  EXPECT_OK(store->Include(Round(1), *Update({9, 9, 3, 4})));
  EXPECT_THAT(store->Read(again, Pair()), IsOkAndHolds(ElementsAre(3, 4)));
}

TEST_F(ControlStoreTest, AnotherModel_StartsAtZero) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  ASSERT_OK(store->Include(Round(7), *Update({9, 9, 1, 2})));
  const auto other = ModelLayout::Create({{"v", DType::kF32, {2}}});
  EXPECT_THAT(store->Read(job_, *other), IsOkAndHolds(ElementsAre(0, 0)));
}

TEST_F(ControlStoreTest, BadUpdates_AreRefusedAndChangeNothing) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  EXPECT_THAT(store->Include(Round(1), *Update({9, 9, 1, 2})),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("job job")));
  ASSERT_OK(store->Read(job_, Pair()));
  EXPECT_THAT(store->Include(Round(1), *Update({1, 2})),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("8 bytes, the job's model and control "
                                 "variate have 16")));
  EXPECT_THAT(
      store->Include(Round(1), *Update({9, 9, 1, kInfinite})),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("w[1] became inf")));
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(0, 0)));
}

TEST_F(ControlStoreTest, TooManyJobs_TheOneUsedLongestAgoGoes) {
  ASSERT_OK_AND_ASSIGN(auto store, Open({.max_jobs = 2}));
  ASSERT_OK(store->Read({"a", 1}, Pair()));
  ASSERT_OK(store->Read({"b", 1}, Pair()));
  ASSERT_OK(store->Include(Round(1, "a"), *Update({9, 9, 1, 2})));
  ASSERT_OK(store->Read({"c", 1}, Pair()));
  EXPECT_FALSE(store->Holds("b"));
  EXPECT_THAT(store->Read({"a", 1}, Pair()), IsOkAndHolds(ElementsAre(1, 2)));
  // The next process knows the order, too, and a smaller bound.
  ASSERT_OK(store->Include(Round(1, "c"), *Update({9, 9, 1, 2})));
  ASSERT_OK_AND_ASSIGN(store, Open({.max_jobs = 1}));
  EXPECT_TRUE(store->Holds("c"));
  EXPECT_FALSE(store->Holds("a"));
  EXPECT_THAT(memory_.List("/state/controls"),
              IsOkAndHolds(ElementsAre("c.safetensors")));
}

TEST_F(ControlStoreTest, TooManyBytes_OthersGoAndOneTooLargeIsRefused) {
  ASSERT_OK_AND_ASSIGN(auto store, Open({.max_bytes = 16}));
  ASSERT_OK(store->Read({"a", 1}, Pair()));
  ASSERT_OK(store->Read({"b", 1}, Pair()));
  EXPECT_TRUE(store->Holds("a"));
  ASSERT_OK(store->Read({"c", 1}, Pair()));
  EXPECT_FALSE(store->Holds("a"));
  const auto large = ModelLayout::Create({{"w", DType::kF32, {5}}});
  EXPECT_THAT(store->Read({"d", 1}, *large),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("the bound is 16 bytes, that of job d has "
                                 "20")));
  EXPECT_TRUE(store->Holds("b"));
}

TEST_F(ControlStoreTest, WhatIsNoControlVariate_IsDroppedAtTheStart) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  ASSERT_OK(memory_.Rename("/state/controls/job.safetensors",
                           "/state/controls/other.safetensors"));
  ASSERT_OK(WriteFileAtomically(&memory_, "/state/controls/torn.safetensors",
                                "half a he"));
  Model plain{Pair(), {1, 2}, {}};
  ASSERT_OK(WriteModel(&memory_, "/state/controls/plain.safetensors", plain));
  ASSERT_OK(
      WriteFileAtomically(&memory_, "/state/controls/x.safetensors.tmp", "x"));
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_THAT(memory_.List("/state/controls"),
              IsOkAndHolds(::testing::IsEmpty()));
  EXPECT_FALSE(store->Holds("job"));
}

TEST_F(ControlStoreTest, DiskInTrouble_StopsTheStartAndLosesNothing) {
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, Pair()));
  ASSERT_OK(store->Include(Round(1), *Update({9, 9, 1, 2})));
  FaultInjectingEnv env(&memory_);
  env.FailAt(Operation::kRead, 1, absl::DataLossError("broken disk"));
  EXPECT_THAT(Open(&env), StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK_AND_ASSIGN(store, Open());
  EXPECT_THAT(store->Read(job_, Pair()), IsOkAndHolds(ElementsAre(1, 2)));
}

// Many blocks, so that a block's place matters.
TEST_F(ControlStoreTest, LargeControlVariate_IsAddedElementByElement) {
  constexpr size_t kCount = (256 << 10) * 2 + 3;
  const auto layout = ModelLayout::Create({{"w", DType::kF32, {kCount}}});
  ASSERT_OK_AND_ASSIGN(auto store, Open());
  ASSERT_OK(store->Read(job_, *layout));
  std::vector<float> update(2 * kCount, -1);
  for (size_t i = 0; i < kCount; ++i)
    update[kCount + i] = static_cast<float>(i);
  ASSERT_OK(store->Include(Round(1), *Update(update)));
  ASSERT_OK(store->Include(Round(2), *Update(update)));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> values,
                       store->Read(job_, *layout));
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(values[i], 2 * static_cast<float>(i)) << i;
  }
}

}  // namespace
}  // namespace koinon::worker
