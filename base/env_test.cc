#include "base/env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using OpenMode = Env::OpenMode;

// What every Env promises, over the machine's own and the one in memory.
enum class Kind { kReal, kMemory };

class EnvContractTest : public testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    env_ = GetParam() == Kind::kReal ? RealEnv() : &memory_;
    // "Subject_Condition_Outcome/Real": one folder per test.
    dir_ = absl::StrCat(
        testing::TempDir(), "/env_test/",
        testing::UnitTest::GetInstance()->current_test_info()->name());
    if (GetParam() == Kind::kReal) std::filesystem::remove_all(dir_);
    ASSERT_OK(env_->MakeDirs(dir_));
  }

  std::string Path(const std::string& name) const { return dir_ + "/" + name; }

  void Write(const std::string& path, const std::string& content) {
    ASSERT_OK_AND_ASSIGN(auto file, env_->Open(path, OpenMode::kCreate));
    ASSERT_OK(file->WriteAt(0, content.data(), content.size()));
  }

  MemoryEnv memory_;
  Env* env_ = nullptr;
  std::string dir_;
};

TEST_P(EnvContractTest, Open_MissingFile_NotFoundWithThePath) {
  for (const OpenMode mode : {OpenMode::kRead, OpenMode::kReadWrite}) {
    EXPECT_THAT(
        env_->Open(Path("none"), mode),
        StatusIs(absl::StatusCode::kNotFound, StartsWith(Path("none"))));
  }
  EXPECT_FALSE(env_->Exists(Path("none")));
}

TEST_P(EnvContractTest, Open_CreateInMissingDirectory_NotFound) {
  EXPECT_THAT(env_->Open(Path("none/file"), OpenMode::kCreate),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EnvContractTest, Open_Directory_FailedPrecondition) {
  for (const OpenMode mode : {OpenMode::kRead, OpenMode::kCreate}) {
    EXPECT_THAT(env_->Open(dir_, mode),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  }
}

TEST_P(EnvContractTest, Open_CreateExisting_Truncates) {
  Write(Path("f"), "content");
  Write(Path("f"), "");
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds(""));
}

TEST_P(EnvContractTest, Open_ReadWriteExisting_KeepsContent) {
  Write(Path("f"), "content");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kReadWrite));
  ASSERT_OK(file->WriteAt(3, "T", 1));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds("conTent"));
}

TEST_P(EnvContractTest, WriteAt_PastTheEnd_FillsWithZeros) {
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kCreate));
  ASSERT_OK(file->WriteAt(3, "x", 1));
  EXPECT_THAT(file->Size(), IsOkAndHolds(4u));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100),
              IsOkAndHolds(std::string("\0\0\0x", 4)));
}

TEST_P(EnvContractTest, WriteAt_NothingPastTheEnd_LeavesTheSize) {
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kCreate));
  ASSERT_OK(file->WriteAt(10, "", 0));
  EXPECT_THAT(file->Size(), IsOkAndHolds(0u));
}

TEST_P(EnvContractTest, WriteAt_FileOpenForReading_Fails) {
  Write(Path("f"), "content");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kRead));
  EXPECT_FALSE(file->WriteAt(0, "x", 1).ok());
  EXPECT_FALSE(file->Resize(0).ok());
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds("content"));
}

TEST_P(EnvContractTest, WriteAt_OverTheLargestOffset_ResourceExhausted) {
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kCreate));
  EXPECT_THAT(file->WriteAt(std::numeric_limits<uint64_t>::max(), "x", 1),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_THAT(file->Resize(std::numeric_limits<uint64_t>::max()),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_P(EnvContractTest, ReadAt_Middle_ReadsJustThat) {
  Write(Path("f"), "content");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kRead));
  std::string bytes(3, '-');
  ASSERT_OK(file->ReadAt(2, 3, bytes.data()));
  EXPECT_EQ(bytes, "nte");
  EXPECT_OK(file->ReadAt(7, 0, nullptr));
}

