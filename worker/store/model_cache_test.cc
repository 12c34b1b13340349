#include "worker/store/model_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "base/testing_env.h"

namespace koinon::worker {
namespace {

class ModelCacheTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(2, 1 << 20); }
  void Open(size_t max_models, uint64_t max_bytes) {
    cache_.reset();
    ModelCache::Options options;
    options.max_models = max_models;
    options.max_bytes = max_bytes;
    ASSERT_OK_AND_ASSIGN(cache_, ModelCache::Open(&env_, "/models", options));
  }
  // A model of these bytes enters the cache.
  std::unique_ptr<ModelCache::Lease> Add(const std::string& bytes) {
    const Digest digest = Sha256Of(bytes);
    EXPECT_OK(WriteFileAtomically(&env_, cache_->PartialPath(digest), bytes));
    auto lease = cache_->Adopt(digest);
    EXPECT_OK(lease);
    return *std::move(lease);
  }
  bool Has(const std::string& bytes) {
    return cache_->Find(Sha256Of(bytes)) != nullptr;
  }

  MemoryEnv env_;
  std::unique_ptr<ModelCache> cache_;
};

TEST_F(ModelCacheTest, Adopted_IsFoundNowAndAfterARestart) {
  EXPECT_FALSE(Has("one"));
  Add("one");
  EXPECT_TRUE(Has("one"));
  Open(2, 1 << 20);
  EXPECT_TRUE(Has("one"));
}

TEST_F(ModelCacheTest, OverMaxModels_TheLeastRecentlyUsedLeaves) {
  Add("one");
  Add("two");
  EXPECT_TRUE(Has("one"));
  Add("three");
  EXPECT_TRUE(Has("one"));
  EXPECT_FALSE(Has("two"));
  EXPECT_TRUE(Has("three"));
}

TEST_F(ModelCacheTest, OverMaxBytes_OldOnesLeave) {
  Open(10, 10);
  Add("1234");
  Add("5678");
  Add("9abc");
  EXPECT_FALSE(Has("1234"));
  EXPECT_TRUE(Has("5678"));
  EXPECT_TRUE(Has("9abc"));
}

TEST_F(ModelCacheTest, InUse_Stays) {
  const auto lease = Add("one");
  for (const char* other : {"two", "three", "four"}) Add(other);
  EXPECT_TRUE(env_.Exists(lease->path()));
  EXPECT_TRUE(Has("one"));
}

TEST_F(ModelCacheTest, DamagedAfterARestart_IsNotServed) {
  Add("one");
  const std::string path = Add("one")->path();
  ASSERT_OK(WriteFileAtomically(&env_, path, "own"));
  Open(2, 1 << 20);
  EXPECT_FALSE(Has("one"));
  EXPECT_FALSE(env_.Exists(path));
}

TEST_F(ModelCacheTest, Recover_KeepsOnePartialFetchAndItsManifest) {
  const Digest one = Sha256Of("one");
  const Digest two = Sha256Of("two");
  for (const Digest& digest : {one, two}) {
    ASSERT_OK(WriteFileAtomically(&env_, cache_->PartialPath(digest), "p"));
    ASSERT_OK(WriteFileAtomically(&env_, cache_->ManifestPath(digest), "m"));
  }
  Open(2, 1 << 20);
  EXPECT_EQ(env_.Exists(cache_->PartialPath(one)),
            env_.Exists(cache_->ManifestPath(one)));
  EXPECT_NE(env_.Exists(cache_->PartialPath(one)),
            env_.Exists(cache_->PartialPath(two)));
}

}  // namespace
}  // namespace koinon::worker
