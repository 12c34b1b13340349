#include "coordinator/registry/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);
constexpr absl::Duration kLease = absl::Seconds(15);

Registry::Worker MakeWorker(const WorkerId& id, uint64_t session,
                            const std::string& dataset = "digits",
                            int64_t examples = 10) {
  Registry::Worker worker;
  worker.id = id;
  worker.session = session;
  auto* data = worker.capabilities.add_datasets();
  data->set_name(dataset);
  data->set_examples(examples);
  return worker;
}

v1::JobSpec MakeSpec(const std::string& dataset) {
  v1::JobSpec spec;
  spec.set_dataset(dataset);
  return spec;
}

class RegistryTest : public ::testing::Test {
 protected:
  Registry registry_{{.lease = kLease, .max_workers = 3}};
};

TEST_F(RegistryTest, Join_NewWorker_IsConnectedUntilItsLeaseEnds) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1)));
  const Registry::Worker* worker = registry_.Find("a");
  ASSERT_NE(worker, nullptr);
  EXPECT_TRUE(worker->connected);
  EXPECT_EQ(worker->lease_ends, kStart + kLease);
  EXPECT_EQ(registry_.next_expiry(), kStart + kLease);
  EXPECT_THAT(registry_.Expire(kStart + kLease - absl::Nanoseconds(1)),
              IsEmpty());
  EXPECT_THAT(registry_.Expire(kStart + kLease), ElementsAre("a"));
  EXPECT_EQ(registry_.Find("a"), nullptr);
  EXPECT_EQ(registry_.next_expiry(), absl::InfiniteFuture());
}

TEST_F(RegistryTest, Join_OverMaxWorkers_IsRefusedButKnownOnesMayReturn) {
  for (const char* id : {"a", "b", "c"}) {
    ASSERT_OK(registry_.Join(kStart, MakeWorker(id, 1)));
  }
  EXPECT_THAT(registry_.Join(kStart, MakeWorker("d", 2)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("worker d: 3 others")));
  EXPECT_OK(registry_.Join(kStart, MakeWorker("b", 3)));
  EXPECT_EQ(registry_.workers().size(), 3u);
}

TEST_F(RegistryTest, Renew_CurrentSession_ProlongsTheLease) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1)));
  EXPECT_TRUE(registry_.Renew(kStart + absl::Seconds(10), "a", 1));
  EXPECT_THAT(registry_.Expire(kStart + kLease), IsEmpty());
  EXPECT_EQ(registry_.next_expiry(), kStart + absl::Seconds(25));
}

TEST_F(RegistryTest, SupersededSession_AnyEvent_ChangesNothing) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1)));
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 2)));
  EXPECT_FALSE(registry_.Renew(kStart + absl::Seconds(10), "a", 1));
  EXPECT_FALSE(registry_.Disconnect("a", 1));
  EXPECT_FALSE(registry_.Leave("a", 1));
  EXPECT_FALSE(registry_.Renew(kStart, "stranger", 1));
  ASSERT_NE(registry_.Find("a"), nullptr);
  EXPECT_TRUE(registry_.Find("a")->connected);
  EXPECT_EQ(registry_.Find("a")->lease_ends, kStart + kLease);
}

TEST_F(RegistryTest, Disconnect_WithinTheLease_IsKnownButNotCapable) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1)));
  EXPECT_TRUE(registry_.Disconnect("a", 1));
  EXPECT_NE(registry_.Find("a"), nullptr);
  EXPECT_THAT(registry_.Capable(MakeSpec("digits")), IsEmpty());
  EXPECT_FALSE(registry_.Renew(kStart, "a", 1));  // its stream is closed
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 2)));
  EXPECT_THAT(registry_.Capable(MakeSpec("digits")), ElementsAre("a"));
}

TEST_F(RegistryTest, Leave_CurrentSession_ForgetsAtOnce) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1)));
  EXPECT_TRUE(registry_.Leave("a", 1));
  EXPECT_EQ(registry_.Find("a"), nullptr);
  EXPECT_THAT(registry_.Expire(kStart + kLease), IsEmpty());
}

TEST_F(RegistryTest, Expire_Several_ReturnsThemAscending) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("c", 1)));
  ASSERT_OK(registry_.Join(kStart + absl::Seconds(1), MakeWorker("a", 2)));
  ASSERT_OK(registry_.Join(kStart + absl::Seconds(9), MakeWorker("b", 3)));
  EXPECT_THAT(registry_.Expire(kStart + kLease + absl::Seconds(1)),
              ElementsAre("a", "c"));
  EXPECT_EQ(registry_.workers().size(), 1u);
}