TEST_P(EnvContractTest, ReadAt_PastTheEnd_OutOfRangeWithPathAndPlace) {
  Write(Path("f"), "content");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kRead));
  std::string bytes(8, '-');
  EXPECT_THAT(file->ReadAt(0, 8, bytes.data()),
              StatusIs(absl::StatusCode::kOutOfRange,
                       AllOf(StartsWith(Path("f")), HasSubstr("8 bytes"))));
  EXPECT_THAT(
      file->ReadAt(std::numeric_limits<uint64_t>::max(), 8, bytes.data()),
      StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_P(EnvContractTest, Resize_LargerAndSmaller_KeepsTheBeginning) {
  Write(Path("f"), "content");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kReadWrite));
  ASSERT_OK(file->Resize(9));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100),
              IsOkAndHolds(std::string("content\0\0", 9)));
  ASSERT_OK(file->Resize(3));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds("con"));
  ASSERT_OK(file->Resize(0));
  EXPECT_THAT(file->Size(), IsOkAndHolds(0u));
}

TEST_P(EnvContractTest, Sync_AfterWrites_Ok) {
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("f"), OpenMode::kCreate));
  ASSERT_OK(file->WriteAt(0, "x", 1));
  EXPECT_OK(file->Sync());
  EXPECT_OK(env_->SyncDir(dir_));
}

