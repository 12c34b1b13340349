#include "coordinator/distribution/publish_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

PublishSchedule::Options SmallOptions() {
  PublishSchedule::Options options;
  options.max_versions = 4;
  options.first_retry = absl::Seconds(1);
  options.last_retry = absl::Seconds(4);
  options.first_refresh = absl::Minutes(1);
  options.last_refresh = absl::Minutes(4);
  return options;
}

class PublishScheduleTest : public ::testing::Test {
 protected:
  bool Add(absl::Time now, const JobId& job, int64_t version, bool newest) {
    auto manifest = std::make_shared<v1::ModelManifest>();
    manifest->set_job(job);
    manifest->set_version(version);
    return schedule_.Add(now, std::make_shared<v1::JobSpec>(),
                         std::move(manifest), newest);
  }
  static std::string NameOf(const PublishSchedule::Entry& entry) {
    return absl::StrCat(entry.manifest->job(), "@", entry.manifest->version(),
                        entry.newest ? " newest" : "");
  }
  // The names of all that are due, each done with this outcome.
  std::vector<std::string> Take(absl::Time now, bool ok = true) {
    std::vector<std::string> taken;
    while (const auto entry = schedule_.Next(now)) {
      taken.push_back(NameOf(*entry));
      schedule_.Done(now, *entry, ok);
    }
    return taken;
  }

  PublishSchedule schedule_{SmallOptions()};
};

TEST_F(PublishScheduleTest, NothingAdded_NothingIsDue) {
  EXPECT_EQ(schedule_.next_due(), absl::InfiniteFuture());
  EXPECT_FALSE(schedule_.Next(kStart).has_value());
}

TEST_F(PublishScheduleTest, Added_IsDueAtOnce_NewestFirst) {
  EXPECT_TRUE(Add(kStart, "a", 2, true));
  EXPECT_TRUE(Add(kStart, "a", 1, false));
  EXPECT_TRUE(Add(kStart, "a", 0, false));
  EXPECT_TRUE(Add(kStart, "b", 0, true));
  EXPECT_EQ(schedule_.next_due(), kStart);
  EXPECT_THAT(Take(kStart),
              ElementsAre("a@2 newest", "b@0 newest", "a@1", "a@0"));
}

TEST_F(PublishScheduleTest, NewerVersion_TakesNewestFromTheOneBefore) {
  Add(kStart, "a", 0, true);
  Add(kStart, "b", 0, true);
  Add(kStart, "a", 1, true);
  EXPECT_THAT(Take(kStart), ElementsAre("a@1 newest", "b@0 newest", "a@0"));
}

TEST_F(PublishScheduleTest, Backlog_HoldsUpNoHead) {
  for (int64_t version = 0; version < 4; ++version) {
    Add(kStart + absl::Seconds(version), "a", version, true);
  }
  EXPECT_THAT(Take(kStart + absl::Seconds(3)),
              ElementsAre("a@3 newest", "a@0", "a@1", "a@2"));
}

TEST_F(PublishScheduleTest, Failures_AreTriedAgainWithGrowingPauses) {
  Add(kStart, "a", 0, true);
  absl::Time now = kStart;
  for (const int seconds : {1, 2, 4, 4}) {
    EXPECT_THAT(Take(now, /*ok=*/false), ElementsAre("a@0 newest"));
    EXPECT_EQ(schedule_.next_due(), now + absl::Seconds(seconds));
    EXPECT_FALSE(
        schedule_.Next(now + absl::Seconds(seconds) - absl::Nanoseconds(1))
            .has_value());
    now += absl::Seconds(seconds);
  }
  ASSERT_TRUE(schedule_.Next(now).has_value());
  EXPECT_EQ(schedule_.Next(now)->failures, 4);
  // A success begins anew.
  Take(now);
  now = schedule_.next_due();
  Take(now, /*ok=*/false);
  EXPECT_EQ(schedule_.next_due(), now + absl::Seconds(1));
}

TEST_F(PublishScheduleTest, Successes_AreRefreshedWithGrowingPauses) {
  Add(kStart, "a", 0, true);
  absl::Time now = kStart;
  for (const int minutes : {1, 2, 4, 4}) {
    EXPECT_THAT(Take(now), ElementsAre("a@0 newest"));
    EXPECT_EQ(schedule_.next_due(), now + absl::Minutes(minutes));
    now += absl::Minutes(minutes);
  }
}

TEST_F(PublishScheduleTest, ReplacedWhileStored_IsDueAgain) {
  Add(kStart, "a", 0, true);
  const auto first = schedule_.Next(kStart);
  ASSERT_TRUE(first.has_value());
  EXPECT_TRUE(schedule_.Contains(*first));
  Add(kStart, "a", 0, true);
  EXPECT_FALSE(schedule_.Contains(*first));
  schedule_.Done(kStart, *first, true);
  EXPECT_EQ(schedule_.next_due(), kStart);
  EXPECT_EQ(schedule_.size(), 1);
}

TEST_F(PublishScheduleTest, RemovedWhileStored_StaysAway) {
  Add(kStart, "a", 0, true);
  const auto entry = schedule_.Next(kStart);
  ASSERT_TRUE(entry.has_value());
  schedule_.Remove("a", 0);
  schedule_.Remove("a", 0);
  schedule_.Done(kStart, *entry, true);
  EXPECT_EQ(schedule_.size(), 0);
  EXPECT_EQ(schedule_.next_due(), absl::InfiniteFuture());
}

TEST_F(PublishScheduleTest, OverTheBound_TheLowestIsGivenUp) {
  for (int64_t version = 0; version < 4; ++version) {
    EXPECT_TRUE(Add(kStart, "a", version, true));
  }
  EXPECT_FALSE(Add(kStart, "a", 4, true));
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_THAT(Take(kStart), ElementsAre("a@4 newest", "a@3", "a@2", "a@1"));
}

TEST_F(PublishScheduleTest, OverTheBoundWithNewestOnly_TheLastIsNotTaken) {
  for (const char* job : {"a", "b", "c", "d"}) {
    EXPECT_TRUE(Add(kStart, job, 3, true));
  }
  EXPECT_FALSE(Add(kStart, "e", 3, true));
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_THAT(Take(kStart), ElementsAre("a@3 newest", "b@3 newest",
                                        "c@3 newest", "d@3 newest"));
}

}  // namespace
}  // namespace koinon::coordinator
