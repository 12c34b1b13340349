#include "dht/routing/known_nodes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/digest.h"

namespace koinon::dht {
namespace {

Key KeyOf(size_t i) { return Sha256Of(absl::StrCat("node ", i)); }

// Shares all but the last bits with others: prefixes of 64 do not part them.
Key NearlySame(uint8_t last) {
  std::string id = KeyOf(0).ToBytes();
  id.back() = static_cast<char>(last);
  return *Key::FromBytes(id);
}

void Insert(const Key& id, KnownNodes* nodes) {
  auto node = std::make_unique<KnownNode>();
  node->contact = {id, "n:1", ""};
  nodes->Insert(std::move(node), absl::UnixEpoch());
}

TEST(KnownNodesTest, Nearest_OfMany_AreThoseOfASort) {
  KnownNodes nodes;
  std::vector<Key> ids;
  for (size_t i = 1; i <= 200; ++i) ids.push_back(KeyOf(i));
  for (const int last : {1, 2, 3, 77, 255}) ids.push_back(NearlySame(last));
  for (const Key& id : ids) Insert(id, &nodes);
  ASSERT_EQ(nodes.size(), ids.size());
  for (size_t t = 0; t < 50; ++t) {
    const Key target = t == 0 ? NearlySame(9) : Sha256Of(absl::StrCat(t));
    std::sort(ids.begin(), ids.end(),
              [&](const Key& a, const Key& b) { return Closer(target, a, b); });
    for (const size_t count : {0, 1, 20, 300}) {
      const std::vector<KnownNode*> nearest = nodes.Nearest(target, count);
      ASSERT_EQ(nearest.size(), std::min(count, ids.size()));
      for (size_t i = 0; i < nearest.size(); ++i) {
        EXPECT_EQ(nearest[i]->contact.id, ids[i]) << t << ", place " << i;
      }
    }
  }
}

TEST(KnownNodesTest, FindAndTake_KnowWhoIsHere) {
  KnownNodes nodes;
  EXPECT_TRUE(nodes.empty());
  EXPECT_EQ(nodes.Find(KeyOf(1)), nullptr);
  for (const size_t i : {3, 1, 2}) Insert(KeyOf(i), &nodes);
  KnownNode* const second = nodes.Find(KeyOf(2));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(nodes.FindSlot(KeyOf(2))->node.get(), second);
  EXPECT_EQ(nodes.Take(KeyOf(1))->contact.id, KeyOf(1));
  EXPECT_EQ(nodes.Find(KeyOf(1)), nullptr);
  EXPECT_EQ(nodes.FindSlot(KeyOf(1)), nullptr);
  EXPECT_EQ(nodes.Find(KeyOf(2)), second) << "a node moved";
  EXPECT_EQ(nodes.size(), 2u);
}

TEST(KnownNodesTest, Iteration_IsInTheOrderOfIds) {
  KnownNodes nodes;
  for (size_t i = 0; i < 50; ++i) Insert(KeyOf(i), &nodes);
  EXPECT_TRUE(
      std::is_sorted(nodes.begin(), nodes.end(),
                     [](const KnownNodes::Slot& a, const KnownNodes::Slot& b) {
                       return a.node->contact.id < b.node->contact.id;
                     }));
}

}  // namespace
}  // namespace koinon::dht