TEST_P(EnvContractTest, SyncDir_Missing_NotFound) {
  EXPECT_THAT(env_->SyncDir(Path("none")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EnvContractTest, Rename_OverExisting_Replaces) {
  Write(Path("a"), "new");
  Write(Path("b"), "old");
  ASSERT_OK(env_->Rename(Path("a"), Path("b")));
  EXPECT_FALSE(env_->Exists(Path("a")));
  EXPECT_THAT(ReadFile(env_, Path("b"), 100), IsOkAndHolds("new"));
}

TEST_P(EnvContractTest, Rename_ToItself_KeepsTheFile) {
  Write(Path("a"), "x");
  ASSERT_OK(env_->Rename(Path("a"), Path("a")));
  EXPECT_THAT(ReadFile(env_, Path("a"), 100), IsOkAndHolds("x"));
}

TEST_P(EnvContractTest, Rename_Missing_NotFoundWithBothPaths) {
  EXPECT_THAT(env_->Rename(Path("none"), Path("b")),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(StartsWith(Path("none")), HasSubstr(Path("b")))));
  Write(Path("a"), "x");
  EXPECT_THAT(env_->Rename(Path("a"), Path("none/b")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EnvContractTest, Rename_OverOpenFile_TheOpenFileKeepsItsContent) {
  Write(Path("a"), "new");
  Write(Path("b"), "old");
  ASSERT_OK_AND_ASSIGN(auto file, env_->Open(Path("b"), OpenMode::kRead));
  ASSERT_OK(env_->Rename(Path("a"), Path("b")));
  std::string bytes(3, '-');
  ASSERT_OK(file->ReadAt(0, 3, bytes.data()));
  EXPECT_EQ(bytes, "old");
}

TEST_P(EnvContractTest, Remove_File_IsGone) {
  Write(Path("a"), "x");
  ASSERT_OK(env_->Remove(Path("a")));
  EXPECT_FALSE(env_->Exists(Path("a")));
  EXPECT_THAT(env_->Remove(Path("a")), StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EnvContractTest, Remove_Directory_Fails) {
  EXPECT_FALSE(env_->Remove(dir_).ok());
  EXPECT_TRUE(env_->Exists(dir_));
}

TEST_P(EnvContractTest, MakeDirs_NestedAndAgain_Ok) {
  ASSERT_OK(env_->MakeDirs(Path("x/y/z")));
  ASSERT_OK(env_->MakeDirs(Path("x/y/z/")));
  EXPECT_TRUE(env_->Exists(Path("x/y")));
  Write(Path("x/y/z/f"), "deep");
  EXPECT_THAT(ReadFile(env_, Path("x//y/./z/f"), 100), IsOkAndHolds("deep"));
}

TEST_P(EnvContractTest, MakeDirs_OverFile_FailedPrecondition) {
  Write(Path("f"), "x");
  EXPECT_THAT(env_->MakeDirs(Path("f")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(env_->MakeDirs(Path("f/below")),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST_P(EnvContractTest, List_FilesAndDirectories_SortedNames) {
  Write(Path("b"), "");
  Write(Path("a"), "");
  ASSERT_OK(env_->MakeDirs(Path("c/inner")));
  EXPECT_THAT(env_->List(dir_), IsOkAndHolds(ElementsAre("a", "b", "c")));
  EXPECT_THAT(env_->List(Path("c/inner")), IsOkAndHolds(ElementsAre()));
  EXPECT_THAT(env_->List(Path("none")),
              StatusIs(absl::StatusCode::kNotFound, StartsWith(Path("none"))));
}

TEST_P(EnvContractTest, IsPrivate_CreatedPrivate_True) {
  ASSERT_OK(env_->Open(Path("key"), OpenMode::kCreatePrivate));
  EXPECT_THAT(env_->IsPrivate(Path("key")), IsOkAndHolds(true));
  EXPECT_THAT(env_->IsPrivate(Path("none")),
              StatusIs(absl::StatusCode::kNotFound));
}

TEST_P(EnvContractTest, IsPrivate_CreatedOpen_False) {
  const mode_t before = umask(022);
  Write(Path("f"), "x");
  umask(before);
  EXPECT_THAT(env_->IsPrivate(Path("f")), IsOkAndHolds(false));
  // And once it is to be private, it is, though it was there.
  ASSERT_OK(env_->Open(Path("f"), OpenMode::kCreatePrivate));
  EXPECT_THAT(env_->IsPrivate(Path("f")), IsOkAndHolds(true));
}

TEST_P(EnvContractTest, ReadFile_OverTheBound_ResourceExhausted) {
  Write(Path("f"), "content");
  EXPECT_THAT(ReadFile(env_, Path("f"), 7), IsOkAndHolds("content"));
  EXPECT_THAT(ReadFile(env_, Path("f"), 6),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(StartsWith(Path("f")), HasSubstr("7 bytes"))));
}

TEST_P(EnvContractTest, WriteFileAtomically_NewAndReplaced_LeavesNothingElse) {
  ASSERT_OK(WriteFileAtomically(env_, Path("f"), "first"));
  ASSERT_OK(WriteFileAtomically(env_, Path("f"), "second"));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds("second"));
  EXPECT_THAT(env_->List(dir_), IsOkAndHolds(ElementsAre("f")));
}

TEST_P(EnvContractTest, WritePiecesAtomically_SeveralPieces_AreJoined) {
  ASSERT_OK(WritePiecesAtomically(env_, Path("f"), {"one", "", "two"}));
  EXPECT_THAT(ReadFile(env_, Path("f"), 100), IsOkAndHolds("onetwo"));
}

TEST_P(EnvContractTest, WritePrivateFileAtomically_OverOpenFile_IsPrivate) {
  Write(Path("key"), "old");
  ASSERT_OK(WritePrivateFileAtomically(env_, Path("key"), "secret"));
  EXPECT_THAT(env_->IsPrivate(Path("key")), IsOkAndHolds(true));
  EXPECT_THAT(ReadFile(env_, Path("key"), 100), IsOkAndHolds("secret"));
}

INSTANTIATE_TEST_SUITE_P(Envs, EnvContractTest,
                         testing::Values(Kind::kReal, Kind::kMemory),
                         [](const testing::TestParamInfo<Kind>& info) {
                           return info.param == Kind::kReal ? "Real" : "Memory";
                         });

TEST(RealEnvTest, Remove_NoPermission_PermissionDenied) {
  // Nobody may remove files there, not even root.
  EXPECT_THAT(RealEnv()->Remove("/proc/self/status"),
              StatusIs(absl::StatusCode::kPermissionDenied,
                       StartsWith("/proc/self/status: cannot remove: ")));
}

TEST(RealEnvTest, WriteAt_FullDisk_ResourceExhausted) {
  ASSERT_OK_AND_ASSIGN(auto file,
                       RealEnv()->Open("/dev/full", OpenMode::kReadWrite));
  EXPECT_THAT(file->WriteAt(0, "x", 1),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       StartsWith("/dev/full: cannot write: No space left")));
}

TEST(RealEnvTest, Resize_Larger_ReservesBlocks) {
  const std::string path = absl::StrCat(testing::TempDir(), "/reserved");
  ASSERT_OK_AND_ASSIGN(auto file, RealEnv()->Open(path, OpenMode::kCreate));
  ASSERT_OK(file->Resize(1 << 20));
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 1 << 20);
  EXPECT_GE(info.st_blocks * 512, 1 << 20);
}

TEST(DirectoryOfTest, Paths_GiveTheirDirectories) {
  EXPECT_EQ(DirectoryOf("a/b/c"), "a/b");
  EXPECT_EQ(DirectoryOf("/a"), "/");
  EXPECT_EQ(DirectoryOf("a"), ".");
}

}  // namespace
}  // namespace koinon
