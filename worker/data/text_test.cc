#include "worker/data/text.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint64_t kLimit = 1 << 20;

TextSource Source(int64_t context, int64_t stride = 0) {
  TextSource source;
  source.set_context(context);
  source.set_stride(stride);
  return source;
}

TEST(DecodeText, Bytes_PredictTheNextOne) {
  ASSERT_OK_AND_ASSIGN(const TextExamples examples,
                       DecodeText("f", "abcd", Source(2), kLimit));
  EXPECT_THAT(examples.features.shape, ElementsAre(2, 2));
  EXPECT_THAT(examples.features.values, ElementsAre('a', 'b', 'b', 'c'));
  EXPECT_THAT(examples.labels, ElementsAre('c', 'd'));
}

TEST(DecodeText, Stride_SkipsStarts) {
  ASSERT_OK_AND_ASSIGN(const TextExamples examples,
                       DecodeText("f", "abcdefg", Source(1, 3), kLimit));
  EXPECT_THAT(examples.labels, ElementsAre('b', 'e'));
}

TEST(DecodeText, AlphabetAndOneHot_GiveOneColumnPerClass) {
  TextSource source = Source(2);
  source.set_alphabet("xyz");
  source.set_one_hot(true);
  ASSERT_OK_AND_ASSIGN(const TextExamples examples,
                       DecodeText("f", "zxy", source, kLimit));
  EXPECT_THAT(examples.features.shape, ElementsAre(1, 2, 3));
  EXPECT_THAT(examples.features.values, ElementsAre(0, 0, 1, 1, 0, 0));
  EXPECT_THAT(examples.labels, ElementsAre(1));
}

TEST(DecodeText, ByteOutsideTheAlphabet_IsRefusedWithItsOffset) {
  TextSource source = Source(1);
  source.set_alphabet("ab");
  EXPECT_THAT(DecodeText("f", "ab?", source, kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("f: offset 2: expected a byte of the "
                                 "alphabet, found \"?\"")));
}

TEST(DecodeText, AlphabetWithAByteTwice_IsRefused) {
  TextSource source = Source(1);
  source.set_alphabet("aba");
  EXPECT_THAT(DecodeText("f", "ab", source, kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found \"a\" twice")));
}

TEST(DecodeText, ShortText_IsRefused) {
  EXPECT_THAT(DecodeText("f", "abc", Source(3), kLimit),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at least 4 bytes")));
}

TEST(DecodeText, FieldsOutOfRange_AreRefused) {
  EXPECT_THAT(
      DecodeText("f", "abc", Source(-1), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text.context")));
  EXPECT_THAT(
      DecodeText("f", "abc", Source(1, -1), kLimit),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("text.stride")));
}

TEST(DecodeText, FeaturesOverTheLimit_AreRefusedBeforeAllocation) {
  TextSource source = Source(16);
  source.set_one_hot(true);
  EXPECT_THAT(DecodeText("f", std::string(1000, 'a'), source, kLimit),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
