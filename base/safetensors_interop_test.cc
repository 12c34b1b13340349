// Files between Koinon and the format's Python package, in both directions.
// The package is not needed here: base/testdata/make_fixtures.py made the files
// with it, and checks the one that Koinon wrote.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::UnorderedElementsAre;

std::string Fixture(const std::string& name) {
  return absl::StrCat("base/testdata/", name, ".safetensors");
}

// What koinon_f32.safetensors holds.
Model KoinonModel() {
  Model model;
  model.layout = *ModelLayout::Create(
      {{"z.weight", DType::kF32, {2, 3}},
       {"a.bias", DType::kF32, {3}},
       {"gr\xc3\xb6\xc3\x9f\x65/\xe5\xb1\xa4", DType::kF32, {}},
       {"none", DType::kF32, {0, 4}}});
  model.values = {0, 0.25f, 0.5f, 0.75f, 1, 1.25f, -1, -2, -3, 0.125f};
  model.metadata = {{"format", "pt"}, {"koinon.round", "3"}};
  return model;
}

TEST(SafetensorsInteropTest, PythonF32File_ReadModel_HasItsValues) {
  ASSERT_OK_AND_ASSIGN(const Model model,
                       ReadModel(RealEnv(), Fixture("python_f32"), 1000));
  EXPECT_THAT(model.layout.tensors(),
              ElementsAre(TensorSpec{"gr\xc3\xb6\xc3\x9f\x65/\xe5\xb1\xa4",
                                     DType::kF32,
                                     {2, 1}},
                          TensorSpec{"layer1.bias", DType::kF32, {3}},
                          TensorSpec{"layer1.weight", DType::kF32, {3, 4}},
                          TensorSpec{"scalar", DType::kF32, {}}));
  EXPECT_THAT(model.values,
              ElementsAre(1, -2, -1.5f, 0, 2.25f, 0, 0.25f, 0.5f, 0.75f, 1,
                          1.25f, 1.5f, 1.75f, 2, 2.25f, 2.5f, 2.75f, 0.5f));
  EXPECT_THAT(model.metadata,
              ElementsAre(Pair("format", "pt"),
                          Pair("note", "quotes \" and \\ and \xc3\xbc")));
}

TEST(SafetensorsInteropTest, PythonMixedFile_ReadHeader_HasItsTensors) {
  ASSERT_OK_AND_ASSIGN(
      const SafetensorsHeader header,
      ReadSafetensorsHeader(RealEnv(), Fixture("python_mixed")));
  EXPECT_THAT(
      header.layout.tensors(),
      UnorderedElementsAre(TensorSpec{"f64", DType::kF64, {2}},
                           TensorSpec{"f16", DType::kF16, {2}},
                           TensorSpec{"i64", DType::kI64, {1}},
                           TensorSpec{"i32", DType::kI32, {2, 2}},
                           TensorSpec{"i16", DType::kI16, {1}},
                           TensorSpec{"i8", DType::kI8, {3}},
                           TensorSpec{"u8", DType::kU8, {1}},
                           TensorSpec{"bool", DType::kBool, {3}},
                           TensorSpec{"empty", DType::kF32, {0, 5}},
                           TensorSpec{"also_empty", DType::kF32, {3, 0}}));
  EXPECT_THAT(ReadModel(RealEnv(), Fixture("python_mixed"), 1000),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expected F32 tensors only")));
}

TEST(SafetensorsInteropTest, PythonFileWithoutTensors_ReadModel_IsEmpty) {
  ASSERT_OK_AND_ASSIGN(
      const Model model,
      ReadModel(RealEnv(), Fixture("python_no_tensors"), 1000));
  EXPECT_TRUE(model.layout.tensors().empty());
}

TEST(SafetensorsInteropTest, PythonUnknownType_ReadHeader_NamesTensorAndType) {
  EXPECT_THAT(ReadSafetensorsHeader(RealEnv(), Fixture("python_unknown_dtype")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("tensor 'u64': unknown element type 'U64'")));
}

// The bytes that the Python package was seen to read.
TEST(SafetensorsInteropTest, WriteModel_IsTheFileThatPythonRead) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/koinon_f32.safetensors");
  ASSERT_OK(WriteModel(RealEnv(), path, KoinonModel()));
  ASSERT_OK_AND_ASSIGN(const std::string written,
                       ReadFile(RealEnv(), path, 10'000));
  EXPECT_THAT(ReadFile(RealEnv(), Fixture("koinon_f32"), 10'000),
              IsOkAndHolds(written));
}

}  // namespace
}  // namespace koinon
