#include "dht/swarm/send_slots.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <vector>

#include "base/random.h"

namespace koinon::dht {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(2);

SendSlots::Options Slots(size_t slots) {
  return {.slots = slots, .patience = kPatience};
}

TEST(SendSlotsTest, Next_FreeSlots_AreGivenAndNoMore) {
  SendSlots slots(Slots(2));
  EXPECT_EQ(slots.Next(), std::nullopt);
  for (uint64_t stream = 1; stream <= 3; ++stream) slots.Ask(stream, 0);
  EXPECT_EQ(slots.Next(), 1u);
  EXPECT_EQ(slots.Next(), 2u);
  EXPECT_EQ(slots.Next(), std::nullopt);
  EXPECT_EQ(slots.taken(), 2u);
  slots.Release(1);
  EXPECT_EQ(slots.Next(), 3u);
  EXPECT_EQ(slots.Next(), std::nullopt);
}

TEST(SendSlotsTest, Next_WhoHasLeast_IsFirst) {
  SendSlots slots(Slots(3));
  slots.Ask(1, 0.5);
  slots.Ask(2, 0.1);
  slots.Ask(3, 0.1);
  EXPECT_EQ(slots.Next(), 2u);  // asked before 3
  EXPECT_EQ(slots.Next(), 3u);
  EXPECT_EQ(slots.Next(), 1u);
}

TEST(SendSlotsTest, Ask_Again_SaysWhatItHasByNow) {
  SendSlots slots(Slots(1));
  slots.Ask(1, 0.1);
  slots.Ask(2, 0.2);
  slots.Ask(1, 0.3);
  EXPECT_EQ(slots.waiting(), 2u);
  EXPECT_EQ(slots.Next(), 2u);
  slots.Ask(2, 0);  // it has a slot
  slots.Release(2);
  EXPECT_EQ(slots.Next(), 1u);
  EXPECT_EQ(slots.waiting(), 0u);
}

TEST(SendSlotsTest, Next_WhoHasWaitedLong_GoesBeforeThePoor) {
  SendSlots slots(Slots(1));
  slots.Ask(1, 0.8);
  slots.Ask(2, 0.9);
  slots.Pass(kPatience);
  slots.Ask(3, 0);
  EXPECT_EQ(slots.Next(), 1u);
  slots.Release(1);
  EXPECT_EQ(slots.Next(), 2u);
  slots.Release(2);
  EXPECT_EQ(slots.Next(), 3u);
}

TEST(SendSlotsTest, Pass_ReceiverThatTakesNothing_LosesItsSlot) {
  SendSlots slots(Slots(2));
  slots.Ask(1, 0);
  slots.Ask(2, 0);
  slots.Ask(3, 0);
  ASSERT_EQ(slots.Next(), 1u);
  ASSERT_EQ(slots.Next(), 2u);
  slots.Pass(kPatience);  // it has begun meanwhile
  slots.OnMoved(2);
  slots.Pass(kPatience / 2);
  slots.OnMoved(2);
  EXPECT_EQ(slots.Next(), std::nullopt);
  slots.Pass(kPatience / 2);
  EXPECT_EQ(slots.Next(), 3u);
  EXPECT_EQ(slots.taken(), 2u);
  slots.Release(1);  // it had none any more
  EXPECT_EQ(slots.taken(), 2u);
  slots.OnMoved(1);
  slots.Ask(1, 0.5);  // but may have one again
  slots.Release(2);
  EXPECT_EQ(slots.Next(), 1u);
}

TEST(SendSlotsTest, Release_OfOneThatWaits_ItIsForgotten) {
  SendSlots slots(Slots(1));
  slots.Ask(1, 0);
  slots.Ask(2, 0);
  slots.Release(1);
  EXPECT_EQ(slots.Next(), 2u);
  EXPECT_EQ(slots.waiting(), 0u);
}

// Streams that ask, send, stall and go at random: never more slots than there
// are, and nobody waits for ever.
TEST(SendSlotsPropertyTest, EverybodyThatWaits_IsServed) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    SendSlots slots(Slots(1 + seed % 4));
    const uint64_t streams = 12;
    std::vector<int> served(streams);
    std::vector<uint64_t> sending;
    for (int step = 0; step < 3000; ++step) {
      for (uint64_t s = 0; s < streams; ++s) {
        slots.Ask(s, static_cast<double>(s) / 12);
      }
      while (const auto next = slots.Next()) {
        ++served[*next];
        sending.push_back(*next);
      }
      ASSERT_LE(slots.taken(), 1 + seed % 4);
      slots.Pass(absl::Milliseconds(100));
      // Stream 0 never takes anything.
      std::erase_if(sending, [&](uint64_t s) {
        if (s == 0 || random.NextBelow(2) == 0) return false;
        slots.Release(s);
        return true;
      });
      for (const uint64_t s : sending) {
        if (s != 0) slots.OnMoved(s);
      }
    }
    for (uint64_t s = 0; s < streams; ++s) EXPECT_GT(served[s], 20) << s;
  }
}

}  // namespace
}  // namespace koinon::dht
