#include "dht/store/provider_book.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/status_matchers.h"
#include "dht/key.h"
#include "dht/records/rejection.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace koinon::dht {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1'700'000'000);
const Key kModel = Sha256Of("model");

Contact Provider(uint64_t i) {
  return {.id = Sha256Of(absl::StrCat("provider ", i)),
          .address = absl::StrCat("host:", i),
          .site = ""};
}

std::vector<Contact> Contacts(
    const std::vector<ProviderBook::ProviderUntil>& providers) {
  std::vector<Contact> contacts;
  for (const auto& provider : providers) contacts.push_back(provider.contact);
  return contacts;
}

TEST(ProviderBookTest, Find_Nobody_IsEmpty) {
  const ProviderBook book({});
  EXPECT_THAT(book.Find(kModel, 10, kStart), IsEmpty());
}

TEST(ProviderBookTest, Find_Several_LastAnnouncedFirst) {
  ProviderBook book({});
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_OK(book.Add(kModel, Provider(i), kStart));
  }
  ASSERT_OK(book.Add(kModel, Provider(0), kStart));
  EXPECT_THAT(Contacts(book.Find(kModel, 2, kStart)),
              ElementsAre(Provider(0), Provider(2)));
  EXPECT_EQ(book.providers(), 3u);
}

TEST(ProviderBookTest, Add_Again_MovesAndLivesOn) {
  ProviderBook book({});
  ASSERT_OK(book.Add(kModel, Provider(1), kStart));
  Contact moved = Provider(1);
  moved.address = "elsewhere:1";
  const absl::Time later = kStart + absl::Minutes(9);
  ASSERT_OK(book.Add(kModel, moved, later));
  const auto found = book.Find(kModel, 10, kStart + absl::Minutes(18));
  EXPECT_THAT(Contacts(found), ElementsAre(moved));
  EXPECT_EQ(found[0].expires, later + absl::Minutes(10));
}

TEST(ProviderBookTest, Find_Expired_IsNotGivenOutEvenBeforeTheSweep) {
  ProviderBook book({});
  ASSERT_OK(book.Add(kModel, Provider(1), kStart));
  const absl::Time end = kStart + absl::Minutes(10);
  EXPECT_THAT(book.Find(kModel, 10, end - absl::Nanoseconds(1)), SizeIs(1));
  EXPECT_THAT(book.Find(kModel, 10, end), IsEmpty());
  EXPECT_EQ(book.Sweep(end), 1u);
  EXPECT_EQ(book.Sweep(end), 0u);
  EXPECT_EQ(book.contents(), 0u);
}

TEST(ProviderBookTest, Add_FullList_WhoLivesStaysAndWhoExpiredGoes) {
  ProviderBook book({.max_per_content = 2});
  ASSERT_OK(book.Add(kModel, Provider(1), kStart));
  ASSERT_OK(book.Add(kModel, Provider(2), kStart + absl::Minutes(1)));
  const absl::Status refused =
      book.Add(kModel, Provider(3), kStart + absl::Minutes(9));
  EXPECT_EQ(RejectionOf(refused), Rejection::kQuota);
  // A known one refreshes in place; others have their own contents.
  EXPECT_OK(book.Add(kModel, Provider(2), kStart + absl::Minutes(9)));
  EXPECT_OK(book.Add(Sha256Of("other"), Provider(3), kStart));
  EXPECT_OK(book.Add(kModel, Provider(3), kStart + absl::Minutes(10)));
  EXPECT_THAT(Contacts(book.Find(kModel, 9, kStart + absl::Minutes(10))),
              ElementsAre(Provider(3), Provider(2)));
}

Contact OfSite(uint64_t i, const std::string& site) {
  Contact contact = Provider(i);
  contact.site = site;
  return contact;
}

TEST(ProviderBookTest, Add_FullList_SiteThatHasMostMakesRoomForOthers) {
  ProviderBook book({.max_per_content = 4});
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_OK(book.Add(kModel, OfSite(i, "a"), kStart));
  }
  EXPECT_OK(book.Add(kModel, OfSite(4, "b"), kStart));
  EXPECT_OK(book.Add(kModel, OfSite(5, "b"), kStart));
  // Two each: nobody has to make room any more.
  EXPECT_EQ(RejectionOf(book.Add(kModel, OfSite(6, "b"), kStart)),
            Rejection::kQuota);
  EXPECT_EQ(RejectionOf(book.Add(kModel, OfSite(0, "a"), kStart)),
            Rejection::kQuota);
  EXPECT_THAT(Contacts(book.Find(kModel, 9, kStart)),
              ElementsAre(OfSite(5, "b"), OfSite(4, "b"), OfSite(3, "a"),
                          OfSite(2, "a")));
  EXPECT_OK(book.Add(kModel, OfSite(7, "c"), kStart));
  EXPECT_EQ(book.providers(), 4u);
}

