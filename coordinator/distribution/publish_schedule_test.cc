#include "coordinator/distribution/publish_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_matchers.h"
#include "coordinator/distribution/record_writer.h"
#include "coordinator/distribution/testing_manifest.h"
#include "coordinator/distribution/testing_network.h"
#include "coordinator/models/testing_signer.h"
#include "dht/records/signed.h"
#include "dht/store/record_store.h"

namespace koinon::coordinator {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

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
  explicit PublishScheduleTest(
      PublishSchedule::Options options = SmallOptions())
      : schedule_(options) {}
  bool Add(absl::Time now, const JobId& job, int64_t version, bool newest,
           bool pinned = false, uint64_t least_epoch = 0) {
    auto manifest = std::make_shared<v1::ModelManifest>();
    manifest->set_job(job);
    manifest->set_version(version);
    manifest->set_pinned(pinned);
    return schedule_.Add(now, std::make_shared<v1::JobSpec>(),
                         std::move(manifest), newest, least_epoch);
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

  PublishSchedule schedule_;
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
  // Not before it is stored.
  EXPECT_THAT(Take(kStart),
              ElementsAre("a@4 newest", "a@3", "a@2", "a@1", "a@0"));
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_FALSE(Add(kStart, "a", 5, true));
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_THAT(Take(kStart + absl::Minutes(1)),
              ElementsAre("a@5 newest", "a@4", "a@3", "a@2"));
}

// A long backlog of such takes longer than a minute.
TEST_F(PublishScheduleTest, OverTheBound_RefreshesComeBeforeWhatIsStoredOnce) {
  for (int64_t v = 6; v >= 0; --v) Add(kStart, "a", v, v == 6);
  for (int i = 0; i < 4; ++i) {
    const auto entry = schedule_.Next(kStart);
    ASSERT_TRUE(entry.has_value());
    schedule_.Done(kStart, *entry, true);
  }
  const absl::Time later = kStart + absl::Minutes(1);
  EXPECT_THAT(Take(later), ElementsAre("a@6 newest", "a@5", "a@4", "a@3", "a@2",
                                       "a@1", "a@0"));
}

TEST_F(PublishScheduleTest, OverTheBound_WhatCannotBeStoredIsTriedAgain) {
  for (int64_t version = 4; version >= 0; --version) {
    EXPECT_EQ(Add(kStart, "a", version, version == 4), version > 0);
  }
  EXPECT_THAT(Take(kStart, /*ok=*/false), SizeIs(5));
  EXPECT_EQ(schedule_.size(), 5);
  EXPECT_THAT(Take(kStart + absl::Seconds(1)), SizeIs(5));
  EXPECT_EQ(schedule_.size(), 4);
}

TEST_F(PublishScheduleTest, OverTheBound_PinnedAreGivenUpAfterTheOthers) {
  Add(kStart, "a", 0, true, /*pinned=*/true);
  Add(kStart, "a", 1, true, /*pinned=*/true);
  for (int64_t version = 2; version < 8; ++version) {
    Add(kStart, "b", version, true);
  }
  Take(kStart);
  EXPECT_THAT(Take(kStart + absl::Minutes(1)),
              UnorderedElementsAre("a@1 newest", "b@7 newest", "b@6", "a@0"));
  for (const char* job : {"c", "d"}) Add(kStart, job, 1, true);
  Take(kStart);
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_THAT(Take(kStart + absl::Hours(1)),
              UnorderedElementsAre("b@7 newest", "a@1 newest", "c@1 newest",
                                   "d@1 newest"));
}

TEST_F(PublishScheduleTest, OverTheBoundWithNewestOnly_TheOldestIsGivenUp) {
  for (const char* job : {"d", "a", "b", "c"}) {
    EXPECT_TRUE(Add(kStart, job, 3, true));
  }
  EXPECT_FALSE(Add(kStart, "e", 0, true));
  EXPECT_THAT(Take(kStart), SizeIs(5));
  EXPECT_EQ(schedule_.size(), 4);
  EXPECT_THAT(
      Take(kStart + absl::Minutes(1)),
      ElementsAre("a@3 newest", "b@3 newest", "c@3 newest", "e@0 newest"));
}

class HeadsAgainTest : public PublishScheduleTest {
 protected:
  static PublishSchedule::Options Options() {
    PublishSchedule::Options options = SmallOptions();
    options.max_versions = 100;
    options.heads_every = 3;
    return options;
  }
  HeadsAgainTest() : PublishScheduleTest(Options()) {}
};

// Without it, a job with many new versions would push the heads of the others
// out of the nodes that hold them.
TEST_F(HeadsAgainTest, ManyOthersStored_HeadsAreStoredAgain) {
  Add(kStart, "done", 9, true);
  EXPECT_THAT(Take(kStart), ElementsAre("done@9 newest"));
  std::vector<std::string> taken;
  for (int64_t version = 0; version < 6; ++version) {
    Add(kStart, "live", version, true);
    for (std::string& name : Take(kStart)) taken.push_back(std::move(name));
  }
  EXPECT_THAT(taken,
              ElementsAre("live@0 newest", "live@1 newest", "done@9 newest",
                          "live@2 newest", "live@3 newest", "live@4 newest",
                          "done@9 newest", "live@5 newest"));
}

TEST_F(HeadsAgainTest, HeadThatCannotBeStored_KeepsItsPause) {
  Add(kStart, "done", 9, true);
  EXPECT_THAT(Take(kStart, /*ok=*/false), ElementsAre("done@9 newest"));
  for (int64_t version = 0; version < 6; ++version) {
    Add(kStart, "live", version, true);
    EXPECT_THAT(Take(kStart),
                ElementsAre(absl::StrCat("live@", version, " newest")));
  }
}

// The default bounds are of use only below what a holder keeps.
TEST(PublishScheduleOptionsTest, Defaults_LeaveRoomAtAHolder) {
  const PublishSchedule::Options options;
  const dht::RecordStore::Options holder;
  constexpr size_t kKeys = 4;  // manifest, specification, version, head
  EXPECT_LE(options.max_versions * kKeys, holder.max_keys_per_writer / 2);
  // Between two rounds of heads: what is new, and the heads themselves.
  EXPECT_LE((options.heads_every + options.max_versions) * kKeys,
            holder.max_keys_per_writer);
}

// What the schedule gives, stored at a node that keeps what nodes keep. A fleet
// of up to twenty has each record at every node.
class HolderTest : public ::testing::Test {
 protected:
  void Add(const JobId& job, int64_t version, bool newest) {
    auto spec = std::make_shared<v1::JobSpec>();
    spec->set_name(job);
    schedule_.Add(now_, std::move(spec),
                  std::make_shared<v1::ModelManifest>(
                      SignedTestManifest(signer_, job, version, job)),
                  newest, /*least_epoch=*/0);
  }
  void StoreDue() {
    while (const auto entry = schedule_.Next(now_)) {
      const absl::Status stored = writer_.Store(
          *entry->spec, *entry->manifest, entry->newest, entry->least_epoch);
      ASSERT_OK(stored);
      schedule_.Done(now_, *entry, stored.ok());
    }
  }
  // Whether the job can be found, with what its head leads to.
  bool Knows(const JobId& job) {
    const auto head =
        network_.Newest(dht::MutableKey("test", "server", dht::HeadName(job)));
    v1::HeadValue value;
    if (!head.ok() || !value.ParseFromString(head->value)) return false;
    const auto manifest = dht::Key::FromBytes(value.manifest());
    const auto spec = dht::Key::FromBytes(value.job_spec());
    return manifest.ok() && network_.Newest(*manifest).ok() && spec.ok() &&
           network_.Newest(*spec).ok();
  }

