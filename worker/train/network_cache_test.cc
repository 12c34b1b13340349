#include "worker/train/network_cache.h"

#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "kernels/reference/reference_network.h"

namespace koinon::worker {
namespace {

using kernels::ModelGraph;
using kernels::Network;

v1::ModelSpec Spec(int64_t classes) {
  v1::ModelSpec spec;
  spec.add_input_shape(2);
  spec.mutable_logistic_regression()->set_classes(classes);
  return spec;
}

class NetworkCacheTest : public testing::Test {
 protected:
  Network* Get(int64_t classes, const Network::Options& options) {
    const auto graph = ModelGraph::Build(Spec(classes));
    EXPECT_OK(graph);
    const auto prepared = cache_.Get(Spec(classes), *graph, options);
    EXPECT_OK(prepared);
    return prepared.ok() ? (*prepared)->network.get() : nullptr;
  }

  int built_ = 0;
  NetworkCache cache_{
      2, [this](const ModelGraph& graph, const Network::Options& options) {
        ++built_;
        return kernels::NewReferenceNetwork(graph, options);
      }};
};

TEST_F(NetworkCacheTest, SameRequest_IsGivenTheSameNetwork) {
  Network* const one = Get(3, {.batch_size = 8});
  EXPECT_EQ(Get(3, {.batch_size = 8}), one);
  EXPECT_EQ(built_, 1);
}

TEST_F(NetworkCacheTest, AnotherModelBatchLossOrThreads_IsBuilt) {
  Get(3, {.batch_size = 8});
  Get(4, {.batch_size = 8});
  Get(4, {.batch_size = 9});
  Get(4, {.batch_size = 9, .threads = 2});
  Get(4, {.batch_size = 9,
          .threads = 2,
          .loss = v1::TrainingSpec::MEAN_SQUARED_ERROR});
  EXPECT_EQ(built_, 5);
  EXPECT_EQ(cache_.size(), 2u);
}

TEST_F(NetworkCacheTest, AnotherPrecision_IsBuilt) {
  Network* const single = Get(3, {.batch_size = 8});
  EXPECT_NE(Get(3, {.batch_size = 8, .bfloat16 = true}), single);
  EXPECT_EQ(built_, 2);
  EXPECT_EQ(Get(3, {.batch_size = 4, .training = false}), single);
  EXPECT_EQ(built_, 2);
}

TEST_F(NetworkCacheTest, ForwardOnlyRequest_TakesATrainingNetwork) {
  Network* const training = Get(3, {.batch_size = 8});
  EXPECT_EQ(Get(3, {.batch_size = 5, .training = false}), training);
  EXPECT_EQ(built_, 1);
}

TEST_F(NetworkCacheTest, TrainingRequest_NeverTakesAForwardOnlyNetwork) {
  Get(3, {.batch_size = 8, .training = false});
  Network* const training = Get(3, {.batch_size = 8});
  EXPECT_EQ(built_, 2);
  EXPECT_FALSE(training->gradients().empty());
}

TEST_F(NetworkCacheTest, FullCache_DropsTheOneUsedLongestAgo) {
  Get(2, {.batch_size = 8});
  Get(3, {.batch_size = 8});
  Get(2, {.batch_size = 8});
  Get(4, {.batch_size = 8});
  EXPECT_EQ(built_, 3);
  Get(2, {.batch_size = 8});
  EXPECT_EQ(built_, 3);
  Get(3, {.batch_size = 8});
  EXPECT_EQ(built_, 4);
}

}  // namespace
}  // namespace koinon::worker
