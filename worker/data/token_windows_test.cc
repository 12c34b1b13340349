#include "worker/data/token_windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <vector>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Token i is i.
TokenWindows Numbered(uint64_t count, int64_t context, int64_t stride) {
  std::vector<uint16_t> values(count);
  std::iota(values.begin(), values.end(), uint16_t{0});
  TokenWindows windows;
  windows.tokens = MakeTokens(std::move(values));
  windows.end = count;
  windows.context = context;
  windows.stride = stride;
  return windows;
}

// Every token of every example, inputs and labels.
std::vector<int32_t> TokensOf(const TokenWindows& windows, size_t index) {
  std::vector<float> inputs(windows.context);
  std::vector<int32_t> labels(windows.context);
  windows.Copy(index, absl::MakeSpan(inputs), absl::MakeSpan(labels));
  std::vector<int32_t> tokens(inputs.begin(), inputs.end());
  tokens.push_back(labels.back());
  for (size_t i = 0; i < labels.size(); ++i) {
    EXPECT_EQ(tokens[i + 1], labels[i]);
  }
  return tokens;
}

TEST(TokenWindows, LabelsAreTheTokensThatFollow) {
  const TokenWindows windows = Numbered(9, 3, 2);
  ASSERT_EQ(windows.size(), 3u);
  EXPECT_THAT(TokensOf(windows, 0), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(TokensOf(windows, 2), ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(Numbered(10, 3, 2).size(), 4u);
  EXPECT_EQ(Numbered(4, 3, 2).size(), 1u);
  EXPECT_EQ(Numbered(3, 3, 2).size(), 0u);
}

TEST(TokenWindows, Shares_AreAllTokensInOrder) {
  const TokenWindows windows = Numbered(23, 3, 1);
  uint64_t next = 0;
  for (int64_t site = 0; site < 4; ++site) {
    ASSERT_OK_AND_ASSIGN(const TokenWindows share, windows.Share(4, site));
    EXPECT_EQ(share.begin, next);
    EXPECT_GE(share.end - share.begin, 5u);
    EXPECT_LE(share.end - share.begin, 6u);
    next = share.end;
  }
  EXPECT_EQ(next, 23u);
  EXPECT_THAT(windows.Share(6, 5),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("at least 4 tokens for each site")));
}

TEST(TokenWindows, HeldOutTail_SharesNoTokenWithTheRest) {
  for (int64_t stride : {1, 3, 5}) {
    const TokenWindows windows = Numbered(50, 4, stride);
    ASSERT_OK_AND_ASSIGN(const auto parts, windows.HoldOutTail(0.3));
    const auto& [head, tail] = parts;
    std::set<int32_t> trained;
    for (size_t i = 0; i < head.size(); ++i) {
      for (int32_t token : TokensOf(head, i)) trained.insert(token);
    }
    EXPECT_GT(head.size(), 0u);
    // 15 tokens: windows of 4 with one label more, without overlap.
    EXPECT_EQ(tail.size(), 3u);
    for (size_t i = 0; i < tail.size(); ++i) {
      for (int32_t token : TokensOf(tail, i)) {
        EXPECT_EQ(trained.count(token), 0u) << token;
      }
    }
  }
}

TEST(TokenWindows, NothingHeldOut_LeavesAll) {
  ASSERT_OK_AND_ASSIGN(const auto parts, Numbered(9, 3, 1).HoldOutTail(0));
  EXPECT_EQ(parts.first.size(), 6u);
  EXPECT_EQ(parts.second.size(), 0u);
}

TEST(TokenWindows, PartTooShortForOneExample_IsRefused) {
  EXPECT_THAT(Numbered(30, 4, 1).HoldOutTail(0.1),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 27 to train on and 3 held out")));
  EXPECT_THAT(Numbered(30, 4, 1).HoldOutTail(0.9),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("found 3 to train on and 27 held out")));
}

}  // namespace
}  // namespace koinon::worker
