#include "worker/store/update_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/digest.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

const std::string kBytes(400, 'u');

v1::OfferTask Offer(const std::string& job = "job", int64_t round = 1,
                    char base = 'b') {
  v1::OfferTask offer;
  offer.mutable_task()->set_job(job);
  offer.mutable_task()->set_round(round);
  offer.mutable_task()->set_kind(v1::TaskRef::TRAIN);
  offer.set_base_digest(std::string(32, base));
  offer.set_layout_hash(std::string(32, 'l'));
  offer.set_base_version(round - 1);
  return offer;
}
TaskId Task(const std::string& job = "job", int64_t round = 1) {
  return TaskId{job, round, TaskId::Kind::kTrain};
}

// The state directory itself is the worker's business, and durable.
void MakeStateDir(Env* env) {
  ASSERT_OK(env->MakeDirs("/state"));
  ASSERT_OK(env->SyncDir("/"));
}

class UpdateStoreTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeStateDir(&memory_); }
  absl::StatusOr<std::unique_ptr<UpdateStore>> Open(
      Env* env, UpdateStore::Options options = {}) {
    if (options.worker.empty()) options.worker = "site-a";
    return UpdateStore::Open(env, "/state/updates", options);
  }
  absl::Status Stage(Env* env, const UpdateStore& store, const TaskId& task,
                     const std::string& bytes = kBytes) {
    auto file = env->Open(store.StagingPath(task), Env::OpenMode::kCreate);
    if (!file.ok()) return file.status();
    return (*file)->WriteAt(0, bytes.data(), bytes.size());
  }
  absl::StatusOr<v1::UpdateHeader> Keep(UpdateStore* store,
                                        const v1::OfferTask& offer,
                                        const std::string& bytes = kBytes) {
    const TaskId task = Task(offer.task().job(), offer.task().round());
    const absl::Status staged = Stage(&memory_, *store, task, bytes);
    if (!staged.ok()) return staged;
    return store->Keep(offer, v1::Metrics());
  }

  MemoryEnv memory_;
};

TEST_F(UpdateStoreTest, Keep_FillsTheHeaderAndOutlivesACrash) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  ASSERT_OK_AND_ASSIGN(const v1::UpdateHeader header,
                       Keep(store.get(), Offer()));
  EXPECT_EQ(header.size_bytes(), 400);
  EXPECT_EQ(header.digest(), Sha256Of(kBytes).ToBytes());
  EXPECT_EQ(header.base_digest(), std::string(32, 'b'));
  EXPECT_EQ(header.worker(), "site-a");
  EXPECT_EQ(header.layout_hash(), std::string(32, 'l'));
  memory_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(store, Open(&memory_));
  ASSERT_EQ(store->held().size(), 1u);
  EXPECT_EQ(store->held()[0].SerializeAsString(), header.SerializeAsString());
  EXPECT_OK(store->OpenUpdate(Task()));
}

TEST_F(UpdateStoreTest, Forget_RemovesBothFiles) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  ASSERT_OK(Keep(store.get(), Offer()));
  EXPECT_OK(store->Forget(Task()));
  EXPECT_OK(store->Forget(Task()));
  EXPECT_TRUE(store->held().empty());
  EXPECT_THAT(memory_.List("/state/updates"),
              IsOkAndHolds(::testing::IsEmpty()));
  EXPECT_THAT(store->OpenUpdate(Task()), StatusIs(absl::StatusCode::kNotFound));
}

TEST_F(UpdateStoreTest, Open_RemovesWhatACrashLeftUnfinished) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  ASSERT_OK(Keep(store.get(), Offer("kept")));
  ASSERT_OK(Stage(&memory_, *store, Task("staged")));
  ASSERT_OK(WriteFileAtomically(&memory_, "/state/updates/lone.1.update", "x"));
  ASSERT_OK(WriteFileAtomically(&memory_, "/state/updates/bad.1.header", "x"));
  ASSERT_OK(WriteFileAtomically(&memory_, "/state/updates/bad.1.update", "x"));
  ASSERT_OK_AND_ASSIGN(store, Open(&memory_));
  EXPECT_EQ(store->held().size(), 1u);
  EXPECT_THAT(
      memory_.List("/state/updates"),
      IsOkAndHolds(::testing::ElementsAre("kept.1.header", "kept.1.update")));
}

