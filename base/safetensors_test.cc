#include "base/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::string Length(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) {
    bytes.push_back(static_cast<char>(length >> (8 * i) & 0xff));
  }
  return bytes;
}

// Parses a file of the header `json` and `data_bytes` bytes of data.
absl::StatusOr<SafetensorsHeader> Parse(const std::string& json,
                                        uint64_t data_bytes) {
  const std::string bytes = Length(json.size()) + json;
  return ParseSafetensorsHeader(bytes, bytes.size() + data_bytes);
}

// One member of the header's object.
std::string Tensor(const std::string& name, const std::string& shape,
                   const std::string& offsets,
                   const std::string& dtype = "F32") {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"", dtype,
                      "\",\"shape\":", shape, ",\"data_offsets\":", offsets,
                      "}");
}

Model SmallModel() {
  Model model;
  model.layout = *ModelLayout::Create({{"fc.weight", DType::kF32, {2, 2}},
                                       {"fc.bias", DType::kF32, {2}},
                                       {"scale", DType::kF32, {}}});
  model.values = {1, -2, 0.5f, 4, 0, std::numeric_limits<float>::max(), 7};
  model.metadata = {{"format", "pt"}};
  return model;
}

TEST(ParseHeaderTest, TwoTensors_InTheOrderOfTheData) {
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header,
                       Parse("{" + Tensor("b", "[1]", "[8,12]") + "," +
                                 Tensor("a", "[1,2]", "[0,8]") + "}",
                             12));
  EXPECT_THAT(header.layout.tensors(),
              ElementsAre(TensorSpec{"a", DType::kF32, {1, 2}},
                          TensorSpec{"b", DType::kF32, {1}}));
  EXPECT_EQ(header.layout.offset_bytes(1), 8u);
  EXPECT_TRUE(header.metadata.empty());
}

TEST(ParseHeaderTest, EmptyTensors_AreOrderedByName) {
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header,
                       Parse("{" + Tensor("y", "[0]", "[4,4]") + "," +
                                 Tensor("a", "[1]", "[0,4]") + "," +
                                 Tensor("z", "[3,0]", "[0,0]") + "," +
                                 Tensor("x", "[0]", "[4,4]") + "}",
                             4));
  std::vector<std::string> names;
  for (const TensorSpec& t : header.layout.tensors()) names.push_back(t.name);
  EXPECT_THAT(names, ElementsAre("z", "a", "x", "y"));
}

TEST(ParseHeaderTest, Metadata_IsRead) {
  ASSERT_OK_AND_ASSIGN(
      const SafetensorsHeader header,
      Parse(R"({"__metadata__":{"format":"pt","k":"a\u00fc\n"}})", 0));
  EXPECT_THAT(header.metadata,
              ElementsAre(Pair("format", "pt"), Pair("k", "a\xc3\xbc\n")));
  EXPECT_TRUE(header.layout.tensors().empty());
}

TEST(ParseHeaderTest, PaddingWithSpaces_IsSkipped) {
  ASSERT_OK_AND_ASSIGN(const SafetensorsHeader header, Parse("{}      ", 0));
  EXPECT_EQ(header.data_offset_bytes, 16u);
}

TEST(ParseHeaderTest, LengthField_HostileValues_InvalidArgument) {
  EXPECT_THAT(ParseSafetensorsHeader("1234567", 7),
              StatusIs(kInvalid, HasSubstr("at least 8 bytes")));
  EXPECT_THAT(ParseSafetensorsHeader("", 100),
              StatusIs(kInvalid, HasSubstr("at least 8 bytes")));
  EXPECT_THAT(ParseSafetensorsHeader(Length(~uint64_t{0}) + "{}", 10),
              StatusIs(kInvalid, HasSubstr("18446744073709551615")));
  EXPECT_THAT(ParseSafetensorsHeader(Length(kMaxSafetensorsHeaderBytes + 1),
                                     uint64_t{1} << 40),
              StatusIs(kInvalid, HasSubstr("at most")));
  EXPECT_THAT(ParseSafetensorsHeader(Length(3) + "{}", 10),
              StatusIs(kInvalid, HasSubstr("the file has 2")));
  EXPECT_THAT(ParseSafetensorsHeader(Length(3) + "{}", 100),
              StatusIs(kInvalid, HasSubstr("found 2")));
}

struct HostileCase {
  std::string name;
  std::string json;
  uint64_t data_bytes;
  std::string message;
};

class HostileHeaderTest : public testing::TestWithParam<HostileCase> {};

TEST_P(HostileHeaderTest, Parse_InvalidArgument) {
  EXPECT_THAT(Parse(GetParam().json, GetParam().data_bytes),
              StatusIs(kInvalid, HasSubstr(GetParam().message)));
}

