#include "coordinator/models/version_contents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/digest.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/delta.h"
#include "dht/swarm/merkle.h"

namespace koinon::coordinator {
namespace {

using ::testing::HasSubstr;
using Operation = FaultInjectingEnv::Operation;

constexpr char kRoot[] = "/models";
constexpr size_t kWeights = 50'000;

ModelLayout Layout(int64_t weights = kWeights) {
  auto layout = ModelLayout::Create({{"w", DType::kF32, {weights}}});
  EXPECT_OK(layout);
  return *layout;
}

class VersionContentsTest : public ::testing::Test {
 protected:
  // Values that the next version differs little from.
  std::vector<float> Values(double change, int64_t weights = kWeights) {
    std::vector<float> values(weights);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(NormalAt(1, i) + change * NormalAt(2, i));
    }
    return values;
  }
  v1::ModelManifest Write(int64_t version, const std::vector<float>& values,
                          v1::Content* content = nullptr) {
    auto writer = store_.NewVersion(
        "job", version, Layout(static_cast<int64_t>(values.size())));
    EXPECT_OK(writer);
    EXPECT_OK((*writer)->Append(values));
    auto manifest = (*writer)->Publish(Digest(), {});
    EXPECT_OK(manifest);
    if (content != nullptr) *content = (*writer)->content();
    return *manifest;
  }
  std::vector<std::string> Files() {
    auto files = memory_.List("/models/job");
    EXPECT_OK(files);
    return *files;
  }

  MemoryEnv memory_;
  FaultInjectingEnv env_{&memory_};
  ModelStore store_{&env_, kRoot, 4096};
};

TEST_F(VersionContentsTest, Written_CanBeServedWhole) {
  v1::Content content;
  const v1::ModelManifest manifest = Write(3, Values(0), &content);
  ASSERT_OK_AND_ASSIGN(const auto opened,
                       OpenVersionContent(store_, manifest, content));
  EXPECT_TRUE(opened->complete());
  EXPECT_EQ(opened->content().root(), content.root());
}

TEST_F(VersionContentsTest, LostOrDamagedHashes_AreMadeAnew) {
  v1::Content content;
  const v1::ModelManifest manifest = Write(3, Values(0), &content);
  const std::string leaves = store_.LeavesPathOf("job", 3);
  ASSERT_OK_AND_ASSIGN(const std::string before,
                       ReadFile(&env_, leaves, 1 << 20));
  ASSERT_OK(env_.Remove(leaves));
  EXPECT_OK(OpenVersionContent(store_, manifest, content));
  std::string damaged = before;
  damaged[40] ^= 1;
  for (const std::string& wrong : {damaged, before.substr(7), std::string()}) {
    ASSERT_OK(WriteFileAtomically(&env_, leaves, wrong));
    EXPECT_OK(OpenVersionContent(store_, manifest, content));
    ASSERT_OK_AND_ASSIGN(const std::string after,
                         ReadFile(&env_, leaves, 1 << 20));
    EXPECT_EQ(after, before);
  }
}

TEST_F(VersionContentsTest, DamagedFile_IsDataLoss_AndALostOneNotFound) {
  v1::Content content;
  const v1::ModelManifest manifest = Write(3, Values(0), &content);
  const std::string path = store_.PathOf("job", 3);
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(&env_, path, 1 << 20));
  bytes.back() ^= 1;
  ASSERT_OK(WriteFileAtomically(&env_, path, bytes));
  // With the hashes in place nobody notices before the leaf is sent, and the
  // fetcher finds it out.
  ASSERT_OK(env_.Remove(store_.LeavesPathOf("job", 3)));
  EXPECT_THAT(OpenVersionContent(store_, manifest, content),
              StatusIs(absl::StatusCode::kDataLoss));
  ASSERT_OK(env_.Remove(path));
  EXPECT_THAT(OpenVersionContent(store_, manifest, content),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(path)));
}

