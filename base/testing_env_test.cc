#include "base/testing_env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using OpenMode = Env::OpenMode;
using Operation = FaultInjectingEnv::Operation;

// A file that is durable, in a directory that is.
void MakeDurable(Env* env, const std::string& path,
                 const std::string& content) {
  ASSERT_OK(env->MakeDirs(DirectoryOf(path)));
  ASSERT_OK(env->SyncDir(DirectoryOf(DirectoryOf(path))));
  ASSERT_OK(WriteFileAtomically(env, path, content));
}

TEST(MemoryEnvTest, Crash_EverythingSynced_IsKept) {
  MemoryEnv env;
  MakeDurable(&env, "/d/f", "content");
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(ReadFile(&env, "/d/f", 100), IsOkAndHolds("content"));
}

TEST(MemoryEnvTest, Crash_DataNotSynced_IsLost) {
  MemoryEnv env;
  MakeDurable(&env, "/d/f", "old");
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/d/f", OpenMode::kReadWrite));
  ASSERT_OK(file->WriteAt(0, "new", 3));
  ASSERT_OK(env.SyncDir("/d"));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(ReadFile(&env, "/d/f", 100), IsOkAndHolds("old"));
}

TEST(MemoryEnvTest, Crash_NameNotSynced_IsLost) {
  MemoryEnv env;
  MakeDurable(&env, "/d/f", "x");
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/d/g", OpenMode::kCreate));
  ASSERT_OK(file->WriteAt(0, "new", 3));
  ASSERT_OK(file->Sync());
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(env.List("/d"), IsOkAndHolds(ElementsAre("f")));
}

TEST(MemoryEnvTest, Crash_NameSyncedDataNot_IsAnEmptyFile) {
  MemoryEnv env;
  MakeDurable(&env, "/d/f", "x");
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/d/g", OpenMode::kCreate));
  ASSERT_OK(file->WriteAt(0, "new", 3));
  ASSERT_OK(env.SyncDir("/d"));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(ReadFile(&env, "/d/g", 100), IsOkAndHolds(""));
}

TEST(MemoryEnvTest, Crash_RenameAndRemoveNotSynced_AreUndone) {
  MemoryEnv env;
  MakeDurable(&env, "/d/a", "a");
  MakeDurable(&env, "/d/b", "b");
  MakeDurable(&env, "/d/c", "c");
  ASSERT_OK(env.Rename("/d/a", "/d/b"));
  ASSERT_OK(env.Remove("/d/c"));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(ReadFile(&env, "/d/a", 100), IsOkAndHolds("a"));
  EXPECT_THAT(ReadFile(&env, "/d/b", 100), IsOkAndHolds("b"));
  EXPECT_THAT(ReadFile(&env, "/d/c", 100), IsOkAndHolds("c"));
}

TEST(MemoryEnvTest, Crash_RenameAndRemoveSynced_AreKept) {
  MemoryEnv env;
  MakeDurable(&env, "/d/a", "a");
  MakeDurable(&env, "/d/b", "b");
  ASSERT_OK(env.Rename("/d/a", "/d/b"));
  ASSERT_OK(env.SyncDir("/d"));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(env.List("/d"), IsOkAndHolds(ElementsAre("b")));
  EXPECT_THAT(ReadFile(&env, "/d/b", 100), IsOkAndHolds("a"));
}

TEST(MemoryEnvTest, Crash_DirectoryNotSynced_IsLostWithItsFiles) {
  MemoryEnv env;
  ASSERT_OK(env.MakeDirs("/d/e"));
  ASSERT_OK(WriteFileAtomically(&env, "/d/e/f", "x"));
  ASSERT_OK(env.SyncDir("/d"));
  env.CrashAndLoseUnsynced();
  EXPECT_FALSE(env.Exists("/d/e/f"));
  EXPECT_FALSE(env.Exists("/d"));
}