TEST_F(RegistryTest, TakeGone_NodesThatCannotBeReached_AreNamedOnce) {
  const auto with_node = [](const WorkerId& id, uint64_t session) {
    Registry::Worker worker = MakeWorker(id, session);
    worker.peer = dht::Contact{.id = Sha256Of(id), .address = id, .site = ""};
    return worker;
  };
  ASSERT_OK(registry_.Join(kStart, with_node("a", 1)));
  ASSERT_OK(registry_.Join(kStart, with_node("b", 2)));
  ASSERT_OK(registry_.Join(kStart, MakeWorker("c", 3)));  // has no node
  EXPECT_THAT(registry_.TakeGone(), IsEmpty());
  ASSERT_TRUE(registry_.Disconnect("a", 1));
  ASSERT_TRUE(registry_.Disconnect("c", 3));
  EXPECT_THAT(registry_.TakeGone(), ElementsAre(Sha256Of("a")));
  EXPECT_THAT(registry_.TakeGone(), IsEmpty());
  // Its lease runs out too, which is no news; the other's is.
  registry_.Expire(kStart + kLease);
  EXPECT_THAT(registry_.TakeGone(), ElementsAre(Sha256Of("b")));
  // It comes back with a stream that takes the place of another, which is no
  // news of a node that is there; of one that it has no longer, it is.
  ASSERT_OK(registry_.Join(kStart, with_node("a", 4)));
  ASSERT_OK(registry_.Join(kStart, with_node("a", 5)));
  EXPECT_THAT(registry_.TakeGone(), IsEmpty());
  Registry::Worker moved = with_node("a", 6);
  moved.peer->id = Sha256Of("another node");
  ASSERT_OK(registry_.Join(kStart, moved));
  EXPECT_THAT(registry_.TakeGone(), ElementsAre(Sha256Of("a")));
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 7)));
  EXPECT_THAT(registry_.TakeGone(), ElementsAre(moved.peer->id));
  // It was away, and is back before anybody has asked.
  ASSERT_OK(registry_.Join(kStart, with_node("a", 8)));
  ASSERT_TRUE(registry_.Disconnect("a", 8));
  ASSERT_OK(registry_.Join(kStart, with_node("a", 9)));
  EXPECT_THAT(registry_.TakeGone(), IsEmpty());
  ASSERT_TRUE(registry_.Leave("a", 9));
  EXPECT_THAT(registry_.TakeGone(), ElementsAre(Sha256Of("a")));
}

TEST_F(RegistryTest, Capable_Job_NeedsItsDatasetWithExamplesAndItsTrainer) {
  ASSERT_OK(registry_.Join(kStart, MakeWorker("a", 1, "digits", 0)));
  ASSERT_OK(registry_.Join(kStart, MakeWorker("b", 2, "scans")));
  Registry::Worker c = MakeWorker("c", 3);
  c.capabilities.add_external_trainers("numpy");
  ASSERT_OK(registry_.Join(kStart, c));
  EXPECT_THAT(registry_.Capable(MakeSpec("digits")), ElementsAre("c"));
  v1::JobSpec external = MakeSpec("scans");
  external.mutable_training()->set_external_trainer("numpy");
  EXPECT_THAT(registry_.Capable(external), IsEmpty());
  external.set_dataset("digits");
  EXPECT_THAT(registry_.Capable(external), ElementsAre("c"));
}

std::vector<WorkerId> Names(size_t n) {
  std::vector<WorkerId> names;
  for (size_t i = 0; i < n; ++i) names.push_back(absl::StrCat("w", 10 + i));
  return names;
}

TEST(SampleCohortTest, FewerCandidatesThanAsked_TakesAll) {
  EXPECT_THAT(SampleCohort(Names(2), 5, 1), ElementsAre("w10", "w11"));
  EXPECT_THAT(SampleCohort({}, 5, 1), IsEmpty());
  EXPECT_THAT(SampleCohort(Names(2), 0, 1), IsEmpty());
}

TEST(SampleCohortTest, SameSeed_SameCohort_AscendingWithoutRepeats) {
  const std::vector<WorkerId> names = Names(20);
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const std::vector<WorkerId> cohort = SampleCohort(names, 7, seed);
    EXPECT_EQ(cohort, SampleCohort(names, 7, seed)) << seed;
    ASSERT_EQ(cohort.size(), 7u);
    for (size_t i = 1; i < cohort.size(); ++i) {
      EXPECT_LT(cohort[i - 1], cohort[i]) << seed;
    }
  }
}

TEST(SampleCohortTest, ManySeeds_EveryCandidateIsDrawnAboutAsOften) {
  // 10,000 draws of 3 out of 10: each candidate's count is binomial with mean
  // 3,000 and standard deviation 45.8. Six of those: a correct sampler fails
  // once in about 5e7 choices of the ten counts; the seeds are fixed besides.
  const std::vector<WorkerId> names = Names(10);
  std::map<WorkerId, int> drawn;
  for (uint64_t seed = 0; seed < 10'000; ++seed) {
    for (const WorkerId& id : SampleCohort(names, 3, seed)) ++drawn[id];
  }
  for (const WorkerId& id : names) EXPECT_NEAR(drawn[id], 3000, 6 * 45.8) << id;
}

}  // namespace
}  // namespace koinon::coordinator