TEST_F(UpdateStoreTest, Open_HeaderThatFitsNoUpdate_IsDropped) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  ASSERT_OK(Keep(store.get(), Offer()));
  ASSERT_OK(
      WriteFileAtomically(&memory_, "/state/updates/job.1.update", "shorter"));
  ASSERT_OK_AND_ASSIGN(store, Open(&memory_));
  EXPECT_TRUE(store->held().empty());
}

TEST_F(UpdateStoreTest, Open_UpdateOfAnotherWorker_IsDropped) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  ASSERT_OK(Keep(store.get(), Offer()));
  UpdateStore::Options options;
  options.worker = "site-b";
  ASSERT_OK_AND_ASSIGN(store, Open(&memory_, options));
  EXPECT_TRUE(store->held().empty());
}

TEST_F(UpdateStoreTest, Keep_WithoutAnUpdate_SaysSo) {
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_));
  EXPECT_THAT(store->Keep(Offer(), v1::Metrics()),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr("training left no update")));
  EXPECT_THAT(Keep(store.get(), Offer(), ""),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("of 0 bytes")));
  EXPECT_THAT(Keep(store.get(), Offer(), "12345"),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("of 5 bytes")));
}

TEST_F(UpdateStoreTest, Keep_OverTheBounds_NamesTheBound) {
  UpdateStore::Options options;
  options.max_updates = 2;
  options.max_bytes = 1000;
  ASSERT_OK_AND_ASSIGN(auto store, Open(&memory_, options));
  ASSERT_OK(Keep(store.get(), Offer("a")));
  EXPECT_THAT(
      Keep(store.get(), Offer("b"), std::string(604, 'x')),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1000 bytes")));
  ASSERT_OK(Keep(store.get(), Offer("b")));
  EXPECT_THAT(
      Keep(store.get(), Offer("c"), "1234"),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 updates")));
  // Replacing one is no growth.
  EXPECT_OK(Keep(store.get(), Offer("b", 1, 'x')));
  EXPECT_EQ(store->held().size(), 2u);
}

TEST_F(UpdateStoreTest, Keep_DiskFull_FailsAndLeavesTheOthersAlone) {
  FaultInjectingEnv env(&memory_);
  ASSERT_OK_AND_ASSIGN(auto store, Open(&env));
  ASSERT_OK(Keep(store.get(), Offer("a")));
  ASSERT_OK(Stage(&memory_, *store, Task("b")));
  env.FillDisk();
  EXPECT_THAT(store->Keep(Offer("b"), v1::Metrics()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  env.StopFailing();
  EXPECT_EQ(store->held().size(), 1u);
  EXPECT_FALSE(memory_.Exists(store->StagingPath(Task("b"))));
  ASSERT_OK(Keep(store.get(), Offer("b")));
  EXPECT_EQ(store->held().size(), 2u);
}

// Death at each single operation of Keep, with and without loss of what was not
// synced: afterwards the update is held whole or not at all, and held if Keep
// said so. The update replaces one of another base, the hardest case.
TEST_F(UpdateStoreTest, Keep_KilledAnywhere_IsHeldWholeOrNotAtAll) {
  for (bool power_loss : {false, true}) {
    for (int64_t k = 1; k < 100; ++k) {
      MemoryEnv memory;
      MakeStateDir(&memory);
      FaultInjectingEnv env(&memory);
      ASSERT_OK_AND_ASSIGN(auto store, Open(&env));
      ASSERT_OK(Stage(&memory, *store, Task(), std::string(400, 'o')));
      ASSERT_OK(store->Keep(Offer("job", 1, 'o'), v1::Metrics()));
      ASSERT_OK(Stage(&memory, *store, Task()));
      const int64_t before = env.total_count();
      env.FailAllFrom(k, absl::DataLossError("killed"));
      const bool kept = store->Keep(Offer(), v1::Metrics()).ok();
      const bool done = env.total_count() - before < k;
      env.StopFailing();
      if (power_loss) memory.CrashAndLoseUnsynced();
      ASSERT_OK_AND_ASSIGN(store, Open(&env));
      const auto held = store->held();
      ASSERT_LE(held.size(), 1u);
      if (kept) {
        ASSERT_EQ(held.size(), 1u) << "lost, k = " << k;
        EXPECT_EQ(held[0].base_digest()[0], 'b');
      }
      if (!held.empty()) {
        ASSERT_OK_AND_ASSIGN(
            const std::string bytes,
            ReadFile(&memory, "/state/updates/job.1.update", 1000));
        EXPECT_EQ(Sha256Of(bytes).ToBytes(), held[0].digest()) << "k = " << k;
      }
      if (done) break;
    }
  }
}

}  // namespace
}  // namespace koinon::worker
