#include "worker/store/model_download.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

using ::testing::HasSubstr;

class ModelDownloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(env_.MakeDirs("/m"));
    for (size_t i = 0; i < 1050; ++i) model_ += static_cast<char>(i * 7);
    manifest_ = Manifest(100);
    spec_.digest = Sha256Of(model_);
    spec_.layout_hash = std::string(32, 'l');
    spec_.max_model_bytes = 2000;
    spec_.max_chunk_bytes = 200;
  }
  v1::ModelManifest Manifest(size_t chunk) const {
    v1::ModelManifest manifest;
    manifest.set_digest(Sha256Of(model_).ToBytes());
    manifest.set_layout_hash(std::string(32, 'l'));
    manifest.set_size_bytes(static_cast<int64_t>(model_.size()));
    manifest.set_chunk_size_bytes(static_cast<int64_t>(chunk));
    for (size_t at = 0; at < model_.size(); at += chunk) {
      manifest.add_chunk_digests(Sha256Of(model_.substr(at, chunk)).ToBytes());
    }
    return manifest;
  }
  std::unique_ptr<ModelDownload> Start() {
    return ModelDownload::Start(&env_, "/m/p", "/m/m", spec_);
  }
  absl::Status Give(ModelDownload* download, size_t begin, size_t end) {
    v1::Chunk chunk;
    chunk.set_offset(static_cast<int64_t>(begin));
    chunk.set_data(model_.substr(begin, end - begin));
    return download->OnChunk(chunk);
  }

  MemoryEnv env_;
  std::string model_;
  v1::ModelManifest manifest_;
  ModelDownload::Spec spec_;
};

TEST_F(ModelDownloadTest, AnyPortions_MakeTheWhole) {
  for (size_t portion : {1u, 99u, 100u, 101u, 350u, 1050u}) {
    MemoryEnv fresh;
    ASSERT_OK(fresh.MakeDirs("/m"));
    const auto download = ModelDownload::Start(&fresh, "/m/p", "/m/m", spec_);
    ASSERT_OK(download->OnManifest(manifest_));
    for (size_t at = 0; at < model_.size(); at += portion) {
      ASSERT_OK(
          Give(download.get(), at, std::min(at + portion, model_.size())));
    }
    ASSERT_TRUE(download->complete()) << portion;
    EXPECT_OK(download->Finish());
    EXPECT_THAT(ReadFile(&fresh, "/m/p", 5000), IsOkAndHolds(model_));
  }
}

TEST_F(ModelDownloadTest, NewProcess_GoesOnAfterTheLastWholeChunk) {
  auto download = Start();
  ASSERT_OK(download->OnManifest(manifest_));
  ASSERT_OK(Give(download.get(), 0, 470));
  EXPECT_EQ(download->offset(), 400);
  download = Start();
  EXPECT_EQ(download->offset(), 400);
  ASSERT_OK(download->OnManifest(manifest_));
  ASSERT_OK(Give(download.get(), 400, 1050));
  EXPECT_OK(download->Finish());
}

TEST_F(ModelDownloadTest, NewProcess_TornChunks_AreNotTrusted) {
  auto download = Start();
  ASSERT_OK(download->OnManifest(manifest_));
  ASSERT_OK(Give(download.get(), 0, 500));
  ASSERT_OK_AND_ASSIGN(auto file, env_.Open("/m/p", Env::OpenMode::kReadWrite));
  ASSERT_OK(file->WriteAt(250, "torn", 4));
  EXPECT_EQ(Start()->offset(), 200);
}

TEST_F(ModelDownloadTest, DamagedChunk_IsNamedAndAskedForAgain) {
  const auto download = Start();
  ASSERT_OK(download->OnManifest(manifest_));
  ASSERT_OK(Give(download.get(), 0, 300));
  v1::Chunk bad;
  bad.set_offset(300);
  bad.set_data(std::string(100, 'x'));
  EXPECT_THAT(download->OnChunk(bad),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("chunk 3")));
  EXPECT_EQ(download->offset(), 300);
  EXPECT_OK(Give(download.get(), 300, 400));
}

