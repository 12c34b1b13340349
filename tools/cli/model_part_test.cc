#include "tools/cli/model_part.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::cli {
namespace {

using ::testing::ElementsAre;

class KeepModelPartTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(env_.MakeDirs("/out"));
    ASSERT_OK(env_.SyncDir("/"));
  }
  void Write(std::vector<TensorSpec> tensors, std::vector<float> values) {
    const auto layout = ModelLayout::Create(std::move(tensors));
    ASSERT_OK(layout);
    ASSERT_OK(WriteModel(&env_, "/out/whole",
                         {*layout, std::move(values), {{"format", "pt"}}}));
  }

  MemoryEnv env_;
};

TEST_F(KeepModelPartTest, ControlVariates_StayBehind) {
  Write({{"w", DType::kF32, {2}},
         {"b", DType::kF32, {1}},
         {"scaffold.control/w", DType::kF32, {2}},
         {"scaffold.control/b", DType::kF32, {1}}},
        {1, 2, 3, 4, 5, 6});
  ASSERT_OK(KeepModelPart(&env_, "/out/whole", "/out/model"));
  env_.CrashAndLoseUnsynced();
  ASSERT_OK_AND_ASSIGN(const Model model,
                       ReadModel(&env_, "/out/model", 1 << 20));
  EXPECT_THAT(model.values, ElementsAre(1, 2, 3));
  EXPECT_EQ(model.layout.tensors()[1].name, "b");
  EXPECT_EQ(model.metadata.at("format"), "pt");
}

TEST_F(KeepModelPartTest, PlainModel_IsMovedAsItIs) {
  Write({{"w", DType::kF32, {2}}}, {1, 2});
  ASSERT_OK_AND_ASSIGN(const std::string before,
                       ReadFile(&env_, "/out/whole", 1 << 20));
  ASSERT_OK(KeepModelPart(&env_, "/out/whole", "/out/model"));
  env_.CrashAndLoseUnsynced();
  EXPECT_THAT(ReadFile(&env_, "/out/model", 1 << 20), IsOkAndHolds(before));
  EXPECT_FALSE(env_.Exists("/out/whole"));
}

TEST_F(KeepModelPartTest, FullDisk_LeavesTheWholeFile) {
  Write({{"w", DType::kF32, {2}}, {"scaffold.control/w", DType::kF32, {2}}},
        {1, 2, 3, 4});
  FaultInjectingEnv disk(&env_);
  disk.FillDisk();
  EXPECT_THAT(KeepModelPart(&disk, "/out/whole", "/out/model"),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_FALSE(env_.Exists("/out/model"));
  EXPECT_OK(KeepModelPart(&env_, "/out/whole", "/out/model"));
}

TEST_F(KeepModelPartTest, NoModel_IsRefused) {
  ASSERT_OK(WriteFileAtomically(&env_, "/out/whole", "no safetensors"));
  EXPECT_THAT(KeepModelPart(&env_, "/out/whole", "/out/model"),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

}  // namespace
}  // namespace koinon::cli
