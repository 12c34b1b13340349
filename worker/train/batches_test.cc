#include "worker/train/batches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Example i has the features i and i + 0.5, and the label i.
Dataset Numbered(int count) {
  Dataset data;
  data.shape = {2};
  for (int i = 0; i < count; ++i) {
    data.features.push_back(static_cast<float>(i));
    data.features.push_back(static_cast<float>(i) + 0.5f);
    data.labels.push_back(i);
  }
  return data;
}

kernels::Batch NextOf(Batches* batches) {
  const auto batch = batches->Next();
  EXPECT_OK(batch);
  return batch.ok() ? *batch : kernels::Batch();
}

// The labels of the rest of a pass, and the sizes of its batches.
std::vector<int32_t> Drain(Batches* batches, std::vector<size_t>* sizes) {
  std::vector<int32_t> labels;
  for (kernels::Batch b = NextOf(batches); b.size > 0; b = NextOf(batches)) {
    sizes->push_back(b.size);
    for (size_t i = 0; i < b.size; ++i) {
      EXPECT_EQ(b.inputs[2 * i], b.labels[i]);
      EXPECT_EQ(b.inputs[2 * i + 1], b.labels[i] + 0.5f);
    }
    EXPECT_EQ(b.inputs.size(), 2 * b.size);
    EXPECT_THAT(b.targets, IsEmpty());
    labels.insert(labels.end(), b.labels.begin(), b.labels.end());
  }
  return labels;
}

TEST(Batches, FirstPass_IsInOrderWithASmallerLastBatch) {
  const Dataset data = Numbered(5);
  Batches batches(data, 2);
  std::vector<size_t> sizes;
  EXPECT_THAT(Drain(&batches, &sizes), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(sizes, ElementsAre(2, 2, 1));
  EXPECT_EQ(NextOf(&batches).size, 0u);
}

TEST(Batches, Shuffle_DependsOnTheSeedAlone) {
  const Dataset data = Numbered(50);
  Batches batches(data, 8);
  std::vector<size_t> sizes;
  batches.Shuffle(1);
  const std::vector<int32_t> one = Drain(&batches, &sizes);
  batches.Shuffle(2);
  const std::vector<int32_t> two = Drain(&batches, &sizes);
  NextOf(&batches);
  batches.Shuffle(1);
  EXPECT_EQ(Drain(&batches, &sizes), one);
  EXPECT_NE(one, two);
  std::vector<int32_t> sorted = one;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, data.labels);
}

TEST(Batches, Regression_CarriesTargets) {
  Dataset data;
  data.shape = {1};
  data.features = {1, 2, 3};
  data.target_size = 2;
  data.targets = {10, 11, 20, 21, 30, 31};
  Batches batches(data, 2);
  EXPECT_THAT(NextOf(&batches).targets, ElementsAre(10, 11, 20, 21));
  const kernels::Batch last = NextOf(&batches);
  EXPECT_THAT(last.targets, ElementsAre(30, 31));
  EXPECT_THAT(last.labels, IsEmpty());
  EXPECT_EQ(last.size, 1u);
}

TEST(Batches, Shards_AreDisjointPartsOfTheSameBatches) {
  const Dataset data = Numbered(11);
  for (size_t count : {1, 2, 3, 5}) {
    std::vector<std::unique_ptr<Batches>> members;
    for (size_t i = 0; i < count; ++i) {
      members.push_back(std::make_unique<Batches>(
          data, 4, Shard{.index = i, .count = count}));
      members.back()->Shuffle(3);
    }
    Batches whole(data, 4);
    whole.Shuffle(3);
    for (size_t expected : {4, 4, 3, 0}) {
      const kernels::Batch batch = NextOf(&whole);
      std::vector<int32_t> together;
      for (const auto& member : members) {
        const kernels::Batch part = NextOf(member.get());
        EXPECT_EQ(member->whole_size(), expected);
        EXPECT_LE(part.size,
                  (Shard{.index = 0, .count = count}.Most(expected)));
        together.insert(together.end(), part.labels.begin(), part.labels.end());
      }
      EXPECT_EQ(together,
                std::vector<int32_t>(batch.labels.begin(), batch.labels.end()));
    }
  }
}