  // More keys than a node keeps of one writer.
  static constexpr int64_t kMany = 2'100;
  const TestSigner signer_;
  StoreNetwork network_{signer_.node()};
  RecordWriter writer_{&network_, &signer_.node()};
  PublishSchedule schedule_{PublishSchedule::Options()};
  absl::Time now_ = kStart;
};

TEST_F(HolderTest, ManyVersionsKept_EachJobIsFound) {
  Add("done", 9, true);
  for (int64_t version = kMany; version >= 0; --version) {
    Add("long", version, version == kMany);
  }
  for (const absl::Time end = kStart + absl::Hours(1); now_ < end;
       now_ = std::max(now_, schedule_.next_due())) {
    ASSERT_NO_FATAL_FAILURE(StoreDue());
    ASSERT_TRUE(Knows("done")) << now_;
    ASSERT_TRUE(Knows("long")) << now_;
  }
}

TEST_F(HolderTest, ManyVersionsPublished_EachJobIsFound) {
  Add("done", 9, true);
  for (int64_t version = 0; version < kMany; ++version) {
    Add("live", version, true);
    ASSERT_NO_FATAL_FAILURE(StoreDue());
  }
  EXPECT_TRUE(Knows("done"));
  EXPECT_TRUE(Knows("live"));
}

}  // namespace
}  // namespace koinon::coordinator
