#include "base/safetensors_writer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Operation = FaultInjectingEnv::Operation;

constexpr char kPath[] = "/m/x.safetensors";

ModelLayout Layout() {
  auto layout = ModelLayout::Create(
      {{"w", DType::kF32, {2, 3}}, {"b", DType::kF32, {4}}});
  EXPECT_OK(layout);
  return *layout;
}

std::vector<std::string> Files(Env* env) {
  auto names = env->List("/m");
  return names.ok() ? *names : std::vector<std::string>();
}

TEST(SafetensorsWriterTest, Blocks_AreTheFileThatWriteModelWrites) {
  MemoryEnv env;
  ASSERT_OK(env.MakeDirs("/m"));
  std::string tapped;
  ASSERT_OK_AND_ASSIGN(
      auto writer, SafetensorsWriter::Create(
                       &env, kPath, Layout(), {{"a", "b"}},
                       [&](const void* data, size_t size) {
                         tapped.append(static_cast<const char*>(data), size);
                       }));
  ASSERT_OK(writer->Append({1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(env.Exists(kPath));
  ASSERT_OK(writer->Append({8, 9, 10}));
  ASSERT_OK(writer->Finish());

  Model model;
  model.layout = Layout();
  model.values = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  model.metadata = {{"a", "b"}};
  ASSERT_OK(WriteModel(&env, "/m/whole", model));
  ASSERT_OK_AND_ASSIGN(const std::string whole,
                       ReadFile(&env, "/m/whole", 1 << 20));
  ASSERT_OK_AND_ASSIGN(const std::string blocks,
                       ReadFile(&env, kPath, 1 << 20));
  EXPECT_EQ(blocks, whole);
  EXPECT_EQ(tapped, whole);
  EXPECT_EQ(writer->size_bytes(), whole.size());
}

TEST(SafetensorsWriterTest, Unfinished_LeavesWhatWasThere) {
  MemoryEnv env;
  ASSERT_OK(env.MakeDirs("/m"));
  ASSERT_OK(WriteFileAtomically(&env, kPath, "before"));
  {
    ASSERT_OK_AND_ASSIGN(auto writer,
                         SafetensorsWriter::Create(&env, kPath, Layout(), {}));
    ASSERT_OK(writer->Append({1, 2, 3}));
    EXPECT_EQ(Files(&env).size(), 2);
  }
  EXPECT_THAT(Files(&env), testing::ElementsAre("x.safetensors"));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(&env, kPath, 100));
  EXPECT_EQ(bytes, "before");
}

TEST(SafetensorsWriterTest, TooManyOrTooFew_AreRefusedAndCanGoOn) {
  MemoryEnv env;
  ASSERT_OK(env.MakeDirs("/m"));
  ASSERT_OK_AND_ASSIGN(auto writer,
                       SafetensorsWriter::Create(&env, kPath, Layout(), {}));
  EXPECT_THAT(writer->Append(std::vector<float>(11)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("11 elements"), HasSubstr("10 are"))));
  ASSERT_OK(writer->Append(std::vector<float>(9)));
  EXPECT_THAT(writer->Finish(), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("1 elements are missing")));
  ASSERT_OK(writer->Append({1}));
  ASSERT_OK(writer->Finish());
  EXPECT_THAT(writer->Finish(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(SafetensorsWriterTest, NotF32_IsRefused) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const ModelLayout integers,
                       ModelLayout::Create({{"n", DType::kI64, {1}}}));
  EXPECT_THAT(SafetensorsWriter::Create(&env, kPath, integers, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(kPath), HasSubstr("F32"))));
}

// Whatever operation fails, the old file or the whole new one is there, and
// nothing else stays.
TEST(SafetensorsWriterTest, FailureAtAnyOperation_OldOrNewAndNoTemporary) {
  for (int64_t k = 1;; ++k) {
    MemoryEnv memory;
    ASSERT_OK(memory.MakeDirs("/m"));
    ASSERT_OK(WriteFileAtomically(&memory, kPath, "before"));
    FaultInjectingEnv env(&memory);
    env.FailAllFrom(k, absl::DataLossError("dead"));
    absl::Status status;
    {
      auto writer = SafetensorsWriter::Create(&env, kPath, Layout(), {});
      status = writer.status();
      if (status.ok()) status = (*writer)->Append(std::vector<float>(10, 1));
      if (status.ok()) status = (*writer)->Finish();
      env.StopFailing();
    }
    ASSERT_OK_AND_ASSIGN(const std::string bytes,
                         ReadFile(&memory, kPath, 1 << 20));
    if (bytes != "before") {
      EXPECT_OK(ReadModel(&memory, kPath, 1 << 20)) << "operation " << k;
    } else {
      EXPECT_FALSE(status.ok());
    }
    if (status.ok()) break;
    ASSERT_LT(k, 100) << "never succeeds";
  }
}

TEST(SafetensorsWriterTest, FullDisk_IsSaidBeforeTheWork) {
  MemoryEnv memory;
  ASSERT_OK(memory.MakeDirs("/m"));
  FaultInjectingEnv env(&memory);
  env.FailAt(Operation::kResize, 1, absl::ResourceExhaustedError("disk full"));
  EXPECT_THAT(
      SafetensorsWriter::Create(&env, kPath, Layout(), {}),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
  EXPECT_THAT(Files(&memory), IsEmpty());
}

}  // namespace
}  // namespace koinon
