#include "worker/train/update_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "worker/data/testdata.h"
#include "worker/train/testtask.h"

namespace koinon::worker {
namespace {

using testdata::TempPath;
using testing::ElementsAre;
using testing::HasSubstr;
using testtask::ReadFloats;

constexpr float kInfinite = std::numeric_limits<float>::infinity();

Model MakeModel(std::vector<TensorSpec> tensors, std::vector<float> values) {
  const auto layout = ModelLayout::Create(std::move(tensors));
  EXPECT_OK(layout);
  return {.layout = *layout, .values = std::move(values), .metadata = {}};
}

Model Base() {
  return MakeModel(
      {{.name = "w", .shape = {2, 2}}, {.name = "b", .shape = {1}}},
      {1, 2, 3, 4, 5});
}

std::string Write(const std::string& name, const Model& model) {
  const std::string path = TempPath(name);
  EXPECT_OK(WriteModel(RealEnv(), path, model));
  return path;
}

absl::StatusOr<FileUpdate> Update(const Model& base, const Model& trained) {
  return WriteUpdateOfFiles(RealEnv(), Write("base", base),
                            Write("trained", trained), TempPath("update"));
}

TEST(WriteUpdate, Difference_IsFlat) {
  const Model base = Base();
  EXPECT_OK(WriteUpdate(RealEnv(), base.layout, base.values, {2, 2, 2, 2, 2},
                        {}, TempPath("update")));
  EXPECT_THAT(ReadFloats(TempPath("update")), ElementsAre(1, 0, -1, -2, -3));
}

TEST(WriteUpdate, Rest_FollowsAsItIs) {
  const Model both =
      MakeModel({{.name = "w", .shape = {2}}, {.name = "c", .shape = {2}}}, {});
  EXPECT_OK(WriteUpdate(RealEnv(), both.layout, {1, 2}, {4, 4}, {5, 6},
                        TempPath("update")));
  EXPECT_THAT(ReadFloats(TempPath("update")), ElementsAre(3, 2, 5, 6));
  EXPECT_THAT(
      WriteUpdate(RealEnv(), both.layout, {1, 2}, {4, 4}, {5, kInfinite},
                  TempPath("update")),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("found inf for c[1]")));
}

TEST(WriteUpdate, ParameterThatIsNotFinite_IsNamed) {
  const Model base = Base();
  EXPECT_THAT(
      WriteUpdate(RealEnv(), base.layout, base.values, {2, 2, 2, kInfinite, 2},
                  {}, TempPath("update")),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("found w[3] = inf")));
}

TEST(WriteUpdateOfFiles, SameLayout_GivesTheDifference) {
  Model trained = Base();
  trained.values[4] = 7;
  ASSERT_OK_AND_ASSIGN(const FileUpdate update, Update(Base(), trained));
  EXPECT_TRUE(update.changed);
  EXPECT_THAT(ReadFloats(TempPath("update")), ElementsAre(0, 0, 0, 0, 2));
}

TEST(WriteUpdateOfFiles, UnchangedModel_IsTold) {
  ASSERT_OK_AND_ASSIGN(const FileUpdate update, Update(Base(), Base()));
  EXPECT_FALSE(update.changed);
}

TEST(WriteUpdateOfFiles, TensorsInAnotherOrder_AreFoundByName) {
  const Model trained =
      MakeModel({{.name = "b", .shape = {1}}, {.name = "w", .shape = {2, 2}}},
                {6, 1, 2, 3, 5});
  ASSERT_OK(Update(Base(), trained));
  EXPECT_THAT(ReadFloats(TempPath("update")), ElementsAre(0, 0, 0, 1, 1));
}

TEST(WriteUpdateOfFiles, ModelOfManyBlocks_IsWhole) {
  constexpr int64_t kCount = 600'001;
  Model base = MakeModel({{.name = "w", .shape = {kCount}}},
                         std::vector<float>(kCount, 1));
  Model trained = base;
  for (size_t i = 0; i < kCount; ++i) {
    trained.values[i] += static_cast<float>(i % 1000);
  }
  ASSERT_OK(Update(base, trained));
  const std::vector<float> update = ReadFloats(TempPath("update"));
  ASSERT_EQ(update.size(), static_cast<size_t>(kCount));
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(update[i], static_cast<float>(i % 1000)) << i;
  }
}

TEST(WriteUpdateOfFiles, WrongTensors_AreRefusedByName) {
  const auto expect = [](const Model& trained, const std::string& error) {
    EXPECT_THAT(Update(Base(), trained),
                StatusIs(absl::StatusCode::kInternal, HasSubstr(error)));
  };
  expect(MakeModel({{.name = "w", .shape = {2, 2}}}, {1, 2, 3, 4}),
         "expected a tensor b, found none");
  expect(MakeModel({{.name = "w", .shape = {4}}, {.name = "b", .shape = {1}}},
                   {1, 2, 3, 4, 5}),
         "tensor w: expected F32 [2, 2], found F32 [4]");
  expect(MakeModel({{.name = "w", .shape = {2, 2}},
                    {.name = "b", .shape = {1}},
                    {.name = "more", .shape = {1}}},
                   {1, 2, 3, 4, 5, 6}),
         "tensor more: expected none of that name, found F32 [1]");
}

TEST(WriteUpdateOfFiles, ParameterThatIsNotFinite_IsNamed) {
  for (float bad : {kInfinite, std::numeric_limits<float>::quiet_NaN()}) {
    Model trained = Base();
    trained.values[4] = bad;
    EXPECT_THAT(Update(Base(), trained),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("b[0]")));
  }
}

TEST(WriteUpdateOfFiles, FileThatIsNoModel_IsRefused) {
  EXPECT_THAT(
      WriteUpdateOfFiles(RealEnv(), Write("base", Base()),
                         testdata::WriteTemp("trained", "not a model"),
                         TempPath("update")),
      StatusIs(absl::StatusCode::kInternal, HasSubstr("trained model:")));
  EXPECT_THAT(WriteUpdateOfFiles(RealEnv(), Write("base", Base()),
                                 TempPath("none"), TempPath("update")),
              StatusIs(absl::StatusCode::kInternal));
}

}  // namespace
}  // namespace koinon::worker
