#include "worker/data/text_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

TextSource Source(TextSource::Unit unit, const std::string& alphabet = "") {
  TextSource source;
  source.set_sequences(true);
  source.set_unit(unit);
  source.set_alphabet(alphabet);
  return source;
}

TEST(DecodeTextTokens, Bytes_AreTheirOwnClasses) {
  ASSERT_OK_AND_ASSIGN(
      const TextTokens tokens,
      DecodeTextTokens("f", "a\xff", Source(TextSource::BYTE), kLimit));
  EXPECT_THAT(tokens.values, ElementsAre('a', 255));
  EXPECT_EQ(tokens.vocabulary, 256);
}

TEST(DecodeTextTokens, BytesOfAnAlphabet_AreTheirPlaces) {
  ASSERT_OK_AND_ASSIGN(
      const TextTokens tokens,
      DecodeTextTokens("f", "abba", Source(TextSource::BYTE, "ba"), kLimit));
  EXPECT_THAT(tokens.values, ElementsAre(1, 0, 0, 1));
  EXPECT_EQ(tokens.vocabulary, 2);
  EXPECT_THAT(
      DecodeTextTokens("f", "abc", Source(TextSource::BYTE, "ba"), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("f: offset 2: expected a byte of the alphabet, found "
                         "\"c\"")));
}

TEST(DecodeTextTokens, Characters_AreFoundInAscendingOrder) {
  // "naïve" and a snowman.
  ASSERT_OK_AND_ASSIGN(const TextTokens tokens,
                       DecodeTextTokens("f", "na\xc3\xafve\xe2\x98\x83n",
                                        Source(TextSource::CHARACTER), kLimit));
  // a e n v ï ☃
  EXPECT_THAT(tokens.values, ElementsAre(2, 0, 4, 3, 1, 5, 2));
  EXPECT_EQ(tokens.vocabulary, 6);
}

TEST(DecodeTextTokens, CharactersOfAnAlphabet_AreTheirPlaces) {
  const TextSource source = Source(TextSource::CHARACTER, "\xc3\xafna");
  ASSERT_OK_AND_ASSIGN(const TextTokens tokens,
                       DecodeTextTokens("f", "n\xc3\xaf", source, kLimit));
  EXPECT_THAT(tokens.values, ElementsAre(1, 0));
  EXPECT_EQ(tokens.vocabulary, 3);
  EXPECT_THAT(DecodeTextTokens("f", "nx", source, kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("offset 1: expected a character of the "
                                 "alphabet, found \"x\"")));
}

TEST(DecodeTextTokens, BrokenUtf8_IsRefusedWithItsOffset) {
  EXPECT_THAT(
      DecodeTextTokens("f", "ab\xff", Source(TextSource::CHARACTER), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("f: offset 2: expected UTF-8, found byte \"\\xff\"")));
}

TEST(DecodeTextTokens, AlphabetsThatMakeNoSense_AreRefused) {
  EXPECT_THAT(
      DecodeTextTokens("f", "a", Source(TextSource::CHARACTER, "aba"), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("found \"a\" twice")));
  EXPECT_THAT(
      DecodeTextTokens("f", "a", Source(TextSource::CHARACTER, "\xff"), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("text.alphabet: offset 0: expected UTF-8")));
  EXPECT_THAT(
      DecodeTextTokens("f", "a", Source(static_cast<TextSource::Unit>(5)),
                       kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text.unit")));
}

TEST(DecodeTextTokens, MoreCharactersThanTokens_AreRefused) {
  std::string text;
  // Every code point of four bytes from U+10000 on.
  for (uint32_t c = 0x10000; c <= 0x20000; ++c) {
    text.push_back(static_cast<char>(0xf0 | c >> 18));
    text.push_back(static_cast<char>(0x80 | (c >> 12 & 0x3f)));
    text.push_back(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    text.push_back(static_cast<char>(0x80 | (c & 0x3f)));
  }
  EXPECT_THAT(
      DecodeTextTokens("f", text, Source(TextSource::CHARACTER), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("at most 65536 different characters")));
}

TEST(DecodeTextTokens, TextOverTheLimit_IsRefused) {
  EXPECT_THAT(DecodeTextTokens("f", "abc", Source(TextSource::BYTE), 5),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
