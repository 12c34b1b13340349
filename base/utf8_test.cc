#include "base/utf8.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

namespace koinon {
namespace {

TEST(Utf8Test, FirstUtf8Char_EachLength_IsDecoded) {
  const struct {
    std::string text;
    char32_t code_point;
  } cases[] = {{"A!", U'A'},
               {"\xc3\xbc!", 0xfc},
               {"\xe5\xb1\xa4!", 0x5c64},
               {"\xf0\x9f\x8c\xb1!", 0x1f331},
               {"\xf4\x8f\xbf\xbf!", 0x10ffff}};
  for (const auto& c : cases) {
    const std::optional<Utf8Char> first = FirstUtf8Char(c.text);
    ASSERT_TRUE(first.has_value()) << c.text;
    EXPECT_EQ(first->code_point, c.code_point);
    EXPECT_EQ(first->size_bytes, c.text.size() - 1);
  }
}

TEST(Utf8Test, FirstUtf8Char_Empty_IsNone) {
  EXPECT_FALSE(FirstUtf8Char("").has_value());
}

TEST(Utf8Test, IsValidUtf8_MalformedText_IsFalse) {
  for (const std::string& text : {
           std::string("\x80"),              // a continuation alone
           std::string("\xc3"),              // cut short
           std::string("\xc3("),             // no continuation
           std::string("\xc0\xaf"),          // an overlong '/'
           std::string("\xe0\x80\xaf"),      // an overlong '/'
           std::string("\xf0\x80\x80\xaf"),  // an overlong '/'
           std::string("\xed\xa0\x80"),      // a surrogate
           std::string("\xf4\x90\x80\x80"),  // over U+10FFFF
           std::string("\xff"),
           std::string("fine\xfe"),
       }) {
    EXPECT_FALSE(IsValidUtf8(text));
  }
}

TEST(Utf8Test, IsValidUtf8_WellFormedText_IsTrue) {
  EXPECT_TRUE(IsValidUtf8(""));
  EXPECT_TRUE(IsValidUtf8("gr\xc3\xb6\xc3\x9f\x65 \xe5\xb1\xa4"));
}

TEST(Utf8Test, IsControl_ControlsAndSeparators_Only) {
  for (const char32_t c : {0x0, 0x1b, 0x1f, 0x7f, 0x9b, 0x2028, 0x2029}) {
    EXPECT_TRUE(IsControl(c)) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {0x20, 0x7e, 0xa0, 0x2027, 0x202a, 0x1f331}) {
    EXPECT_FALSE(IsControl(c)) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace koinon