TEST_F(VersionContentsTest, Delta_LeadsFromOneVersionToTheOther) {
  const v1::ModelManifest from = Write(3, Values(0));
  const v1::ModelManifest to = Write(4, Values(1e-4));
  ASSERT_OK_AND_ASSIGN(const auto delta, WriteVersionDelta(store_, from, to));
  ASSERT_TRUE(delta.has_value());
  EXPECT_EQ(delta->from_digest(), from.digest());
  EXPECT_LT(delta->content().size_bytes(), to.size_bytes() * 9 / 10);
  ASSERT_OK_AND_ASSIGN(const auto opened,
                       OpenDeltaContent(store_, "job", 4, delta->content()));
  EXPECT_TRUE(opened->complete());

  ASSERT_OK_AND_ASSIGN(const auto base, store_.Open(from));
  ASSERT_OK_AND_ASSIGN(const auto file, env_.Open(store_.DeltaPathOf("job", 4),
                                                  Env::OpenMode::kRead));
  Sha256 sha;
  ASSERT_OK(dht::ApplyDelta(*base.file, *file, delta->content().size_bytes(),
                            to.size_bytes(),
                            [&](absl::Span<const uint8_t> bytes) {
                              sha.Update(bytes.data(), bytes.size());
                              return absl::OkStatus();
                            }));
  EXPECT_EQ(sha.Finish().ToBytes(), to.digest());
  // The same bytes for the same versions.
  ASSERT_OK_AND_ASSIGN(const auto again, WriteVersionDelta(store_, from, to));
  EXPECT_EQ(again->content().root(), delta->content().root());
}

TEST_F(VersionContentsTest, DeltaThatSavesNothing_IsNotKept) {
  const v1::ModelManifest from = Write(3, Values(0));
  std::vector<float> unlike(kWeights);
  for (size_t i = 0; i < unlike.size(); ++i) {
    const uint64_t bits = RandomAt(9, i);
    unlike[i] = static_cast<float>(bits % 1'000'003) *
                (bits % 2 == 0 ? 1e20f : -1e-20f);
  }
  const v1::ModelManifest to = Write(4, unlike);
  const std::vector<std::string> files = Files();
  ASSERT_OK_AND_ASSIGN(const auto delta, WriteVersionDelta(store_, from, to));
  EXPECT_FALSE(delta.has_value());
  EXPECT_EQ(Files(), files);
}

TEST_F(VersionContentsTest, DeltaBetweenDifferentSizes_IsNone) {
  const v1::ModelManifest from = Write(3, Values(0));
  const v1::ModelManifest to = Write(4, Values(0, kWeights + 1));
  ASSERT_OK_AND_ASSIGN(const auto delta, WriteVersionDelta(store_, from, to));
  EXPECT_FALSE(delta.has_value());
}

TEST_F(VersionContentsTest, FailedDelta_LeavesNothing) {
  const v1::ModelManifest from = Write(3, Values(0));
  const v1::ModelManifest to = Write(4, Values(1e-4));
  const std::vector<std::string> files = Files();
  for (const Operation operation :
       {Operation::kOpen, Operation::kResize, Operation::kWrite,
        Operation::kSync, Operation::kRename}) {
    for (int64_t k = 1;; ++k) {
      env_.FailAt(operation, k, absl::ResourceExhaustedError("disk full"));
      const absl::Status status = WriteVersionDelta(store_, from, to).status();
      env_.StopFailing();
      if (status.ok()) break;
      EXPECT_EQ(Files(), files)
          << "operation " << static_cast<int>(operation) << ", " << k;
      ASSERT_LT(k, 100) << "never succeeds";
    }
    ASSERT_OK(store_.RemoveDelta("job", 4));
  }
}

TEST_F(VersionContentsTest, MakeContent_IsWhatTheWriterMakes) {
  v1::Content content;
  v1::ModelManifest manifest = Write(3, Values(0), &content);
  const std::string leaves = store_.LeavesPathOf("job", 3);
  ASSERT_OK_AND_ASSIGN(const std::string before,
                       ReadFile(&env_, leaves, 1 << 20));
  ASSERT_OK(env_.Remove(leaves));
  ASSERT_OK_AND_ASSIGN(const v1::Content made, MakeContent(store_, manifest));
  EXPECT_EQ(made.SerializeAsString(), content.SerializeAsString());
  ASSERT_OK_AND_ASSIGN(const std::string after,
                       ReadFile(&env_, leaves, 1 << 20));
  EXPECT_EQ(after, before);

  ASSERT_OK_AND_ASSIGN(const FileHashes hashes,
                       HashFile(store_, store_.PathOf("job", 3)));
  EXPECT_EQ(hashes.digest.ToBytes(), manifest.digest());
  ASSERT_EQ(hashes.chunks.size(),
            static_cast<size_t>(manifest.chunk_digests_size()));
  for (size_t i = 0; i < hashes.chunks.size(); ++i) {
    EXPECT_EQ(hashes.chunks[i].ToBytes(), manifest.chunk_digests(i));
  }
  manifest.set_digest(Sha256Of("another").ToBytes());
  EXPECT_THAT(MakeContent(store_, manifest),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("digest")));
}

}  // namespace
}  // namespace koinon::coordinator
