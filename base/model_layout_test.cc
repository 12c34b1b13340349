#include "base/model_layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon {
namespace {

using testing::HasSubstr;

TensorSpec F32(std::string name, std::vector<int64_t> shape) {
  return {std::move(name), DType::kF32, std::move(shape)};
}

TEST(DTypeTest, Names_RoundTrip_GiveTheSame) {
  for (const char* name :
       {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}) {
    ASSERT_OK_AND_ASSIGN(const DType dtype, DTypeFromName(name));
    EXPECT_EQ(DTypeName(dtype), name);
  }
  EXPECT_EQ(DTypeSizeBytes(DType::kF64), 8u);
  EXPECT_EQ(DTypeSizeBytes(DType::kBF16), 2u);
  EXPECT_EQ(DTypeSizeBytes(DType::kBool), 1u);
}

TEST(DTypeTest, FromName_Unknown_ListsTheKnown) {
  EXPECT_THAT(DTypeFromName("F8"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("F64, F32, F16, BF16, I64")));
}

TEST(ModelLayoutTest, NoTensors_IsEmpty) {
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout, ModelLayout::Create({}));
  EXPECT_EQ(layout.total_bytes(), 0u);
  EXPECT_EQ(layout.total_elements(), 0u);
  EXPECT_TRUE(layout.AllF32());
  EXPECT_EQ(layout, ModelLayout());
  EXPECT_EQ(layout.hash(), ModelLayout().hash());
}

TEST(ModelLayoutTest, SeveralTensors_ArePackedInOrder) {
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       ModelLayout::Create({F32("w", {2, 3}),
                                            {"n", DType::kI64, {}},
                                            F32("none", {4, 0}),
                                            {"b", DType::kBool, {5}}}));
  EXPECT_EQ(layout.offset_bytes(0), 0u);
  EXPECT_EQ(layout.size_bytes(0), 24u);
  EXPECT_EQ(layout.element_count(0), 6u);
  EXPECT_EQ(layout.offset_bytes(1), 24u);
  EXPECT_EQ(layout.element_count(1), 1u);
  EXPECT_EQ(layout.offset_bytes(2), 32u);
  EXPECT_EQ(layout.size_bytes(2), 0u);
  EXPECT_EQ(layout.offset_bytes(3), 32u);
  EXPECT_EQ(layout.total_bytes(), 37u);
  EXPECT_EQ(layout.total_elements(), 12u);
  EXPECT_FALSE(layout.AllF32());
}

TEST(ModelLayoutTest, Create_BadNames_InvalidArgument) {
  const struct {
    std::string name;
    std::string message;
  } cases[] = {{"", "empty name"},
               {std::string(257, 'a'), "257"},
               {"a\nb", "control character"},
               {"a\x7f", "control character"},
               {"\xff", "UTF-8"},
               {"__metadata__", "metadata"}};
  for (const auto& c : cases) {
    EXPECT_THAT(
        ModelLayout::Create({F32(c.name, {1})}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
  EXPECT_OK(ModelLayout::Create({F32(std::string(256, 'a'), {1})}));
}

TEST(ModelLayoutTest, Create_DuplicateName_InvalidArgument) {
  EXPECT_THAT(
      ModelLayout::Create({F32("w", {1}), F32("v", {1}), F32("w", {2})}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'w' appears")));
}

TEST(ModelLayoutTest, Create_NegativeExtent_InvalidArgument) {
  EXPECT_THAT(ModelLayout::Create({F32("w", {0, -1})}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
}

TEST(ModelLayoutTest, Create_RankOverTheBound_InvalidArgument) {
  EXPECT_OK(ModelLayout::Create({F32("w", std::vector<int64_t>(8, 1))}));
  EXPECT_THAT(ModelLayout::Create({F32("w", std::vector<int64_t>(9, 1))}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("rank")));
}

TEST(ModelLayoutTest, Create_SizeOverflows_InvalidArgument) {
  const int64_t huge = int64_t{1} << 40;
  for (const std::vector<int64_t>& shape :
       std::vector<std::vector<int64_t>>{{huge, huge},
                                         {0, huge, huge},
                                         {huge, huge, 0},
                                         {int64_t{1} << 61}}) {
    EXPECT_THAT(
        ModelLayout::Create({F32("w", shape)}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2^63")));
  }
}

TEST(ModelLayoutTest, Create_SumOverflows_InvalidArgument) {
  const int64_t large = int64_t{1} << 60;
  EXPECT_THAT(ModelLayout::Create({F32("a", {large}), F32("b", {large})}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'b'")));
}

TEST(ModelLayoutTest, Create_TooManyTensors_InvalidArgument) {
  std::vector<TensorSpec> tensors;
  for (size_t i = 0; i <= ModelLayout::kMaxTensors; ++i) {
    tensors.push_back(F32(absl::StrCat("t", i), {}));
  }
  EXPECT_THAT(
      ModelLayout::Create(tensors),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("100001")));
  tensors.pop_back();
  EXPECT_OK(ModelLayout::Create(tensors));
}

TEST(ModelLayoutTest, Hash_AnyDifference_IsAnother) {
  const std::vector<std::vector<TensorSpec>> layouts = {
      {},
      {F32("w", {2, 3})},
      {F32("w", {3, 2})},
      {F32("w", {6})},
      {F32("w2", {3})},
      {{"w", DType::kI32, {2, 3}}},
      {F32("w", {2}), F32("v", {3})},
      {F32("v", {3}), F32("w", {2})},
      {F32("wv", {2, 3})},
  };
  std::set<std::string> hashes;
  for (const std::vector<TensorSpec>& tensors : layouts) {
    ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                         ModelLayout::Create(tensors));
    hashes.insert(layout.hash().ToHex());
  }
  EXPECT_EQ(hashes.size(), layouts.size());
}

TEST(ModelLayoutTest, Hash_SameLayout_NeverChanges) {
  // Peers of different builds compare these: the bytes are part of the wire.
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       ModelLayout::Create({F32("fc.weight", {2, 3})}));
  EXPECT_EQ(layout.hash().ToHex(),
            "e17fd2cabc22d74a2c467b81645acee750ef2da5efb5a2712d63a12992c5d25b");
}

TEST(ModelLayoutTest, DescribeElement_AnyIndex_NamesItsTensor) {
  ASSERT_OK_AND_ASSIGN(
      const ModelLayout layout,
      ModelLayout::Create({F32("a", {2}), F32("none", {0}), F32("b", {3})}));
  EXPECT_EQ(layout.DescribeElement(0), "a[0]");
  EXPECT_EQ(layout.DescribeElement(1), "a[1]");
  EXPECT_EQ(layout.DescribeElement(2), "b[0]");
  EXPECT_EQ(layout.DescribeElement(4), "b[2]");
  EXPECT_THAT(layout.DescribeElement(5), HasSubstr("past the model's end"));
}

}  // namespace
}  // namespace koinon
