#include "dht/swarm/content_board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status_matchers.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"

namespace koinon::dht {
namespace {

using ::absl_testing::IsOk;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ContentBoardTest : public testing::Test {
 protected:
  std::shared_ptr<ContentFile> NewContent(uint64_t seed) {
    const TestContent test = RandomContent(seed, 200'000, 65536);
    auto file =
        ContentFile::Resume(&env_, absl::StrCat("/", seed), test.content());
    EXPECT_THAT(file, IsOk());
    return *std::move(file);
  }
  static Digest RootOf(const ContentFile& file) {
    return *Digest::FromBytes(file.content().root());
  }

  MemoryEnv env_;
  ContentBoard board_;
};

TEST_F(ContentBoardTest, Content_ThatIsAdded_IsFoundUntilItIsRemoved) {
  const auto content = NewContent(1);
  const Digest root = RootOf(*content);
  EXPECT_EQ(board_.Find(root), nullptr);
  board_.Add(content, Sha256Of("file"));
  EXPECT_EQ(board_.Find(root), content);
  EXPECT_THAT(board_.roots(), ElementsAre(root));
  board_.Remove(root);
  board_.Remove(root);
  EXPECT_EQ(board_.Find(root), nullptr);
  EXPECT_THAT(board_.roots(), IsEmpty());
}

TEST_F(ContentBoardTest, NewPiece_IsToldToTheContentsListeners) {
  const auto first = NewContent(1);
  const auto second = NewContent(2);
  board_.Add(first, Digest());
  board_.Add(second, Digest());
  std::vector<uint32_t> heard;
  const uint64_t id = board_.Listen(
      RootOf(*first), [&](uint32_t piece) { heard.push_back(piece); });
  board_.OnPiece(RootOf(*first), 3);
  board_.OnPiece(RootOf(*second), 1);
  EXPECT_THAT(heard, ElementsAre(3));
  board_.Unlisten(id);
  board_.OnPiece(RootOf(*first), 2);
  EXPECT_THAT(heard, ElementsAre(3));
}

TEST_F(ContentBoardTest, Listener_OfContentThatIsRemoved_HearsNoMore) {
  const auto content = NewContent(1);
  board_.Add(content, Digest());
  int heard = 0;
  const uint64_t id =
      board_.Listen(RootOf(*content), [&](uint32_t) { ++heard; });
  board_.Remove(RootOf(*content));
  board_.OnPiece(RootOf(*content), 0);
  board_.Add(content, Digest());
  board_.OnPiece(RootOf(*content), 0);
  EXPECT_EQ(heard, 0);
  board_.Unlisten(id);
  // Of content that is not here: nothing comes, and nothing breaks.
  board_.Unlisten(board_.Listen(Sha256Of("none"), [&](uint32_t) { ++heard; }));
}

TEST_F(ContentBoardTest, Listener_MayTakeItselfOff) {
  const auto content = NewContent(1);
  board_.Add(content, Digest());
  int heard = 0;
  uint64_t id = 0;
  id = board_.Listen(RootOf(*content), [&](uint32_t) {
    ++heard;
    board_.Unlisten(id);
  });
  board_.OnPiece(RootOf(*content), 0);
  board_.OnPiece(RootOf(*content), 1);
  EXPECT_EQ(heard, 1);
}

TEST_F(ContentBoardTest, Others_AreThoseThatTheHostNames) {
  EXPECT_THAT(board_.OthersOf(Sha256Of("root")), IsEmpty());
  board_.SetOthers([](const Digest& root) {
    return std::vector<Contact>{{.id = root, .address = "a:1", .site = ""}};
  });
  const auto others = board_.OthersOf(Sha256Of("root"));
  ASSERT_EQ(others.size(), 1);
  EXPECT_EQ(others[0].id, Sha256Of("root"));
}

TEST_F(ContentBoardTest, NodeThatHasGone_IsToldToWhoeverListens) {
  board_.OnGone(Sha256Of("nobody listens"));
  std::vector<Key> gone;
  board_.ListenToGone([&](const Key& node) { gone.push_back(node); });
  board_.OnGone(Sha256Of("node"));
  EXPECT_THAT(gone, ElementsAre(Sha256Of("node")));
}

TEST_F(ContentBoardTest, Traffic_AddsUp) {
  v1::SwarmTraffic traffic;
  traffic.set_from_peers(1);
  traffic.set_from_origin(20);
  traffic.set_wasted(300);
  board_.CountFetched(traffic);
  board_.CountFetched(traffic);
  board_.CountServed(5);
  EXPECT_EQ(board_.traffic().from_peers(), 2);
  EXPECT_EQ(board_.traffic().from_origin(), 40);
  EXPECT_EQ(board_.traffic().wasted(), 600);
  EXPECT_EQ(board_.traffic().to_peers(), 5);
}

TEST_F(ContentBoardTest, LostPieces_AreCounted) {
  EXPECT_EQ(board_.lost(), 0);
  board_.CountLost();
  EXPECT_EQ(board_.lost(), 1);
}

}  // namespace
}  // namespace koinon::dht
