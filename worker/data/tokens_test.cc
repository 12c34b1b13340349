#include "worker/data/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/status_matchers.h"
#include "worker/data/testdata.h"

namespace koinon::worker {
namespace {

using testdata::AppendLittleEndian;
using testdata::TempPath;
using testdata::WriteTemp;
using testing::ElementsAre;
using testing::HasSubstr;

std::string LittleEndian(const std::vector<uint16_t>& tokens) {
  std::string bytes;
  for (uint16_t token : tokens) AppendLittleEndian(&bytes, token, 2);
  return bytes;
}

// As llm.c writes it.
std::string WithHeader(uint32_t magic, uint32_t version, uint32_t count,
                       const std::vector<uint16_t>& tokens) {
  std::string bytes;
  for (uint32_t field : {magic, version, count}) {
    AppendLittleEndian(&bytes, field, 4);
  }
  bytes.resize(kTokenHeaderBytes, '\0');
  return bytes + LittleEndian(tokens);
}

TokenSource Source(const std::string& path,
                   TokenSource::Header header = TokenSource::NONE) {
  TokenSource source;
  source.set_path(path);
  source.set_header(header);
  return source;
}

TEST(MapTokens, RawFile_IsTokensFromItsFirstByte) {
  const std::string path = WriteTemp("raw", LittleEndian({1, 50256, 65535}));
  ASSERT_OK_AND_ASSIGN(const auto tokens, MapTokens(Source(path)));
  tokens->WillRead(1, tokens->values().size() - 1);  // hints change nothing
  EXPECT_THAT(tokens->values(), ElementsAre(1, 50256, 65535));
  EXPECT_OK(tokens->Check());
}

TEST(MapTokens, LlmCHeader_IsSkippedAndChecked) {
  const auto map = [](const std::string& content) {
    return MapTokens(Source(WriteTemp("header", content), TokenSource::LLM_C));
  };
  ASSERT_OK_AND_ASSIGN(const auto tokens,
                       map(WithHeader(20240520, 1, 2, {7, 9})));
  EXPECT_THAT(tokens->values(), ElementsAre(7, 9));
  const auto expect = [&](const std::string& content, const char* error) {
    EXPECT_THAT(map(content),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(error)));
  };
  expect(WithHeader(20240801, 1, 2, {7, 9}), "expected 20240520 and version 1");
  expect(WithHeader(20240520, 7, 2, {7, 9}), "found 20240520 and 7");
  expect(WithHeader(20240520, 1, 3, {7, 9}), "for 3 tokens");
  expect(WithHeader(20240520, 1, 1, {7, 9}), "for 1 tokens");
  expect(LittleEndian({1, 2, 3}), "expected a header of 1024 bytes");
}

TEST(MapTokens, FilesThatHoldNoTokens_AreRefused) {
  EXPECT_THAT(MapTokens(Source(TempPath("none"))),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(
      MapTokens(Source(WriteTemp("empty", ""))),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty file")));
  EXPECT_THAT(MapTokens(Source(WriteTemp("odd", "abc"))),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("even number of bytes (uint16), found 3")));
  EXPECT_THAT(
      MapTokens(Source("/dev/null")),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("regular file")));
  TokenSource unknown = Source(WriteTemp("raw", "ab"));
  unknown.set_header(static_cast<TokenSource::Header>(9));
  EXPECT_THAT(MapTokens(unknown), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("tokens.header")));
}

TEST(MapTokens, FileCutShort_IsNoticed) {
  const std::string path = WriteTemp("cut", LittleEndian({1, 2, 3, 4}));
  ASSERT_OK_AND_ASSIGN(const auto tokens, MapTokens(Source(path)));
  ASSERT_EQ(truncate(path.c_str(), 4), 0);
  EXPECT_THAT(tokens->Check(),
              StatusIs(absl::StatusCode::kDataLoss,
                       HasSubstr("expected 8 bytes, as there were, found 4")));
}

}  // namespace
}  // namespace koinon::worker
