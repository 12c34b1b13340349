#include "dht/routing/key_prefix.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "dht/key.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

TEST(PrefixOfTest, AnyTwoKeys_SaysWhatTheFirst64BitsSay) {
  const Key key = *Key::FromHex("0123456789abcdeffe" + std::string(46, '0'));
  EXPECT_EQ(PrefixOf(key), 0x0123456789abcdefu);
  for (int i = 0; i < 200; ++i) {
    const Key a = Sha256Of(absl::StrCat("key ", i));
    const Key b = Sha256Of(absl::StrCat("key ", i + 1));
    EXPECT_EQ(PrefixOf(a) < PrefixOf(b), a < b);
    EXPECT_EQ(PrefixOf(a) ^ PrefixOf(b), PrefixOf(Distance(a, b)));
  }
}

}  // namespace
}  // namespace koinon::dht