TEST(Batches, Skip_GoesOnAsAfterTheBatches) {
  const Dataset data = Numbered(11);
  Batches walked(data, 3);
  Batches skipped(data, 3);
  walked.Shuffle(5);
  skipped.Shuffle(5);
  NextOf(&walked);
  NextOf(&walked);
  skipped.Skip(2);
  std::vector<size_t> sizes;
  EXPECT_EQ(Drain(&walked, &sizes), Drain(&skipped, &sizes));
  skipped.Shuffle(5);
  skipped.Skip(9);
  EXPECT_EQ(NextOf(&skipped).size, 0u);
}

// Windows of two tokens on the tokens 0 to count - 1.
Dataset NumberedTokens(int count) {
  std::vector<uint16_t> values(count);
  std::iota(values.begin(), values.end(), uint16_t{0});
  Dataset data;
  data.shape = {2};
  data.windows.tokens = MakeTokens(std::move(values));
  data.windows.end = static_cast<uint64_t>(count);
  data.windows.context = data.windows.stride = 2;
  return data;
}

TEST(Batches, Sequences_HaveALabelAtEachPosition) {
  const Dataset data = NumberedTokens(7);
  Batches batches(data, 2);
  const kernels::Batch first = NextOf(&batches);
  EXPECT_EQ(first.size, 2u);
  EXPECT_THAT(first.inputs, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(first.labels, ElementsAre(1, 2, 3, 4));
  const kernels::Batch last = NextOf(&batches);
  EXPECT_EQ(last.size, 1u);
  EXPECT_THAT(last.inputs, ElementsAre(4, 5));
  EXPECT_THAT(last.labels, ElementsAre(5, 6));
  EXPECT_EQ(NextOf(&batches).size, 0u);
}

TEST(Batches, ShuffledSequences_AreEachHandedOutOnce) {
  const Dataset data = NumberedTokens(201);
  Batches batches(data, 8);
  std::vector<std::vector<float>> passes;
  for (uint64_t seed : {1, 2, 1}) {
    batches.Shuffle(seed);
    std::vector<float>& firsts = passes.emplace_back();
    for (kernels::Batch b = NextOf(&batches); b.size > 0;
         b = NextOf(&batches)) {
      for (size_t i = 0; i < b.size; ++i) firsts.push_back(b.inputs[2 * i]);
    }
  }
  EXPECT_EQ(passes[0], passes[2]);
  EXPECT_NE(passes[0], passes[1]);
  std::sort(passes[0].begin(), passes[0].end());
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(passes[0][i], 2.0f * i);
}

// Tells which tokens somebody was about to read.
class WatchedTokens final : public Tokens {
 public:
  explicit WatchedTokens(std::shared_ptr<const Tokens> tokens)
      : tokens_(std::move(tokens)) {}
  absl::Span<const uint16_t> values() const override {
    return tokens_->values();
  }
  absl::Status Check() const override { return tokens_->Check(); }
  void WillRead(uint64_t begin, uint64_t count) const override {
    EXPECT_LE(begin + count, values().size());
    EXPECT_EQ(count, 3u);  // two positions, and the last one's label
    announced.push_back(static_cast<float>(begin));
  }

  mutable std::vector<float> announced;

 private:
  const std::shared_ptr<const Tokens> tokens_;
};

TEST(Batches, Sequences_AreAnnouncedABatchAhead) {
  Dataset data = NumberedTokens(51);
  const auto watched = std::make_shared<WatchedTokens>(data.windows.tokens);
  data.windows.tokens = watched;
  // Of each batch, the second member's half.
  Batches batches(data, 8, {.index = 1, .count = 2});
  batches.Shuffle(3);
  std::vector<float> read, announced;
  size_t first = 0;
  for (kernels::Batch b = NextOf(&batches); b.size > 0; b = NextOf(&batches)) {
    if (read.empty()) first = b.size;
    for (size_t i = 0; i < b.size; ++i) read.push_back(b.inputs[2 * i]);
    announced.insert(announced.end(), watched->announced.begin(),
                     watched->announced.end());
    watched->announced.clear();
  }
  read.erase(read.begin(), read.begin() + static_cast<ptrdiff_t>(first));
  EXPECT_EQ(announced, read);
  EXPECT_FALSE(read.empty());
}

}  // namespace
}  // namespace koinon::worker