const char kF32Field[] = "\"dtype\":\"F32\"";

INSTANTIATE_TEST_SUITE_P(
    Headers, HostileHeaderTest,
    testing::ValuesIn(std::vector<HostileCase>{
        {"Nothing", "", 0, "does not start"},
        {"Spaces", "   ", 0, "does not start"},
        {"Array", "[]", 0, "does not start"},
        {"ByteOrderMark", "\xef\xbb\xbf{}", 0, "does not start"},
        {"Truncated", "{\"a\":}", 0, "not JSON at byte"},
        {"TrailingGarbage", "{} {}", 0, "not JSON at byte"},
        {"TrailingText", "{}x", 0, "something else"},
        {"TrailingNewline", "{}\n", 0, "something else"},
        {"ZeroByte", std::string("{}\0}", 4), 0, "something else"},
        {"NotUtf8", "{" + Tensor("\xff", "[0]", "[0,0]") + "}", 0, "not JSON"},
        {"NaN", "{" + Tensor("a", "[NaN]", "[0,4]") + "}", 4, "not JSON"},
        {"Comment", "{/**/}", 0, "not JSON"},
        {"TensorIsNumber", "{\"a\":1}", 0, "expected an object for 'a'"},
        {"TensorIsNull", "{\"a\":null}", 0, "expected an object for 'a'"},
        {"TensorIsArray", "{\"a\":[[[[]]]]}", 0, "expected an object"},
        {"NestedObject", "{\"a\":{\"dtype\":{}}}", 0, "unexpected an object"},
        {"NestedArray", "{" + Tensor("a", "[[1]]", "[0,4]") + "}", 4,
         "unexpected an array"},
        {"UnknownField", "{\"a\":{\"color\":1}}", 0, "unknown field 'color'"},
        {"FieldTwice",
         absl::StrCat("{\"a\":{", kF32Field, ",", kF32Field, "}}"), 0,
         "dtype appears twice"},
        {"FieldMissing",
         absl::StrCat("{\"a\":{", kF32Field, ",\"shape\":[1]}}"), 4,
         "is missing"},
        {"UnknownType", "{" + Tensor("a", "[1]", "[0,8]", "U64") + "}", 8,
         "tensor 'a': unknown element type 'U64'"},
        {"TypeIsNumber", "{\"a\":{\"dtype\":32}}", 0, "unexpected a number"},
        {"ShapeIsNumber", "{\"a\":{\"shape\":32}}", 0, "unexpected a number"},
        {"ShapeIsText", "{\"a\":{\"shape\":\"1\"}}", 0, "unexpected a string"},
        {"NegativeExtent", "{" + Tensor("a", "[-1]", "[0,4]") + "}", 4,
         "a negative number"},
        {"FractionalExtent", "{" + Tensor("a", "[1.5]", "[0,4]") + "}", 4,
         "no 64-bit integer"},
        {"ExponentExtent", "{" + Tensor("a", "[1e0]", "[0,4]") + "}", 4,
         "no 64-bit integer"},
        {"ExtentOverInt64",
         "{" + Tensor("a", "[9223372036854775808]", "[0,4]") + "}", 4,
         "over 2^63"},
        {"ExtentOverUint64",
         "{" + Tensor("a", "[18446744073709551617]", "[0,4]") + "}", 4,
         "no 64-bit integer"},
        {"ExtentOverDouble",
         "{" + Tensor("a", "[1" + std::string(400, '0') + "]", "[0,4]") + "}",
         4, "not JSON"},
        {"SizeOverflows",
         "{" + Tensor("a", "[4294967296,4294967296,4]", "[0,0]") + "}", 0,
         "2^63"},
        {"RankTooHigh", "{" + Tensor("a", "[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}",
         4, "rank is over 8"},
        {"OneOffset", "{" + Tensor("a", "[1]", "[4]") + "}", 4, "2 numbers"},
        {"ThreeOffsets", "{" + Tensor("a", "[1]", "[0,4,4]") + "}", 4,
         "2 numbers"},
        {"OffsetsSwapped", "{" + Tensor("a", "[1]", "[4,0]") + "}", 4,
         "expected bytes 0 to 4, found 4 to 0"},
        {"OffsetsHuge",
         "{" + Tensor("a", "[1]", "[18446744073709551612,0]") + "}", 4,
         "expected bytes 0 to 4"},
        {"ShapeContradictsOffsets", "{" + Tensor("a", "[2]", "[0,4]") + "}", 4,
         "expected bytes 0 to 8, found 0 to 4"},
        {"Overlap",
         "{" + Tensor("a", "[2]", "[0,8]") + "," +
             Tensor("b", "[2]", "[4,12]") + "}",
         12, "tensor 'b'"},
        {"Gap",
         "{" + Tensor("a", "[1]", "[0,4]") + "," +
             Tensor("b", "[1]", "[8,12]") + "}",
         12, "tensor 'b'"},
        {"GapAtTheStart", "{" + Tensor("a", "[1]", "[4,8]") + "}", 8,
         "tensor 'a'"},
        {"FileTooLong", "{" + Tensor("a", "[1]", "[0,4]") + "}", 5,
         "the file holds 5"},
        {"FileTooShort", "{" + Tensor("a", "[1]", "[0,4]") + "}", 3,
         "the file holds 3"},
        {"TensorTwice",
         "{" + Tensor("a", "[1]", "[0,4]") + "," + Tensor("a", "[1]", "[4,8]") +
             "}",
         8, "tensor 'a' appears twice"},
        {"EscapedTensorTwice",
         "{" + Tensor("a", "[1]", "[0,4]") + "," +
             Tensor("\\u0061", "[1]", "[4,8]") + "}",
         8, "tensor 'a' appears twice"},
        {"EmptyName", "{" + Tensor("", "[1]", "[0,4]") + "}", 4, "empty name"},
        {"ControlInName", "{" + Tensor("a\\u001b", "[1]", "[0,4]") + "}", 4,
         "control character"},
        {"MetadataTwice", R"({"__metadata__":{},"__metadata__":{}})", 0,
         "appears twice"},
        {"MetadataKeyTwice", R"({"__metadata__":{"a":"","a":""}})", 0,
         "metadata key 'a' appears twice"},
        {"MetadataIsNumber", R"({"__metadata__":1})", 0, "an object"},
        {"MetadataValueIsNumber", R"({"__metadata__":{"a":1}})", 0,
         "expected a string for metadata 'a'"},
        {"MetadataValueIsObject", R"({"__metadata__":{"a":{}}})", 0,
         "expected a string"},
    }),
    [](const testing::TestParamInfo<HostileCase>& info) {
      return info.param.name;
    });

TEST(ParseHeaderTest, DeepNesting_IsRefusedWithoutAStack) {
  const std::string deep(1'000'000, '[');
  EXPECT_FALSE(Parse("{\"a\":" + deep + "}", 0).ok());
  EXPECT_FALSE(Parse("{\"a\":{\"shape\":" + deep + "}}", 0).ok());
}

TEST(ParseHeaderTest, TooManyTensors_EndsTheReading) {
  std::string json = "{" + Tensor("t", "[0]", "[0,0]");
  for (size_t i = 0; i < ModelLayout::kMaxTensors; ++i) {
    absl::StrAppend(&json, ",", Tensor(absl::StrCat("t", i), "[0]", "[0,0]"));
  }
  EXPECT_THAT(Parse(json + "}", 0),
              StatusIs(kInvalid, HasSubstr("more than 100000 tensors")));
}

TEST(EncodeHeaderTest, AnyLayout_IsPaddedAndReadBack) {
  ASSERT_OK_AND_ASSIGN(
      const ModelLayout layout,
      ModelLayout::Create({{"gr\xc3\xb6\xc3\x9f\x65 \"x\\", DType::kF32, {2}},
                           {"n", DType::kI64, {}},
                           {"none", DType::kBF16, {0, 7}}}));
  const std::map<std::string, std::string> metadata = {
      {"format", "pt"}, {"text", "a\n\x01\"\\\xc3\xbc"}};
  const std::string bytes = EncodeSafetensorsHeader(layout, metadata);
  EXPECT_EQ(bytes.size() % 64, 0u);
  EXPECT_EQ(bytes, EncodeSafetensorsHeader(layout, metadata));
  ASSERT_OK_AND_ASSIGN(
      const SafetensorsHeader header,
      ParseSafetensorsHeader(bytes, bytes.size() + layout.total_bytes()));
  EXPECT_EQ(header.layout, layout);
  EXPECT_EQ(header.metadata, metadata);
  EXPECT_EQ(header.data_offset_bytes, bytes.size());
}

TEST(EncodeHeaderTest, KnownLayout_KnownBytes) {
  const Model model = SmallModel();
  const std::string bytes =
      EncodeSafetensorsHeader(model.layout, model.metadata);
  EXPECT_THAT(
      bytes.substr(8),
      StartsWith(
          R"({"__metadata__":{"format":"pt"},)"
          R"("fc.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
          R"("fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[16,24]},)"
          R"("scale":{"dtype":"F32","shape":[],"data_offsets":[24,28]}} )"));
}