TEST(MemoryEnvTest, Crash_FileOpen_FailsFromThenOn) {
  MemoryEnv env;
  MakeDurable(&env, "/d/f", "x");
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/d/f", OpenMode::kReadWrite));
  env.CrashAndLoseUnsynced();
  EXPECT_THAT(file->WriteAt(0, "y", 1),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(MemoryEnvTest, File_OutlivesTheEnv_StillWorks) {
  auto env = std::make_unique<MemoryEnv>();
  ASSERT_OK_AND_ASSIGN(auto file, env->Open("/f", OpenMode::kCreate));
  env.reset();
  EXPECT_OK(file->WriteAt(0, "x", 1));
}

TEST(FaultInjectingEnvTest, FailAt_KthOperation_FailsOnceWithPathAndStatus) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/f", OpenMode::kCreate));
  env.FailAt(Operation::kSync, 2, absl::DataLossError("broken disk"));
  EXPECT_OK(file->Sync());
  EXPECT_THAT(file->Sync(), StatusIs(absl::StatusCode::kDataLoss,
                                     HasSubstr("/f: broken disk")));
  EXPECT_OK(file->Sync());
  EXPECT_EQ(env.count(Operation::kSync), 3);
  EXPECT_EQ(env.total_count(), 4);
}

TEST(FaultInjectingEnvTest, FailedWrite_HasWrittenItsFirstHalf) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  ASSERT_OK_AND_ASSIGN(auto file, env.Open("/f", OpenMode::kCreate));
  env.FailAt(Operation::kWrite, 1, absl::DataLossError("broken disk"));
  EXPECT_FALSE(file->WriteAt(0, "abcd", 4).ok());
  EXPECT_THAT(ReadFile(&memory, "/f", 100), IsOkAndHolds("ab"));
}

TEST(FaultInjectingEnvTest, FillDisk_UntilStopFailing_ResourceExhausted) {
  MemoryEnv memory;
  FaultInjectingEnv env(&memory);
  env.FillDisk();
  EXPECT_THAT(WriteFileAtomically(&env, "/f", "x"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  env.StopFailing();
  EXPECT_OK(WriteFileAtomically(&env, "/f", "x"));
}

// The promise of WriteFileAtomically, wherever the process or machine dies.
TEST(WriteFileAtomicallyTest, DiesAnywhere_FileIsOldOrNew) {
  bool completed = false;
  int64_t k = 1;
  for (; !completed; ++k) {
    ASSERT_LT(k, 100);
    MemoryEnv memory;
    MakeDurable(&memory, "/d/f", "the old content");
    FaultInjectingEnv env(&memory);
    env.FailAllFrom(k, absl::UnavailableError("the process died"));
    completed = WriteFileAtomically(&env, "/d/f", "the new one").ok();
    for (const bool machine_dies_too : {false, true}) {
      if (machine_dies_too) memory.CrashAndLoseUnsynced();
      ASSERT_OK_AND_ASSIGN(const std::string content,
                           ReadFile(&memory, "/d/f", 100));
      if (completed) {
        EXPECT_EQ(content, "the new one");
      } else {
        EXPECT_TRUE(content == "the old content" || content == "the new one")
            << "died at operation " << k << ": " << content;
      }
    }
  }
  // Open, write, sync, rename, sync of the directory: each was a place to die.
  EXPECT_EQ(k - 2, 5);
}

TEST(WriteFileAtomicallyTest, DiskFull_LeavesTheOldFileAndNoTemporary) {
  MemoryEnv memory;
  MakeDurable(&memory, "/d/f", "old");
  FaultInjectingEnv env(&memory);
  env.FillDisk();
  EXPECT_THAT(WriteFileAtomically(&env, "/d/f", "new"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(memory.List("/d"), IsOkAndHolds(ElementsAre("f")));
  EXPECT_THAT(ReadFile(&memory, "/d/f", 100), IsOkAndHolds("old"));
}

}  // namespace
}  // namespace koinon
