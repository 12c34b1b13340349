#include "coordinator/registry/fetch_peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/digest.h"

namespace koinon::coordinator {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

dht::Contact ContactOf(const WorkerId& id, const std::string& site) {
  return {.id = Sha256Of(id), .address = id + ".example:7171", .site = site};
}

Registry::Worker MakeWorker(const WorkerId& id, const std::string& site) {
  Registry::Worker worker;
  worker.id = id;
  worker.connected = true;
  worker.peer = ContactOf(id, site);
  return worker;
}

// Ten workers at each of five sites: "s0-w0" to "s4-w9".
std::map<WorkerId, Registry::Worker> Workers() {
  std::map<WorkerId, Registry::Worker> workers;
  for (int site = 0; site < 5; ++site) {
    for (int i = 0; i < 10; ++i) {
      const WorkerId id = absl::StrCat("s", site, "-w", i);
      workers[id] = MakeWorker(id, absl::StrCat("s", site));
    }
  }
  return workers;
}

// Of each site, the workers 0 to 3.
std::vector<WorkerId> Cohort() {
  std::vector<WorkerId> cohort;
  for (const auto& [id, worker] : Workers()) {
    if (id.back() < '4') cohort.push_back(id);
  }
  return cohort;
}

TEST(FetchPeersTest, OwnSitesCohortFirst_ThenTheCohort_ThenOthers) {
  const FetchPeers peers(Workers(), Cohort());
  EXPECT_EQ(peers.size(), 50);
  const auto self = Sha256Of("s2-w1");
  const std::vector<dht::Contact> few = peers.Choose(self, "s2", 3, 1);
  ASSERT_THAT(few, SizeIs(3));
  for (const auto& contact : few) {
    EXPECT_EQ(contact.site, "s2");
    EXPECT_LT(contact.address[4], '4') << contact.address;
  }
  // 19 others of the cohort, 3 of them of the own site and before the rest.
  const std::vector<dht::Contact> cohort = peers.Choose(self, "s2", 19, 1);
  ASSERT_THAT(cohort, SizeIs(19));
  for (size_t i = 0; i < cohort.size(); ++i) {
    EXPECT_LT(cohort[i].address[4], '4') << cohort[i].address;
    EXPECT_EQ(cohort[i].site == "s2", i < 3) << i;
  }
  EXPECT_THAT(peers.Choose(self, "s2", 100, 1), SizeIs(49));
}

TEST(FetchPeersTest, Chosen_AreDifferentAndNeverTheWorkerItself) {
  const FetchPeers peers(Workers(), Cohort());
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const auto chosen = peers.Choose(Sha256Of("s0-w0"), "s0", 10, seed);
    ASSERT_THAT(chosen, SizeIs(10));
    std::set<dht::Key> ids;
    for (const auto& contact : chosen) ids.insert(contact.id);
    EXPECT_EQ(ids.size(), 10);
    EXPECT_FALSE(ids.contains(Sha256Of("s0-w0"))) << "seed " << seed;
  }
}

TEST(FetchPeersTest, SameSeed_SameChoice_OtherSeedsReachEverybody) {
  const FetchPeers peers(Workers(), Cohort());
  const dht::Key stranger = Sha256Of("stranger");
  EXPECT_EQ(peers.Choose(stranger, "", 10, 7),
            peers.Choose(stranger, "", 10, 7));
  std::set<std::string> reached;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    for (const auto& contact : peers.Choose(stranger, "", 5, seed)) {
      reached.insert(contact.address);
    }
  }
  // A member of the cohort of 20 is missed with probability 0.75^200.
  EXPECT_THAT(reached, SizeIs(20));
}

TEST(FetchPeersTest, WhoIsGoneOrCannotBeReached_IsNotChosen) {
  auto workers = Workers();
  workers["s0-w0"].connected = false;
  workers["s0-w1"].peer.reset();
  workers["s0-w2"].peer->address.clear();
  const FetchPeers peers(workers, Cohort());
  EXPECT_EQ(peers.size(), 47);
  const auto all = peers.Choose(dht::Key(), "s0", 100, 1);
  EXPECT_THAT(all, SizeIs(47));
  for (const char* gone : {"s0-w0", "s0-w1", "s0-w2"}) {
    EXPECT_THAT(all, Not(testing::Contains(ContactOf(gone, "s0"))));
  }
}

TEST(FetchPeersTest, NoWorkers_NobodyIsChosen) {
  EXPECT_THAT(FetchPeers().Choose(dht::Key(), "", 10, 1), IsEmpty());
  EXPECT_THAT(FetchPeers({}, Cohort()).Sample(10, 1), IsEmpty());
}

TEST(FetchPeersTest, Sample_IsOfTheCohortIfThereIsOne) {
  const FetchPeers peers(Workers(), Cohort());
  EXPECT_THAT(peers.Sample(100, 3), SizeIs(20));
  EXPECT_THAT(peers.Sample(5, 3), SizeIs(5));
  EXPECT_THAT(FetchPeers(Workers(), {}).Sample(100, 3), SizeIs(50));
}

}  // namespace
}  // namespace koinon::coordinator