TEST(ModelFileTest, WriteAndRead_GiveTheSame) {
  MemoryEnv env;
  const Model model = SmallModel();
  ASSERT_OK(WriteModel(&env, "/m", model));
  ASSERT_OK_AND_ASSIGN(const Model read, ReadModel(&env, "/m", 28));
  EXPECT_EQ(read.layout, model.layout);
  EXPECT_EQ(read.values, model.values);
  EXPECT_EQ(read.metadata, model.metadata);
  EXPECT_THAT(env.List("/"), IsOkAndHolds(ElementsAre("m")));
}

TEST(ModelFileTest, WriteAndRead_NoTensors_GiveTheSame) {
  MemoryEnv env;
  ASSERT_OK(WriteModel(&env, "/m", Model()));
  ASSERT_OK_AND_ASSIGN(const Model read, ReadModel(&env, "/m", 0));
  EXPECT_TRUE(read.values.empty());
}

TEST(ModelFileTest, Read_OverTheBound_ResourceExhausted) {
  MemoryEnv env;
  ASSERT_OK(WriteModel(&env, "/m", SmallModel()));
  EXPECT_THAT(ReadModel(&env, "/m", 27),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(StartsWith("/m: "), HasSubstr("28 bytes"))));
}

TEST(ModelFileTest, Read_OtherType_InvalidArgumentNamesTheTensor) {
  MemoryEnv env;
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       ModelLayout::Create({{"ids", DType::kI64, {1}}}));
  ASSERT_OK(WriteFileAtomically(
      &env, "/m", EncodeSafetensorsHeader(layout, {}) + std::string(8, '\0')));
  EXPECT_THAT(
      ReadModel(&env, "/m", 100),
      StatusIs(kInvalid, AllOf(StartsWith("/m: "), HasSubstr("'ids' is I64"))));
  EXPECT_OK(ReadSafetensorsHeader(&env, "/m"));
}