TEST_F(ModelDownloadTest, WrongManifests_AreRefused) {
  const auto refuse = [&](auto change, absl::StatusCode code,
                          const std::string& message) {
    v1::ModelManifest manifest = manifest_;
    change(manifest);
    EXPECT_THAT(Start()->OnManifest(manifest),
                StatusIs(code, HasSubstr(message)));
  };
  using absl::StatusCode;
  refuse([](auto& m) { m.set_digest(std::string(32, 'z')); },
         StatusCode::kFailedPrecondition, "another version");
  refuse([](auto& m) { m.set_layout_hash(std::string(32, 'z')); },
         StatusCode::kFailedPrecondition, "another layout");
  refuse([](auto& m) { m.set_size_bytes(0); }, StatusCode::kInvalidArgument,
         "0 bytes");
  refuse([](auto& m) { m.set_size_bytes(INT64_MAX); },
         StatusCode::kResourceExhausted, "the bound is 2000");
  refuse([](auto& m) { m.set_chunk_size_bytes(-1); },
         StatusCode::kInvalidArgument, "chunks of -1");
  refuse([](auto& m) { m.set_chunk_size_bytes(201); },
         StatusCode::kResourceExhausted, "the bound is 200");
  refuse([](auto& m) { m.mutable_chunk_digests()->RemoveLast(); },
         StatusCode::kInvalidArgument, "expected 11");
  refuse([](auto& m) { m.set_chunk_digests(2, "short"); },
         StatusCode::kInvalidArgument, "expected 32");
}

TEST_F(ModelDownloadTest, BytesOutOfPlace_AreRefused) {
  const auto download = Start();
  EXPECT_THAT(Give(download.get(), 0, 100),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("before the manifest")));
  ASSERT_OK(download->OnManifest(manifest_));
  EXPECT_THAT(
      Give(download.get(), 100, 200),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 0")));
  ASSERT_OK(Give(download.get(), 0, 1050));
  v1::Chunk more;
  more.set_offset(1050);
  more.set_data("x");
  EXPECT_THAT(download->OnChunk(more),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("more bytes than the manifest's 1050")));
}

TEST_F(ModelDownloadTest, CutOtherwiseThanBefore_StartsAgain) {
  auto download = Start();
  ASSERT_OK(download->OnManifest(manifest_));
  ASSERT_OK(Give(download.get(), 0, 500));
  EXPECT_THAT(download->OnManifest(Manifest(50)),
              StatusIs(absl::StatusCode::kAborted));
  EXPECT_EQ(download->offset(), 0);
  EXPECT_OK(download->OnManifest(Manifest(50)));
}

TEST_F(ModelDownloadTest, LyingManifest_IsFoundInTheEnd) {
  // Chunk digests of other bytes than the file's digest promises.
  const std::string honest = model_;
  model_[777] ^= 1;
  v1::ModelManifest lying = Manifest(100);
  lying.set_digest(Sha256Of(honest).ToBytes());
  const auto download = Start();
  ASSERT_OK(download->OnManifest(lying));
  ASSERT_OK(Give(download.get(), 0, 1050));
  EXPECT_THAT(download->Finish(), StatusIs(absl::StatusCode::kDataLoss,
                                           HasSubstr("the whole file")));
  EXPECT_FALSE(env_.Exists("/m/p"));
}

TEST_F(ModelDownloadTest, DiskFull_IsFoundBeforeTheFirstChunk) {
  FaultInjectingEnv full(&env_);
  const auto download = ModelDownload::Start(&full, "/m/p", "/m/m", spec_);
  full.FillDisk();
  EXPECT_THAT(download->OnManifest(manifest_),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

}  // namespace
}  // namespace koinon::worker