TEST(ProviderBookTest, Find_ForASite_ItsOwnComeFirst) {
  ProviderBook book({});
  ASSERT_OK(book.Add(kModel, OfSite(1, "a"), kStart));
  ASSERT_OK(book.Add(kModel, OfSite(2, "b"), kStart));
  ASSERT_OK(book.Add(kModel, OfSite(3, "a"), kStart));
  ASSERT_OK(book.Add(kModel, OfSite(4, "b"), kStart));
  EXPECT_THAT(Contacts(book.Find(kModel, 3, kStart, "a")),
              ElementsAre(OfSite(3, "a"), OfSite(1, "a"), OfSite(4, "b")));
  EXPECT_THAT(Contacts(book.Find(kModel, 1, kStart, "c")),
              ElementsAre(OfSite(4, "b")));
}

TEST(ProviderBookTest, Add_ProviderOverItsQuota_OthersNoticeNothing) {
  ProviderBook book({.max_contents_per_provider = 10});
  int kept = 0;
  for (int i = 0; i < 100; ++i) {
    kept += book.Add(Sha256Of(absl::StrCat(i)), Provider(1), kStart).ok();
  }
  EXPECT_EQ(kept, 10);
  for (int i = 0; i < 100; ++i) {
    EXPECT_OK(book.Add(Sha256Of(absl::StrCat(i)), Provider(2 + i), kStart));
  }
  // What has expired does not count against it.
  EXPECT_OK(book.Add(kModel, Provider(1), kStart + absl::Minutes(10)));
}

TEST(ProviderBookTest, Add_BookFull_NewContentsAndProvidersAreRefused) {
  ProviderBook contents({.max_contents = 1});
  ASSERT_OK(contents.Add(kModel, Provider(1), kStart));
  EXPECT_OK(contents.Add(kModel, Provider(2), kStart));
  EXPECT_EQ(RejectionOf(contents.Add(Sha256Of("b"), Provider(1), kStart)),
            Rejection::kQuota);
  ProviderBook providers({.max_providers = 2});
  ASSERT_OK(providers.Add(kModel, Provider(1), kStart));
  ASSERT_OK(providers.Add(kModel, Provider(2), kStart));
  EXPECT_EQ(RejectionOf(providers.Add(kModel, Provider(3), kStart)),
            Rejection::kQuota);
  EXPECT_OK(providers.Add(kModel, Provider(2), kStart));
}

TEST(ProviderBookTest, Remove_KnownOrNot_OnlyThisOneIsGone) {
  ProviderBook book({});
  book.Remove(kModel, Provider(1).id);
  ASSERT_OK(book.Add(kModel, Provider(1), kStart));
  ASSERT_OK(book.Add(kModel, Provider(2), kStart));
  book.Remove(kModel, Provider(3).id);
  book.Remove(kModel, Provider(1).id);
  EXPECT_THAT(Contacts(book.Find(kModel, 9, kStart)), ElementsAre(Provider(2)));
  book.Remove(kModel, Provider(2).id);
  EXPECT_EQ(book.contents(), 0u);
  EXPECT_EQ(book.providers(), 0u);
}

TEST(ProviderBookTest, Add_InfiniteLifetime_NeverExpires) {
  ProviderBook book({.lifetime = absl::InfiniteDuration()});
  ASSERT_OK(book.Add(kModel, Provider(1), kStart));
  EXPECT_EQ(book.Sweep(absl::FromUnixSeconds(int64_t{1} << 60)), 0u);
}

TEST(ProviderBookTest, RandomUse_AgainstAPlainModel_Agrees) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Random random(seed);
    ProviderBook book({.max_contents = 6,
                       .max_providers = 20,
                       .max_per_content = 5,
                       .max_contents_per_provider = 4});
    // When each expires; what has is not in it.
    std::map<std::pair<Key, Key>, absl::Time> model;
    absl::Time now = kStart;
    for (int step = 0; step < 500; ++step) {
      now += absl::Seconds(random.NextBelow(60));
      std::erase_if(model, [&](const auto& e) { return e.second <= now; });
      const Key content = Sha256Of(absl::StrCat(random.NextBelow(8)));
      const Contact provider = Provider(random.NextBelow(8));
      if (random.NextBelow(5) == 0) {
        book.Remove(content, provider.id);
        model.erase({content, provider.id});
        continue;
      }
      std::map<Key, int> contents;
      int of_content = 0;
      int of_provider = 0;
      for (const auto& [key, expires] : model) {
        ++contents[key.first];
        of_content += key.first == content;
        of_provider += key.second == provider.id;
      }
      const bool fits =
          model.contains({content, provider.id}) ||
          (model.size() < 20 && of_content < 5 && of_provider < 4 &&
           (contents.contains(content) || contents.size() < 6));
      ASSERT_EQ(book.Add(content, provider, now).ok(), fits);
      if (fits) model[{content, provider.id}] = now + absl::Minutes(10);
      ASSERT_EQ(book.providers(), model.size());
      for (const auto& [key, expires] : model) {
        const auto found = Contacts(book.Find(key.first, 100, now));
        ASSERT_TRUE(
            std::any_of(found.begin(), found.end(),
                        [&](const Contact& c) { return c.id == key.second; }));
      }
    }
  }
}

}  // namespace
}  // namespace koinon::dht