TEST(ModelFileTest, Read_Truncated_InvalidArgumentWithThePath) {
  MemoryEnv env;
  ASSERT_OK(WriteModel(&env, "/m", SmallModel()));
  ASSERT_OK_AND_ASSIGN(const std::string bytes, ReadFile(&env, "/m", 1000));
  for (const size_t size :
       {size_t{0}, size_t{7}, size_t{8}, size_t{100}, bytes.size() - 1}) {
    ASSERT_OK(WriteFileAtomically(&env, "/m", bytes.substr(0, size)));
    EXPECT_THAT(ReadModel(&env, "/m", 1000),
                StatusIs(kInvalid, StartsWith("/m: ")))
        << size;
  }
}

TEST(ModelFileTest, Read_Missing_NotFound) {
  MemoryEnv env;
  EXPECT_THAT(ReadModel(&env, "/m", 1000),
              StatusIs(absl::StatusCode::kNotFound, StartsWith("/m: ")));
}

TEST(ModelFileTest, Write_NotAModel_InvalidArgumentAndNoFile) {
  MemoryEnv env;
  Model model = SmallModel();
  model.values.pop_back();
  EXPECT_THAT(WriteModel(&env, "/m", model),
              StatusIs(kInvalid, HasSubstr("7 values, found 6")));
  model = SmallModel();
  model.metadata["\xff"] = "";
  EXPECT_THAT(WriteModel(&env, "/m", model),
              StatusIs(kInvalid, HasSubstr("UTF-8")));
  ASSERT_OK_AND_ASSIGN(model.layout,
                       ModelLayout::Create({{"ids", DType::kI32, {7}}}));
  EXPECT_THAT(WriteModel(&env, "/m", model),
              StatusIs(kInvalid, HasSubstr("'ids' is I32")));
  model = SmallModel();
  model.metadata["large"] = std::string(kMaxSafetensorsHeaderBytes, 'x');
  EXPECT_THAT(WriteModel(&env, "/m", model),
              StatusIs(kInvalid, HasSubstr("the header would have")));
  EXPECT_FALSE(env.Exists("/m"));
}

TEST(ModelFileTest, Write_DiskFull_KeepsTheOldModel) {
  MemoryEnv memory;
  ASSERT_OK(WriteModel(&memory, "/m", SmallModel()));
  FaultInjectingEnv env(&memory);
  env.FillDisk();
  Model other = SmallModel();
  other.values[0] = 99;
  EXPECT_THAT(WriteModel(&env, "/m", other),
              StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK_AND_ASSIGN(const Model read, ReadModel(&memory, "/m", 1000));
  EXPECT_EQ(read.values, SmallModel().values);
}

}  // namespace
}  // namespace koinon
